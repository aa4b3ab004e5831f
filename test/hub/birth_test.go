package hub_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/birth"
	"holdfast/birth/birthtest"
	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/internal/swtpm/swtpmtest"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// nursery is a world where devices are born: "pumps" is a simulation, "mills"
// demands hardware, "valves" demands it too, and both have no file keys.
type nursery struct {
	*world
	maker *birthtest.Maker
}

func newNursery(t *testing.T) *nursery {
	t.Helper()
	n := &nursery{newWorld(t), birthtest.NewMaker(t, time.Now())}
	n.endorse("maker", n.maker, birth.Software)
	n.group("pumps", operator.SetGroup{PolicyName: "standard", Simulation: true})
	n.group("mills", operator.SetGroup{PolicyName: "standard"})
	n.group("valves", operator.SetGroup{PolicyName: "standard"})
	return n
}

func (w *world) endorse(name string, m *birthtest.Maker, class birth.Class) {
	w.t.Helper()
	must(w.api.AddCA(w.t.Context(), operator.CA{Name: name, Kind: "endorsement", Class: string(class), PEM: string(pki.EncodeCerts(m.Root))}))(w.t)
}

// ek registers a device by its TPM.
func (n *nursery) ek(id identity.Device, group identity.Group, p *birthtest.TPM) {
	n.t.Helper()
	must(n.api.AddDevice(n.t.Context(), operator.AddDevice{ID: id, Group: group, EK: p.Show().TPM.EKPublic}))(n.t)
}

// birth has a forged TPM born.
func (n *nursery) birth(p *birthtest.TPM, token string) (evidence.Issued, error) {
	req := p.Show()
	req.Token = token
	begun, err := n.begin(req)
	if err != nil {
		return evidence.Issued{}, err
	}
	return n.finish(begun.Session, p.Activate(begun.Credential, begun.Secret))
}

// file has a key in a file born.
func (n *nursery) file(token string) (evidence.Issued, error) {
	begun, err := n.begin(evidence.BeginRequest{Token: token, CSR: csr(n.t, must(pki.NewKey())(n.t), "")})
	if err == nil && begun.Issued == nil {
		err = fmt.Errorf("a key in a file is challenged: %+v", begun)
	}
	if err != nil {
		return evidence.Issued{}, err
	}
	return *begun.Issued, nil
}

func ekText(p *birthtest.TPM) string { return identity.Sum(p.Show().TPM.EKPublic).String() }

// refusedWith checks that err is the hub's answer of that status, with that text.
func refusedWith(t *testing.T, err error, status int, text string) {
	t.Helper()
	a, ok := errors.AsType[*answerError](err)
	if !ok || a.status != status || !strings.Contains(a.text, text) {
		t.Errorf("answer %v, want %d with %q", err, status, text)
	}
}

