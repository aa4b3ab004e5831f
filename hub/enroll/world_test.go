package enroll_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/access"
	"holdfast/birth"
	"holdfast/birth/birthtest"
	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/hub/enroll"
	"holdfast/hub/fleet"
	"holdfast/hub/issuer"
	"holdfast/hub/store"
	"holdfast/identity"
	"holdfast/internal/httpfault"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// world is enrolment over the real registry and the real issuer.
type world struct {
	t      *testing.T
	fleet  *fleet.Fleet
	issuer *births
	maker  *birthtest.Maker
	enroll *enroll.Enroller
	server http.Handler
	log    *strings.Builder

	mu     sync.Mutex
	now    time.Time
	ledger []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Now().Truncate(time.Second), log: &strings.Builder{}}
	dir := t.TempDir()
	s := must(store.Open(t.Context(), filepath.Join(dir, "hub.db")))(t)
	t.Cleanup(func() { s.Close() })
	secret := must(pki.ParseSecret(pki.NewSecret()))(t)
	ca := filepath.Join(dir, "ca")
	must(issuer.Init(ca, filepath.Join(dir, "root.key"), []string{"localhost"}, secret, w.now))(t)
	log := slog.New(slog.NewTextHandler(w.log, nil))
	w.issuer = &births{Issuer: must(issuer.New(issuer.Config{Dir: ca, Secret: secret, Store: s, Log: log, Now: w.clock}))(t)}
	w.fleet = must(fleet.New(fleet.Config{Store: s.Fleet(), Ledger: w, Sessions: nobody{}, Log: log, Now: w.clock}))(t)
	w.enroll = must(enroll.New(enroll.Config{Registry: w.fleet, Issuer: w.issuer, Log: log, Now: w.clock}))(t)
	w.server = w.enroll.Handler()
	for id, g := range map[identity.Group]operator.SetGroup{
		"pumps": {PolicyName: posture.Standard, Simulation: true}, "mills": {PolicyName: posture.Standard},
		"valves": {PolicyName: posture.Standard, FileKeys: true}, "lab": {PolicyName: posture.Lenient, FileKeys: true}, "bare": {PolicyName: posture.Lenient},
	} {
		must(w.fleet.SetGroup(t.Context(), "admin", id, g))(t)
	}
	w.maker = birthtest.NewMaker(t, w.now)
	w.register("swtpm", w.maker.Root, birth.Software)
	return w
}

func (w *world) register(name string, root *x509.Certificate, class birth.Class) {
	w.t.Helper()
	must(w.fleet.AddCA(w.t.Context(), "admin", operator.CA{Name: name, Kind: "endorsement", Class: string(class), PEM: string(pki.EncodeCerts(root))}))(w.t)
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// Record implements fleet.Ledger.
func (w *world) Record(_ context.Context, kind string, id identity.Device, details any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ledger = append(w.ledger, fmt.Sprintf("%s %s %v", kind, id, details))
	return nil
}

// recorded reports whether some record has all words.
func (w *world) recorded(words ...string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.ledger, func(l string) bool {
		return !slices.ContainsFunc(words, func(s string) bool { return !strings.Contains(l, s) })
	})
}

// nobody is a registry of sessions without any.
type nobody struct{}

func (nobody) SetMode(context.Context, identity.Device, access.Mode, string) error { return nil }
func (nobody) Revoke(context.Context, identity.Device, string) error               { return nil }
func (nobody) Publish(context.Context, identity.Device, posture.Report) error      { return nil }

// births is the issuer as the hub gives it to enrolment. It can die before or
// after it has issued.
type births struct {
	*issuer.Issuer
	before, after bool
}

var errDied = errors.New("the hub died")

func (b *births) IssueBirth(ctx context.Context, id identity.Device, g identity.Group, csr []byte) ([]*x509.Certificate, error) {
	if b.before {
		return nil, errDied
	}
	chain, err := b.Issuer.IssueBirth(ctx, id, g, csr)
	if b.after {
		return nil, errDied
	}
	return chain, err
}

