package hub_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/identity"
	"holdfast/mqtt"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// maker is a device maker's authority, which group "sensors" trusts for
// sensor-*.
type maker struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
}

func sign(t testing.TB, tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	if tmpl.SerialNumber == nil {
		tmpl.SerialNumber = must(rand.Int(rand.Reader, big.NewInt(1<<62)))(t)
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key))(t)))(t)
}

func newMaker(t testing.TB, w *world) *maker {
	t.Helper()
	m := &maker{t: t, key: must(rsa.GenerateKey(rand.Reader, 2048))(t)}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "Sensor maker"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	m.cert = sign(t, ca, ca, m.key.Public(), m.key)
	must(w.api.AddCA(t.Context(), operator.CA{Name: "sensor-maker", Kind: "maker", PEM: string(pki.EncodeCerts(m.cert))}))(t)
	w.group("sensors", operator.SetGroup{PolicyName: "lenient", MakerCAs: []string{"sensor-maker"}, IDs: []string{"sensor-*"}})
	return m
}

// leaf is a certificate of the maker's, good until spoil.
func (m *maker) leaf(cn string, key crypto.Signer, spoil func(*x509.Certificate)) *tls.Certificate {
	m.t.Helper()
	if key == nil {
		key = must(pki.NewKey())(m.t)
	}
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	spoil(tmpl)
	c := sign(m.t, tmpl, m.cert, key.Public(), m.key)
	return &tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
}

func asItShouldBe(*x509.Certificate) {}

// forged is a certificate that one of the hub's own authorities signed.
func forged(t testing.TB, a *pki.Authority, key crypto.Signer, leaf pki.Leaf, now time.Time) *tls.Certificate {
	t.Helper()
	c := must(a.Issue(leaf, now))(t)
	return &tls.Certificate{Certificate: [][]byte{c.Raw, a.Cert.Raw}, PrivateKey: key, Leaf: c}
}

// stranger is a certificate that no listener of a world takes.
type stranger struct {
	name string
	cert *tls.Certificate
	log  string
}

func strangers(t testing.TB, w *world) []stranger {
	t.Helper()
	m, key := newMaker(t, w), must(pki.NewKey())(t)
	elsewhere := newWorld(t)
	operational, server := w.authority(pki.Operational), w.authority(pki.Server)
	device := func(now time.Time, life time.Duration) *tls.Certificate {
		return forged(t, operational, key, pki.OperationalLeaf("healthy-01", key.Public(), life), now)
	}
	urn := must(url.Parse(pki.Operational.URN("healthy-01")))(t)
	policy := must(pki.Operational.Policy())(t)
	profile := func(spoil func(*x509.Certificate)) *tls.Certificate {
		tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: "healthy-01"}, URIs: []*url.URL{urn}, Policies: []x509.OID{policy},
			NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		spoil(tmpl)
		c := sign(t, tmpl, operational.Cert, key.Public(), operational.Key)
		return &tls.Certificate{Certificate: [][]byte{c.Raw, operational.Cert.Raw}, PrivateKey: key, Leaf: c}
	}
	self := &x509.Certificate{Subject: pkix.Name{CommonName: "healthy-01"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	alone := sign(t, self, self, key.Public(), key)
	names := must(pki.ParseNames([]string{"127.0.0.1"}))(t)
	return []stranger{
		{"signed with SHA-1", m.leaf("sensor-01", nil, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }), "weak-signature"},
		{"RSA-1024", m.leaf("sensor-01", must(rsa.GenerateKey(rand.Reader, 1024))(t), asItShouldBe), "weak-key"},
		{"a maker's, expired", m.leaf("sensor-01", nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), "rule expired"},
		{"a maker's, not yet valid", m.leaf("sensor-01", nil, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }), "not-yet-valid"},
		{"a maker's for servers", m.leaf("sensor-01", nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "wrong-eku"},
		{"a maker's CA", m.leaf("sensor-01", nil, func(c *x509.Certificate) { c.IsCA = true }), "rule ca"},
		{"expired", device(time.Now().Add(-72*time.Hour), time.Hour), "rule expired"},
		{"not yet valid", device(time.Now().Add(72*time.Hour), time.Hour), "not-yet-valid"},
		{"for two usages", profile(func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }), "wrong-eku"},
		{"of another policy", profile(func(c *x509.Certificate) { c.Policies = []x509.OID{must(pki.Birth.Policy())(t)} }), "wrong-policy"},
		{"with the URN of another device", profile(func(c *x509.Certificate) { c.URIs = []*url.URL{must(url.Parse(pki.Operational.URN("lamp-01")))(t)} }), "rule name"},
		{"another hub's", elsewhere.healthy.ldevid, "wrong-intermediate"},
		{"self-signed", &tls.Certificate{Certificate: [][]byte{alone.Raw}, PrivateKey: key}, "wrong-intermediate"},
		{"the hub's own", forged(t, server, key, pki.ServerLeaf(names, key.Public(), time.Hour), time.Now()), "wrong-intermediate"},
	}
}