func TestBirthRefuses(t *testing.T) {
	n := newNursery(t)
	stranger := birthtest.NewMaker(t, time.Now())
	for _, tc := range []struct {
		name   string
		do     func() (identity.Device, error) // who is refused, if known
		status int
		says   string
		log    string
		kind   string // of the ledger's record; none if empty
		ledger string
	}{
		{"an EK of an unknown maker", func() (identity.Device, error) {
			p := stranger.New()
			n.ek("pump-11", "pumps", p)
			_, err := n.birth(p, "")
			return "pump-11", err
		}, http.StatusForbidden, "no registered endorsement root", "unknown authority", "device.refused", "no registered endorsement root"},
		{"no EK certificate", func() (identity.Device, error) {
			p := n.maker.New()
			p.EKChain = nil
			n.ek("pump-12", "pumps", p)
			_, err := n.birth(p, "")
			return "pump-12", err
		}, http.StatusForbidden, "no EK certificate", "no EK certificate", "device.refused", "no EK certificate"},
		{"another TPM's EK certificate", func() (identity.Device, error) {
			p := n.maker.New()
			p.EKChain = n.maker.New().EKChain
			n.ek("pump-13", "pumps", p)
			_, err := n.birth(p, "")
			return "pump-13", err
		}, http.StatusUnprocessableEntity, "", "another key", "device.refused", ""},
		{"a software TPM outside of a simulation", func() (identity.Device, error) {
			p := n.maker.New()
			n.ek("mill-01", "mills", p)
			_, err := n.birth(p, "")
			return "mill-01", err
		}, http.StatusForbidden, "software TPM", "software TPM", "device.refused", "identity.hardware-root"},
		{"a token nobody gave", func() (identity.Device, error) {
			_, err := n.file("guess")
			return "", err
		}, http.StatusForbidden, "unknown, spent or expired", "claim token", "device.refused", "claim token"},
		{"a file key without a token", func() (identity.Device, error) {
			_, err := n.file("")
			return "", err
		}, http.StatusForbidden, "needs a claim token", "needs a claim token", "device.refused", "needs a claim token"},
		{"a file key where hardware is demanded", func() (identity.Device, error) {
			_, err := n.file(n.token("valve-01", "valves"))
			return "valve-01", err
		}, http.StatusForbidden, "identity.hardware-root", "does not allow keys in files", "device.refused", "identity.hardware-root"},
		{"a token used twice", func() (identity.Device, error) {
			token := n.token("pump-14", "pumps")
			if _, err := n.birth(n.maker.New(), token); err != nil {
				return "", err
			}
			_, err := n.birth(n.maker.New(), token)
			return "pump-14", err
		}, http.StatusForbidden, "unknown, spent or expired", "claim token", "device.refused", "claim token"},
		{"an EK under a second id", func() (identity.Device, error) {
			p := n.maker.New()
			n.ek("pump-15", "pumps", p)
			if _, err := n.birth(p, ""); err != nil {
				return "", err
			}
			_, err := n.birth(p, n.token("pump-16", "pumps"))
			return "pump-16", err
		}, http.StatusForbidden, "enrolled as another device", "enrolled as another device", "device.refused", "enrolled as another device"},
		{"a challenge for another attestation key", func() (identity.Device, error) {
			p := n.maker.New()
			n.ek("pump-17", "pumps", p)
			begun, err := n.begin(p.Show())
			if err != nil {
				return "", err
			}
			_, err = n.finish(begun.Session, []byte("a guess of thirty-two bytes long"))
			return "pump-17", err
		}, http.StatusUnprocessableEntity, "not answered", "not answered", "device.refused", "not answered"},
		{"a challenge answered twice", func() (identity.Device, error) {
			p := n.maker.New()
			n.ek("pump-18", "pumps", p)
			begun, err := n.begin(p.Show())
			if err != nil {
				return "", err
			}
			secret := p.Activate(begun.Credential, begun.Secret)
			if _, err := n.finish(begun.Session, secret); err != nil {
				return "", err
			}
			_, err = n.finish(begun.Session, secret)
			return "pump-18", err
		}, http.StatusConflict, "spent", "spent", "", ""},
		{"a request signed by another key than the TPM's", func() (identity.Device, error) {
			p := n.maker.New()
			n.ek("pump-19", "pumps", p)
			p.CSRKey = must(pki.NewKey())(t)
			_, err := n.birth(p, "")
			return "pump-19", err
		}, http.StatusUnprocessableEntity, "", "birth key", "device.refused", ""},
		{"another device's birth key", func() (identity.Device, error) {
			p, q := n.maker.New(), n.maker.New()
			n.ek("pump-20", "pumps", p)
			n.ek("pump-21", "pumps", q)
			if _, err := n.birth(p, ""); err != nil {
				return "", err
			}
			q.Birth, q.BirthKey, q.CSRKey = p.Birth, p.BirthKey, p.CSRKey
			_, err := n.birth(q, "")
			return "pump-21", err
		}, http.StatusForbidden, "key-reuse", "key-reuse", "device.refused", "key-reuse"},
		{"another device's attestation key", func() (identity.Device, error) {
			p, q := n.maker.New(), n.maker.New()
			n.ek("pump-22", "pumps", p)
			n.ek("pump-23", "pumps", q)
			if _, err := n.birth(p, ""); err != nil {
				return "", err
			}
			q.AK, q.AKKey = p.AK, p.AKKey
			_, err := n.birth(q, "")
			return "pump-23", err
		}, http.StatusForbidden, "key-reuse", "key-reuse", "device.refused", "key-reuse"},
		{"a request in the name of another device", func() (identity.Device, error) {
			p := n.maker.New()
			n.ek("pump-24", "pumps", p)
			p.CSR.Subject.CommonName = "healthy-01"
			_, err := n.birth(p, "")
			return "pump-24", err
		}, http.StatusBadRequest, "subject", "healthy-01", "device.refused", "subject"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, err := tc.do()
			refusedWith(t, err, tc.status, tc.says)
			n.logged(t, "request refused", tc.log)
			if tc.kind != "" {
				n.recorded(t, tc.kind, id, tc.ledger)
			}
			n.goesOn(t)
		})
	}
	if d := n.device("valve-01"); d.Status != posture.Refused || !strings.Contains(d.Reason, "identity.hardware-root") {
		t.Errorf("valve-01 is %s: %s", d.Status, d.Reason)
	}
}