func (b *births) BirthOf(ctx context.Context, id identity.Device, key identity.Digest) ([]*x509.Certificate, error) {
	certs, err := b.Certificates(ctx, pki.Birth, string(id))
	for _, c := range certs {
		if identity.Sum(c.RawSubjectPublicKeyInfo) == key && b.CheckRevoked(ctx, pki.SerialText(c)) == nil {
			return []*x509.Certificate{c, b.Authority(pki.Birth)}, nil
		}
	}
	return nil, err
}

// post sends a body and decodes the answer, or the error of its kind.
func (w *world) post(path string, body []byte, into any) error {
	w.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	rec := httptest.NewRecorder()
	w.server.ServeHTTP(rec, r)
	if rec.Code != http.StatusOK {
		var e httpfault.Body
		if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil {
			w.t.Fatalf("%d: %s", rec.Code, rec.Body)
		}
		if rec.Code != httpfault.Status(e.Error.Kind) || e.Error.ID == "" {
			w.t.Errorf("status %d, error %+v", rec.Code, e)
		}
		return fault.New(e.Error.Kind, "%s", e.Error.Message)
	}
	return json.Unmarshal(rec.Body.Bytes(), into)
}

func (w *world) begin(req evidence.BeginRequest) (evidence.BeginResponse, error) {
	w.t.Helper()
	var out evidence.BeginResponse
	err := w.post("/enroll/begin", must(json.Marshal(req))(w.t), &out)
	return out, err
}

func (w *world) finish(session string, secret []byte) (evidence.Issued, error) {
	w.t.Helper()
	var out evidence.Issued
	err := w.post("/enroll/finish", must(json.Marshal(evidence.FinishRequest{Session: session, Secret: secret}))(w.t), &out)
	return out, err
}

// birth carries a birth through.
func (w *world) birth(p *birthtest.TPM, token string) (evidence.Issued, error) {
	w.t.Helper()
	req := p.Show()
	req.Token = token
	c, err := w.begin(req)
	if err != nil {
		return evidence.Issued{}, err
	}
	return w.finish(c.Session, p.Activate(c.Credential, c.Secret))
}

func (w *world) addEK(id identity.Device, g identity.Group, p *birthtest.TPM) {
	w.t.Helper()
	must(w.fleet.AddDevice(w.t.Context(), "admin", operator.AddDevice{ID: id, Group: g, EK: p.Show().TPM.EKPublic}))(w.t)
}

func (w *world) addToken(id identity.Device, g identity.Group) string {
	w.t.Helper()
	return must(w.fleet.AddDevice(w.t.Context(), "admin", operator.AddDevice{ID: id, Group: g, Token: true}))(w.t).Token
}

// is checks who was born, and that its certificate is admitted.
func (w *world) is(i evidence.Issued, err error, id identity.Device, g identity.Group) pki.Peer {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	chain := must(pki.ParseChain(i.Chain))(w.t)
	trust := must(pki.NewTrust(w.issuer.Anchors(pki.Birth)...))(w.t)
	p := must(trust.Verify(chain, w.clock()))(w.t)
	if i.Device != id || i.Group != g || p.Device != id || p.Class != pki.Birth {
		w.t.Errorf("born as %s in %s, certificate of %s %s, want %s in %s", i.Device, i.Group, p.Class, p.Device, id, g)
	}
	if a, err := w.fleet.Admit(w.t.Context(), p); err != nil || a.Mode != access.Quarantine {
		w.t.Errorf("admitted %+v, %v", a, err)
	}
	return p
}

func (w *world) refused(err error, kind fault.Kind, text string) {
	w.t.Helper()
	if err == nil || fault.Of(err) != kind || !strings.Contains(fault.Public(err), text) {
		w.t.Errorf("error %v (%s), want %s with %q", err, fault.Of(err), kind, text)
	}
}