// falseOperators are the strangers as the operators' listener sees them: it
// trusts nobody but the operators' authority, so it looks no further at what
// others signed. Those that this authority signed have to be judged.
func (w *world) falseOperators(devices []stranger) []stranger {
	w.t.Helper()
	a, key := w.authority(pki.Operator), must(pki.NewKey())(w.t)
	operator := func(now time.Time) *tls.Certificate {
		return forged(w.t, a, key, pki.OperatorLeaf("mallory", key.Public(), time.Hour), now)
	}
	all := []stranger{
		{"an operator's, expired", operator(time.Now().Add(-72 * time.Hour)), "rule expired"},
		{"an operator's, not yet valid", operator(time.Now().Add(72 * time.Hour)), "not-yet-valid"},
		{"a device's LDevID", w.healthy.ldevid, "wrong-intermediate"},
		{"a device's IDevID", w.healthy.birth, "wrong-intermediate"},
	}
	for _, s := range devices {
		if !strings.HasPrefix(s.log, "weak") {
			s.log = "wrong-intermediate"
		}
		all = append(all, s)
	}
	return all
}

// TestCertificatesOfStrangers shows each wrong certificate to all three
// listeners, and each listener the certificates of the others' peers.
func TestCertificatesOfStrangers(t *testing.T) {
	w := newWorld(t)
	all := strangers(t, w)
	devices := append(slices.Clone(all), stranger{"an operator's", w.operatorCertificate(), "wrong-intermediate"})
	operators := w.falseOperators(all)
	for _, at := range []struct {
		name   string
		all    []stranger
		ask    func(*tls.Certificate) error
		log    string
		kind   string
		ledger string
	}{
		{"MQTT", devices, func(c *tls.Certificate) error {
			s, err := w.mqtt(c)
			if err != nil {
				return err
			}
			defer s.close()
			return s.open("healthy-01")
		}, "connection refused", "session.refused", "certificate"},
		{"HTTPS", devices, func(c *tls.Certificate) error {
			_, err := on(w, c, func(x *wire) (int, error) {
				status, _, err := x.do("GET", "/healthz", "", nil)
				return status, err
			})
			return err
		}, "TLS handshake error", "connection.refused", "https listener"},
		{"operator", operators, func(c *tls.Certificate) error {
			_, _, err := w.ask(c, "GET", "/v1/hub", "")
			return err
		}, "TLS handshake error", "connection.refused", "operator listener"},
	} {
		for _, s := range at.all {
			t.Run(at.name+"/"+s.name, func(t *testing.T) {
				err := at.ask(s.cert)
				if err == nil {
					t.Error("it is let in")
				}
				if code, ok := errors.AsType[codeError](err); ok {
					t.Errorf("it gets through the handshake, to %v", code)
				}
				w.logged(t, at.log, s.log)
				w.recorded(t, at.kind, "", s.log, at.ledger)
				w.goesOn(t)
			})
		}
	}
}

