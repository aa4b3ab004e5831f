package provision_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"holdfast/access"
	"holdfast/dps"
	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/hub/provision"
	"holdfast/hub/store"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

const scope = dps.Scope("0ne0123ABCD")

// world is a Service on a real store and fleet.
type world struct {
	*provision.Service
	t      testing.TB
	path   string
	db     *store.Store
	fleet  *fleet.Fleet
	maker  map[string]*x509.Certificate
	issuer *issuer
	twins  map[identity.Device]begun
	mu     sync.Mutex
	ledger []string
	now    time.Time
}

type begun struct {
	twin  operator.SetTwin
	reset bool
	times int
}

// late joins the fleet to the service that is made after it.
type late struct{ w *world }

func (l late) Enrolled(ctx context.Context, p pki.Peer) (identity.Group, string, error) {
	return l.w.Service.Enrolled(ctx, p)
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, path: filepath.Join(t.TempDir(), "hub.db"), maker: map[string]*x509.Certificate{},
		issuer: &issuer{held: map[identity.Digest][]*x509.Certificate{}}, twins: map[identity.Device]begun{},
		now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	w.open()
	t.Cleanup(func() { w.db.Close() })
	for _, name := range []string{"acme", "other"} {
		w.maker[name] = w.ca(name)
		w.must1(w.fleet.AddCA(t.Context(), "admin", operator.CA{Name: name, Kind: "maker", PEM: string(pki.EncodeCerts(w.maker[name]))}))
	}
	for id, g := range map[identity.Group]operator.SetGroup{
		"meters": {MakerCAs: []string{"acme"}, IDs: []string{"meter-*"}},
		"spares": {MakerCAs: []string{"acme", "other"}},
		"old":    {SelfSigned: true},
		"empty":  {},
	} {
		g.PolicyName = posture.Lenient
		w.must1(w.fleet.SetGroup(t.Context(), "admin", id, g))
	}
	return w
}

// open starts everything on the store, as after a restart.
func (w *world) open() {
	w.t.Helper()
	var err error
	w.db, err = store.Open(w.t.Context(), w.path)
	w.must(err)
	w.fleet, err = fleet.New(fleet.Config{Store: w.db.Fleet(), Ledger: w, Sessions: nobody{}, Enrolments: late{w},
		Log: slog.New(slog.DiscardHandler), Now: w.clock})
	w.must(err)
	root, err := pki.NewRoot(w.now)
	w.must(err)
	w.Service, err = provision.New(provision.Config{Store: w.db.Provision(), Registry: w.fleet, Issuer: w.issuer, Twins: w, Ledger: w,
		Scope: scope, Hub: "hub.example", Root: root.Cert, Log: slog.New(slog.DiscardHandler), Now: w.clock})
	w.must(err)
	w.must(w.Load(w.t.Context()))
}

func (w *world) restart() {
	w.t.Helper()
	w.must(w.db.Close())
	w.open()
}

func (w *world) clock() time.Time { return w.now }

func (w *world) Record(_ context.Context, kind string, id identity.Device, _ any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ledger = append(w.ledger, kind+" "+string(id))
	return nil
}

func (w *world) count(line string) (n int) {
	for _, l := range w.ledger {
		if l == line {
			n++
		}
	}
	return n
}

func (w *world) Begin(_ context.Context, id identity.Device, t operator.SetTwin, reset bool) error {
	w.twins[id] = begun{t, reset, w.twins[id].times + 1}
	return nil
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) must1(_ any, err error) {
	w.t.Helper()
	w.must(err)
}

// refused checks a refusal's code.
func (w *world) refused(err error, want iothub.Code) {
	w.t.Helper()
	if err == nil || iothub.CodeOf(err) != want {
		w.t.Errorf("%v has code %d, want %d", err, iothub.CodeOf(err), want)
	}
}

func (w *world) ca(cn string) *x509.Certificate {
	w.t.Helper()
	key, err := pki.NewKey()
	w.must(err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, NotBefore: w.now.AddDate(-1, 0, 0),
		NotAfter: w.now.AddDate(9, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	w.must(err)
	cert, err := x509.ParseCertificate(der)
	w.must(err)
	return cert
}

// of is a device with a certificate of a maker's.
func (w *world) of(maker string, id identity.Device) provision.Caller {
	return provision.Caller{Scope: string(scope), ID: string(id), Peer: pki.Peer{Class: pki.Maker, Name: string(id), Device: id, Serial: "m1",
		Anchor: identity.Sum(w.maker[maker].Raw), Certificate: identity.Sum([]byte(maker + string(id)))}}
}

// self is a device with a self-signed certificate that TLS let in.
func self(id identity.Device) provision.Caller {
	d := identity.Sum([]byte("self " + id))
	return provision.Caller{Scope: string(scope), ID: string(id), Peer: pki.Peer{Class: pki.SelfSigned, Name: string(id), Device: id, Anchor: d, Certificate: d}}
}

func (w *world) enroll(e operator.Enrollment) operator.Enrollment {
	w.t.Helper()
	out, err := w.AddEnrollment(w.t.Context(), "admin", e)
	w.must(err)
	return out
}

// register takes a device through both steps.
func (w *world) register(c provision.Caller, body string) dps.Progress {
	w.t.Helper()
	p, err := w.Register(w.t.Context(), c, []byte(body))
	w.must(err)
	if p.Status != dps.Assigning || p.State != nil {
		w.t.Errorf("first answer is %+v", p)
	}
	done, err := w.Operation(w.t.Context(), c, string(p.Operation))
	w.must(err)
	if done.State == nil || done.Operation != p.Operation {
		w.t.Fatalf("second answer is %+v", done)
	}
	return done
}

// group returns the group of a device, or "" when it is not in the registry.
func (w *world) group(id identity.Device) identity.Group {
	w.t.Helper()
	d, err := w.fleet.Device(w.t.Context(), id)
	if err != nil && fault.Of(err) != fault.NotFound {
		w.t.Fatal(err)
	}
	return d.Group
}

// issuer issues what it is told to.
type issuer struct {
	err  error
	wait chan struct{} // held up until it is closed, or ctx ends
	held map[identity.Digest][]*x509.Certificate
	made int
}

func (i *issuer) Issue(ctx context.Context, p pki.Peer, key identity.Digest, _ []byte) ([]*x509.Certificate, error) {
	if i.wait != nil {
		select {
		case <-i.wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if i.err != nil {
		return nil, i.err
	}
	if i.held[key] != nil {
		return nil, fault.Hide(fault.Conflict, "make a new key", &pki.Refusal{Of: "certificate request", Rule: pki.RuleKeyReuse})
	}
	i.made++
	i.held[key] = []*x509.Certificate{{Raw: []byte("leaf of " + p.Device)}, {Raw: []byte("intermediate")}}
	return i.held[key], nil
}

func (i *issuer) Held(_ context.Context, _ identity.Device, key identity.Digest) ([]*x509.Certificate, error) {
	return i.held[key], nil
}

func csr(t testing.TB, cn string) (text string, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return csrOf(t, cn, key), key
}

func csrOf(t testing.TB, cn string, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func body(t testing.TB, v map[string]any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// nobody is connected.
type nobody struct{}

func (nobody) SetMode(context.Context, identity.Device, access.Mode, string) error { return nil }
func (nobody) Revoke(context.Context, identity.Device, string) error               { return nil }
func (nobody) Publish(context.Context, identity.Device, posture.Report) error      { return nil }