func TestExpiredTokenIsRefused(t *testing.T) {
	n := newNursery(t)
	added := must(n.api.AddDevice(t.Context(), operator.AddDevice{ID: "lamp-01", Group: "lab", Token: true, TTL: 1}))(t)
	n.until(func() bool { return time.Now().After(added.Expires) })
	_, err := n.file(added.Token)
	refusedWith(t, err, http.StatusForbidden, "unknown, spent or expired")
	n.logged(t, "request refused", "claim token")
	n.recorded(t, "device.refused", "lamp-01", "claim token")
	n.goesOn(t)
}

func TestMalformedBirthsAreRefused(t *testing.T) {
	n := newNursery(t)
	for name, tc := range map[string]struct {
		method, path, body string
		status             int
		log                string
	}{
		"not JSON":               {"POST", "/enroll/begin", "{", 400, "not the JSON"},
		"an unknown member":      {"POST", "/enroll/begin", `{"csr":"","root":true}`, 400, "not the JSON"},
		"a member twice":         {"POST", "/enroll/begin", `{"csr":"","csr":""}`, 400, "not the JSON"},
		"a wrong type":           {"POST", "/enroll/begin", `{"csr":7}`, 400, "not the JSON"},
		"no request":             {"POST", "/enroll/begin", `{}`, 400, "request refused"},
		"too long":               {"POST", "/enroll/begin", `{"token":"` + strings.Repeat("x", 100<<10) + `"}`, 400, "longer than"},
		"a session nobody has":   {"POST", "/enroll/finish", `{"session":"x","secret":"AA=="}`, 409, "unknown, spent or expired"},
		"another method":         {"GET", "/enroll/begin", "", 405, ""},
		"a path that is not":     {"POST", "/enroll/other", "{}", 404, ""},
		"a path that climbs":     {"POST", "/enroll/../attest/nonce", "{}", 0, ""},
		"operators' API on it":   {"GET", "/v1/devices", "", 404, ""},
		"a list that nobody has": {"GET", "/crl/operator.pem", "", 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			x := must(n.https(nil))(t)
			defer x.close()
			status, body, err := x.do(tc.method, tc.path, "application/json", []byte(tc.body))
			if err != nil || status == 200 || tc.status != 0 && status != tc.status {
				t.Errorf("answer %d %s, %v; want %d", status, body, err, tc.status)
			}
			if tc.log != "" {
				n.logged(t, tc.log)
			}
			n.goesOn(t)
		})
	}
}

// TestOperatorDecidesOnAnEKOnNoList: it waits, is accepted, and is born; or is
// turned away.
func TestOperatorDecidesOnAnEKOnNoList(t *testing.T) {
	n := newNursery(t)
	p, q := n.maker.New(), n.maker.New()
	for _, x := range []*birthtest.TPM{p, q} {
		_, err := n.birth(x, "")
		refusedWith(t, err, http.StatusAccepted, "operator")
		n.recorded(t, "device.pending", "", ekText(x))
	}
	waiting := must(n.api.Pending(t.Context()))(t)
	if len(waiting) != 2 {
		t.Fatalf("%d devices wait, want 2", len(waiting))
	}
	if err := n.api.Accept(t.Context(), ekText(p), operator.Accept{Device: "pump-09", Group: "pumps"}); err != nil {
		t.Fatal(err)
	}
	if err := n.api.Refuse(t.Context(), ekText(q), "not ours"); err != nil {
		t.Fatal(err)
	}
	if i, err := n.birth(p, ""); err != nil || i.Device != "pump-09" || i.Group != "pumps" {
		t.Errorf("accepted, yet %+v, %v", i, err)
	}
	_, err := n.birth(q, "")
	refusedWith(t, err, http.StatusForbidden, "not ours")
	n.recorded(t, "device.accept", "pump-09", "admin")
	n.recorded(t, "device.turn-away", "", "not ours")
}