// TestWhoShowsNoCertificate gets no MQTT session, and nothing of the operators'
// API: to them the listener shows its login page alone.
func TestWhoShowsNoCertificate(t *testing.T) {
	w := newWorld(t)
	s := must(w.mqtt(nil))(t)
	defer s.close()
	if err := s.open("healthy-01"); err == nil {
		t.Error("MQTT lets it in")
	}
	w.logged(t, "connection refused", "certificate")
	for _, path := range []string{"/v1/hub", "/v1/devices/healthy-01", "/v1/events", "/metrics"} {
		if resp, _, err := w.ask(nil, "GET", path, ""); err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("the operators' listener answers GET %s with %v, %v", path, resp, err)
		}
	}
	w.goesOn(t)
}

// TestMakerSpeaksOnlyForItsIDs: not for a device of the hub's own, nor for one
// that is nobody's.
func TestMakerSpeaksOnlyForItsIDs(t *testing.T) {
	w := newWorld(t)
	m := newMaker(t, w)
	for _, id := range []identity.Device{"healthy-01", "lamp-01"} {
		c := m.leaf(string(id), nil, asItShouldBe)
		s := must(w.mqtt(c))(t)
		defer s.close()
		if err := s.open(string(id)); !errors.Is(err, codeError(mqtt.RefusedForbidden)) {
			t.Errorf("%s: %v, want CONNACK 5", id, err)
		}
		w.logged(t, "connection refused", string(id), "does not own")
		w.recorded(t, "session.refused", id, "does not own")
		_, err := on(w, c, func(x *wire) ([]byte, error) { return x.nonce() })
		refusedWith(t, err, 403, "does not own")
		w.recorded(t, "request.refused", id, "does not own")
		_, err = w.healthy.est(c, "simpleenroll", csr(t, must(pki.NewKey())(t), string(id)))
		refusedWith(t, err, 403, "does not own")
	}
	s := must(w.mqtt(m.leaf("sensor-01", nil, asItShouldBe)))(t)
	defer s.close()
	if err := errors.Join(s.open("sensor-01"), s.publish("devices/sensor-01/messages/events/", "21.5")); err != nil {
		t.Errorf("its own sensor: %v", err)
	}
	if d := w.device("sensor-01"); d.Status != posture.Connected {
		t.Errorf("sensor-01 is %s: %s", d.Status, d.Reason)
	}

	// What the group no longer lists, the maker's CA no longer opens.
	w.group("sensors", operator.SetGroup{PolicyName: "lenient"})
	c := m.leaf("sensor-02", nil, asItShouldBe)
	if again, err := w.mqtt(c); err == nil {
		defer again.close()
		if err := again.open("sensor-02"); err == nil {
			t.Error("a maker without a group is still trusted")
		}
	}
	w.goesOn(t)
}

// TestSupersededCertificatesOpenNothing: a certificate that the hub's own
// authority signed, and that the registry does not know.
func TestSupersededCertificatesOpenNothing(t *testing.T) {
	w := newWorld(t)
	key := must(pki.NewKey())(t)
	for name, c := range map[string]*tls.Certificate{
		"operational": forged(t, w.authority(pki.Operational), key, pki.OperationalLeaf("healthy-01", key.Public(), time.Hour), time.Now()),
		"birth":       forged(t, w.authority(pki.Birth), key, pki.BirthLeaf("healthy-01", key.Public()), time.Now()),
	} {
		s := must(w.mqtt(c))(t)
		defer s.close()
		if err := s.open("healthy-01"); !errors.Is(err, codeError(mqtt.RefusedForbidden)) {
			t.Errorf("%s: %v, want CONNACK 5", name, err)
		}
		_, err := w.healthy.est(c, "simpleenroll", csr(t, must(pki.NewKey())(t), "healthy-01"))
		refusedWith(t, err, 403, "superseded")
	}
	w.logged(t, "connection refused", "superseded")
	w.recorded(t, "session.refused", "healthy-01", "superseded")
	w.recorded(t, "request.refused", "healthy-01", "superseded")

	stolen := forged(t, w.authority(pki.Operator), key, pki.OperatorLeaf("mallory", key.Public(), time.Hour), time.Now())
	if resp, _, err := w.ask(stolen, "GET", "/v1/hub", ""); err == nil {
		t.Errorf("an operator's certificate that the hub never recorded: %s", resp.Status)
	}
	w.logged(t, "TLS handshake error", "not on record")
	w.recorded(t, "connection.refused", "", "mallory", "not on record")
	w.goesOn(t)
}
