package enroll_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/birth"
	"holdfast/birth/birthtest"
	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/hub/enroll"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

func TestBirthByEK(t *testing.T) {
	w := newWorld(t)
	p := w.maker.New()
	w.addEK("pump-01", "pumps", p)
	i, err := w.birth(p, "")
	w.is(i, err, "pump-01", "pumps")
	d := must(w.fleet.Device(t.Context(), "pump-01"))(t)
	for _, r := range d.Posture {
		switch r.Measure {
		case measure.IdentityHardwareRoot:
			if r.Verdict != measure.Pass || r.Grade != measure.Attested || !strings.Contains(r.Reason, "software TPM") {
				t.Errorf("%+v", r)
			}
		case measure.IdentityDeviceID:
			if r.Verdict != measure.Pass || r.Grade != measure.Attested {
				t.Errorf("%+v", r)
			}
		}
	}
	if !w.recorded("device.born", "pump-01", "software") {
		t.Error("not in the ledger")
	}
}

func TestBirthByToken(t *testing.T) {
	w := newWorld(t)
	p := w.maker.New()
	token := w.addToken("pump-01", "pumps")
	i, err := w.birth(p, token)
	w.is(i, err, "pump-01", "pumps")
	_, err = w.birth(w.maker.New(), token)
	w.refused(err, fault.Denied, "claim token")
	i, err = w.birth(p, "") // its EK is known now
	w.is(i, err, "pump-01", "pumps")
	if strings.Contains(w.log.String(), token) {
		t.Error("the token is in the log")
	}
}

func TestBirthAfterAnOperatorAccepts(t *testing.T) {
	w := newWorld(t)
	p := w.maker.New()
	_, err := w.birth(p, "")
	w.refused(err, fault.Pending, "operator")
	as := must(w.fleet.Pending(t.Context()))(t)
	if len(as) != 1 || !strings.Contains(as[0].Shown, "TPM issuer") || as[0].Remote == "" {
		t.Fatalf("pending %+v", as)
	}
	if err := w.fleet.Accept(t.Context(), "admin", as[0].ID, operator.Accept{Device: "pump-09", Group: "pumps"}); err != nil {
		t.Fatal(err)
	}
	i, err := w.birth(p, "")
	w.is(i, err, "pump-09", "pumps")
	w.pass(time.Second)
	q := w.maker.New()
	_, err = w.birth(q, "")
	w.refused(err, fault.Pending, "operator")
	as = must(w.fleet.Pending(t.Context()))(t)
	if err := w.fleet.Refuse(t.Context(), "admin", as[0].ID, "not ours"); err != nil {
		t.Fatal(err)
	}
	_, err = w.birth(q, "")
	w.refused(err, fault.Denied, "not ours")
}

func TestHardwareTPM(t *testing.T) {
	w := newWorld(t)
	maker := birthtest.NewMaker(t, w.now)
	w.register("chips", maker.Root, birth.Hardware)
	p := maker.New()
	w.addEK("mill-01", "mills", p)
	i, err := w.birth(p, "")
	w.is(i, err, "mill-01", "mills")
}

func TestSoftwareTPMOutsideASimulation(t *testing.T) {
	w := newWorld(t)
	p, q := w.maker.New(), w.maker.New()
	w.addEK("mill-01", "mills", p)
	_, err := w.birth(p, "")
	w.refused(err, fault.Denied, "software TPM")
	if d := must(w.fleet.Device(t.Context(), "mill-01"))(t); d.Status != posture.Refused || !strings.Contains(d.Reason, "identity.hardware-root") {
		t.Errorf("%s: %s", d.Status, d.Reason)
	}
	w.addEK("bare-01", "bare", q) // nothing there demands a hardware root
	i, err := w.birth(q, "")
	w.is(i, err, "bare-01", "bare")
}