// TestRevokedEKStaysOut until an operator restores it; what it had stays
// worthless.
func TestRevokedEKStaysOut(t *testing.T) {
	n := newNursery(t)
	p := n.maker.New()
	n.ek("pump-01", "pumps", p)
	issued := must(n.birth(p, ""))(t)
	old := shown(t, issued.Chain, p.BirthKey)
	must(n.api.Act(t.Context(), "pump-01", "revoke", "stolen"))(t)
	_, err := n.birth(p, "")
	refusedWith(t, err, http.StatusForbidden, "revoked")
	n.logged(t, "request refused", "revoked")
	n.recorded(t, "device.revoke", "pump-01", "stolen", "admin")
	n.recorded(t, "device.refused", "pump-01", "revoked")
	_, err = n.birth(p, n.token("pump-02", "pumps")) // a token does not help
	refusedWith(t, err, http.StatusForbidden, "")
	n.goesOn(t)

	must(n.api.Act(t.Context(), "pump-01", "restore", "found"))(t)
	n.recorded(t, "device.restore", "pump-01", "found")
	_, err = n.birth(p, "") // a key is certified once, a revoked one too
	refusedWith(t, err, http.StatusConflict, "make a new key")
	p.NewKeys()
	if i, err := n.birth(p, ""); err != nil || i.Device != "pump-01" {
		t.Errorf("restored, yet %+v, %v", i, err)
	}
	_, err = on(n.world, old, func(x *wire) ([]byte, error) { return x.nonce() })
	refusedWith(t, err, http.StatusForbidden, "superseded")
}

// TestFileKeyIsAcceptedInTheLab: the board that "valves" refuses, in a group
// whose policy does not demand hardware; the row still says so.
func TestFileKeyIsAcceptedInTheLab(t *testing.T) {
	n := newNursery(t)
	for group, policy := range map[identity.Group]string{
		"lab":   "",
		"bench": `{"name":"own","version":1,"require":[{"measure":"protocol.mqtt-tls","grade":"observed"}]}`,
	} {
		if policy != "" {
			n.group(group, operator.SetGroup{Policy: []byte(policy), FileKeys: true})
		}
		id := identity.Device("valve-" + string(group))
		d := n.fileDevice(id, group)
		m := must(n.mqtt(d.ldevid))(t)
		defer m.close()
		if err := errors.Join(m.open(string(id)), m.publish("devices/"+string(id)+"/messages/events/", "{}")); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		shows := n.device(id)
		if r := row(shows, measure.IdentityHardwareRoot); r.Verdict != measure.Fail || !strings.Contains(r.Reason, "file") {
			t.Errorf("%s: identity.hardware-root is %+v", id, r)
		}
		if want := posture.Connected; group == "lab" && shows.Status != want {
			t.Errorf("%s is %s (%s), want %s", id, shows.Status, shows.Reason, want)
		}
		if want := posture.Trusted; group == "bench" && shows.Status != want {
			t.Errorf("%s is %s (%s), want %s", id, shows.Status, shows.Reason, want)
		}
	}
	d := n.healthy
	_, err := on(n.world, d.ldevid, func(x *wire) ([]byte, error) { return x.nonce() })
	refusedWith(t, err, http.StatusForbidden, "no attestation key")
}

func row(d operator.Device, id measure.ID) measure.Row {
	for _, r := range d.Posture {
		if r.Measure == id {
			return r
		}
	}
	return measure.Row{}
}

// TestRealTPMIsBornOnce: a TPM that we did not forge, under a maker that the
// hub does not know, then does.
func TestRealTPMIsBornOnce(t *testing.T) {
	m := swtpmtest.New(t)
	n := newNursery(t)
	d := n.boot(m, firmware)
	must(n.api.AddDevice(t.Context(), operator.AddDevice{ID: "pump-01", Group: "pumps", EK: d.keys.EKPublic()}))(t)
	refusedWith(t, d.makeBirth(""), http.StatusForbidden, "no registered endorsement root")
	n.simulated(m)
	if err := d.makeBirth(""); err != nil || d.id != "pump-01" {
		t.Fatalf("%s, %v", d.id, err)
	}
	if err := d.makeBirth(""); err != nil || d.id != "pump-01" { // an answer that was lost
		t.Fatalf("once more: %s, %v", d.id, err)
	}
	n.recorded(t, "device.born", "pump-01", "software")
	n.goesOn(t)
}