// TestFileKey: refused where hardware is demanded, with the reason; accepted
// in the lab, with the row failed.
func TestFileKey(t *testing.T) {
	w := newWorld(t)
	p := w.maker.New()
	file := func(token string) (evidence.Issued, error) {
		req := p.Show()
		req.TPM, req.Token = nil, token
		out, err := w.begin(req)
		if err != nil {
			return evidence.Issued{}, err
		}
		if out.Issued == nil || out.Session != "" || out.Credential != nil {
			t.Fatalf("answer %+v", out)
		}
		return *out.Issued, nil
	}
	_, err := file("")
	w.refused(err, fault.Denied, "needs a claim token")
	_, err = file("guess")
	w.refused(err, fault.Denied, "claim token")
	_, err = file(w.addToken("valve-01", "valves"))
	w.refused(err, fault.Denied, "identity.hardware-root")
	_, err = file(w.addToken("pump-01", "pumps"))
	w.refused(err, fault.Denied, "does not allow keys in files")
	_, err = file(w.addToken("bare-01", "bare"))
	w.refused(err, fault.Denied, "does not allow keys in files")
	d := must(w.fleet.Device(t.Context(), "valve-01"))(t)
	if d.Status != posture.Refused || !strings.Contains(d.Reason, "identity.hardware-root") || !w.recorded("device.refused", "valve-01", "identity.hardware-root") {
		t.Errorf("%s: %s", d.Status, d.Reason)
	}
	token := w.addToken("valve-02", "lab")
	i, err := file(token)
	w.is(i, err, "valve-02", "lab")
	for _, r := range must(w.fleet.Device(t.Context(), "valve-02"))(t).Posture {
		if r.Measure == measure.IdentityHardwareRoot && (r.Verdict != measure.Fail || !strings.Contains(r.Reason, "in a file")) {
			t.Errorf("%+v", r)
		}
	}
	again, err := file(token) // the answer was lost
	w.is(again, err, "valve-02", "lab")
	if !bytes.Equal(again.Chain[0], i.Chain[0]) {
		t.Error("the same key has two certificates")
	}
	p.NewKeys()
	_, err = file(token)
	w.refused(err, fault.Denied, "claim token")
}

func TestBirthRefuses(t *testing.T) {
	w := newWorld(t)
	p := w.maker.New()
	w.addEK("pump-01", "pumps", p)
	stranger := birthtest.NewMaker(t, w.now).New()
	w.addEK("pump-02", "pumps", stranger)

	t.Run("EK of an unknown maker", func(t *testing.T) {
		_, err := w.birth(stranger, "")
		w.refused(err, fault.Denied, "no registered endorsement root")
		if !w.recorded("device.refused", "pump-02", "endorsement root") {
			t.Error("not in the ledger")
		}
		if d := must(w.fleet.Device(t.Context(), "pump-02"))(t); d.Status != posture.Refused {
			t.Errorf("status %s", d.Status)
		}
	})
	t.Run("EK of an unknown maker, on no list", func(t *testing.T) {
		_, err := w.birth(birthtest.NewMaker(t, w.now).New(), "")
		w.refused(err, fault.Denied, "no registered endorsement root")
		if as := must(w.fleet.Pending(t.Context()))(t); len(as) != 0 {
			t.Errorf("pending %+v", as)
		}
	})
	t.Run("AK that signs anything", func(t *testing.T) {
		q := *p
		q.AK.ObjectAttributes.Restricted = false
		_, err := w.birth(&q, "")
		w.refused(err, fault.Integrity, "does not verify")
	})
	t.Run("request for another device", func(t *testing.T) {
		q := *p
		q.CSR = x509.CertificateRequest{Subject: pkix.Name{CommonName: "pump-02"}}
		_, err := w.birth(&q, "")
		w.refused(err, fault.Invalid, "subject")
	})
	t.Run("request with another's URN", func(t *testing.T) {
		q := *p
		u, _ := url.Parse("urn:holdfast:device:pump-02")
		q.CSR = x509.CertificateRequest{URIs: []*url.URL{u}}
		_, err := w.birth(&q, "")
		w.refused(err, fault.Invalid, "name")
	})
	t.Run("wrong answer", func(t *testing.T) {
		c := must(w.begin(p.Show()))(t)
		secret := p.Activate(c.Credential, c.Secret)
		secret[0] ^= 1
		_, err := w.finish(c.Session, secret)
		w.refused(err, fault.Integrity, "challenge")
		secret[0] ^= 1
		_, err = w.finish(c.Session, secret) // spent by the wrong one
		w.refused(err, fault.Conflict, "challenge")
	})
	t.Run("answer of another AK", func(t *testing.T) {
		q := *p
		c := must(w.begin(q.Show()))(t)
		q.NewKeys()
		_, err := w.finish(c.Session, q.Activate(c.Credential, c.Secret))
		w.refused(err, fault.Integrity, "challenge")
	})
	t.Run("no answer", func(t *testing.T) {
		c := must(w.begin(p.Show()))(t)
		_, err := w.finish(c.Session, nil)
		w.refused(err, fault.Integrity, "challenge")
	})
	t.Run("late answer", func(t *testing.T) {
		c := must(w.begin(p.Show()))(t)
		w.pass(enroll.ChallengeTTL)
		_, err := w.finish(c.Session, p.Activate(c.Credential, c.Secret))
		w.refused(err, fault.Conflict, "expired")
	})
	t.Run("unknown session", func(t *testing.T) {
		_, err := w.finish("nonsense", make([]byte, 32))
		w.refused(err, fault.Conflict, "unknown")
	})
	t.Run("after a restart of the hub", func(t *testing.T) {
		c := must(w.begin(p.Show()))(t)
		other := must(enroll.New(enroll.Config{Registry: w.fleet, Issuer: w.issuer, Log: discard(), Now: w.clock}))(t)
		_, err := other.Finish(t.Context(), evidence.FinishRequest{Session: c.Session, Secret: p.Activate(c.Credential, c.Secret)})
		w.refused(err, fault.Conflict, "unknown")
	})
	if d := must(w.fleet.Device(t.Context(), "pump-01"))(t); !d.Born.IsZero() {
		t.Error("born by one of these")
	}
	i, err := w.birth(p, "")
	w.is(i, err, "pump-01", "pumps")
	t.Run("answer twice", func(t *testing.T) {
		c := must(w.begin(p.Show()))(t)
		secret := p.Activate(c.Credential, c.Secret)
		if _, err := w.finish(c.Session, secret); err != nil {
			t.Fatal(err)
		}
		_, err := w.finish(c.Session, secret)
		w.refused(err, fault.Conflict, "spent")
	})
}

func TestEnrolledTwice(t *testing.T) {
	w := newWorld(t)
	p := w.maker.New()
	w.addEK("pump-01", "pumps", p)
	i, err := w.birth(p, "")
	first := w.is(i, err, "pump-01", "pumps")

	// With the same keys: the same certificate.
	i, err = w.birth(p, "")
	if again := w.is(i, err, "pump-01", "pumps"); again.Serial != first.Serial {
		t.Errorf("certificate %s, then %s", first.Serial, again.Serial)
	}
	// With new keys: the same id, and what was before is worthless.
	p.NewKeys()
	i, err = w.birth(p, "")
	second := w.is(i, err, "pump-01", "pumps")
	if _, err := w.fleet.Admit(t.Context(), first); fault.Of(err) != fault.Denied || first.Serial == second.Serial {
		t.Errorf("the first birth certificate is admitted: %v", err)
	}
	if !w.recorded("device.born", "pump-01", "superseded", first.Serial) {
		t.Error("not in the ledger")
	}
	// Under a second id: refused and recorded.
	_, err = w.birth(p, w.addToken("pump-02", "pumps"))
	w.refused(err, fault.Denied, "already enrolled as another device")
	if !w.recorded("device.refused", "pump-02", "already enrolled") {
		t.Error("not in the ledger")
	}
	if d := must(w.fleet.Device(t.Context(), "pump-02"))(t); d.Status != posture.Refused {
		t.Errorf("status %s", d.Status)
	}
}

// TestKeysOfAnotherDevice: an AK or birth key seen elsewhere in the fleet is
// refused, whatever TPM shows it.
func TestKeysOfAnotherDevice(t *testing.T) {
	w := newWorld(t)
	p, q := w.maker.New(), w.maker.New()
	w.addEK("pump-01", "pumps", p)
	w.addEK("pump-02", "pumps", q)
	i, err := w.birth(p, "")
	w.is(i, err, "pump-01", "pumps")
	own := *q
	q.AKKey, q.AK = p.AKKey, p.AK
	_, err = w.birth(q, "")
	w.refused(err, fault.Denied, "key-reuse")
	*q = own
	q.BirthKey, q.CSRKey, q.Birth = p.BirthKey, p.BirthKey, p.Birth
	_, err = w.birth(q, "")
	w.refused(err, fault.Denied, "key-reuse")
	if !w.recorded("device.refused", "pump-02", "key-reuse") {
		t.Error("not in the ledger")
	}
	*q = own
	i, err = w.birth(q, "")
	w.is(i, err, "pump-02", "pumps")
}

func TestRevokedEKStaysOut(t *testing.T) {
	w := newWorld(t)
	p := w.maker.New()
	w.addEK("pump-01", "pumps", p)
	i, err := w.birth(p, "")
	w.is(i, err, "pump-01", "pumps")
	open := must(w.begin(p.Show()))(t)
	must(w.fleet.Act(t.Context(), "ada", "pump-01", "revoke", "stolen"))(t)
	_, err = w.finish(open.Session, p.Activate(open.Credential, open.Secret)) // begun before
	w.refused(err, fault.Denied, "revoked")
	_, err = w.birth(p, "")
	w.refused(err, fault.Denied, "revoked")
	_, err = w.birth(p, w.addToken("pump-02", "pumps"))
	w.refused(err, fault.Denied, "another device")
	must(w.fleet.Act(t.Context(), "ada", "pump-01", "restore", "found"))(t)
	p.NewKeys()
	i, err = w.birth(p, "")
	w.is(i, err, "pump-01", "pumps")
}

// TestDeathOfTheHub: the hub dies around the issue; the device repeats with
// the same keys and is born, once.
func TestDeathOfTheHub(t *testing.T) {
	for _, name := range []string{"before the issue", "after the issue"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.maker.New()
			token := w.addToken("pump-01", "pumps")
			w.issuer.before, w.issuer.after = name == "before the issue", name != "before the issue"
			_, err := w.birth(p, token)
			w.refused(err, fault.Internal, "internal error")
			if d := must(w.fleet.Device(t.Context(), "pump-01"))(t); d.Status == posture.Refused {
				t.Errorf("our own failure is held against the device: %s", d.Reason)
			}
			_, err = w.birth(w.maker.New(), token) // the token is bound already
			w.refused(err, fault.Denied, "claim token")
			w.issuer.before, w.issuer.after = false, false
			i, err := w.birth(p, token)
			w.is(i, err, "pump-01", "pumps")
			if n := len(must(w.issuer.Certificates(t.Context(), "birth", "pump-01"))(t)); n != 1 {
				t.Errorf("%d birth certificates", n)
			}
		})
	}
}

func TestHTTPRefuses(t *testing.T) {
	w := newWorld(t)
	for name, tt := range map[string]struct {
		path, body string
	}{
		"nothing":            {"/enroll/begin", ``},
		"garbage":            {"/enroll/begin", `CSR`},
		"a list":             {"/enroll/begin", `[]`},
		"two values":         {"/enroll/begin", `{} {}`},
		"unknown member":     {"/enroll/begin", `{"csr":"","device":"pump-01"}`},
		"member twice":       {"/enroll/begin", `{"token":"a","token":"b"}`},
		"not base64":         {"/enroll/begin", `{"csr":"***"}`},
		"no request":         {"/enroll/begin", `{}`},
		"empty TPM":          {"/enroll/begin", `{"csr":"","tpm":{}}`},
		"null":               {"/enroll/begin", `null`},
		"deep":               {"/enroll/begin", strings.Repeat(`{"tpm":`, 5000)},
		"too long":           {"/enroll/begin", `{"token":"` + strings.Repeat("t", enroll.MaxBody) + `"}`},
		"finish of nothing":  {"/enroll/finish", ``},
		"finish of unknown":  {"/enroll/finish", `{"session":"x","secret":"","id":"pump-01"}`},
		"finish with number": {"/enroll/finish", `{"session":7}`},
	} {
		t.Run(name, func(t *testing.T) {
			var out any
			w.refused(w.post(tt.path, []byte(tt.body), &out), fault.Invalid, "")
		})
	}
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodGet, "/enroll/begin", nil),
		httptest.NewRequest(http.MethodPost, "/enroll/other", nil),
	} {
		rec := httptest.NewRecorder()
		w.server.ServeHTTP(rec, r)
		if !slices.Contains([]int{http.StatusNotFound, http.StatusMethodNotAllowed}, rec.Code) {
			t.Errorf("%s %s: %d", r.Method, r.URL, rec.Code)
		}
	}
	if len(w.ledger) > 0 && w.recorded("device.refused") {
		t.Error("malformed requests of strangers are in the ledger")
	}
}
