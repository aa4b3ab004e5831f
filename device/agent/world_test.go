package agent_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/device/agent"
	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/logs"
	"holdfast/pki"
	"holdfast/posture"
	"holdfast/release"
)

// world is everything around an agent: a hub, a board and a disk. Its disk
// (issued, current) outlives the agent, as after a restart.
type world struct {
	t          *testing.T
	birth, ops *pki.Authority

	mu       sync.Mutex
	fail     func(op string) error // asked before each step of hub, keys and disk
	ops_     []string              // the steps taken
	log      []string              // phrases logged
	sessions []*session
	status   agent.Status
	forgot   bool

	hasTPM   bool
	birthKey crypto.Signer
	issued   *evidence.Issued
	current  *tls.Certificate
	lifetime time.Duration
	verified bool
	onOpen   func(*session)
	healthy  error
	clock    string
	claimed  []string // tokens shown
	waiting  []logs.Record
	ready    chan struct{}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	root := must(pki.NewRoot(time.Now()))(t)
	w := &world{
		t: t, hasTPM: true, verified: true, lifetime: time.Hour, clock: "rtc",
		birth: must(root.NewIntermediate(pki.Birth, pki.Names{}, time.Now()))(t),
		ops:   must(root.NewIntermediate(pki.Operational, pki.Names{}, time.Now()))(t),
		fail:  func(string) error { return nil },
		ready: make(chan struct{}, 1),
	}
	w.onOpen = func(s *session) { s.tell(posture.Trusted, false) }
	return w
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

// step notes a step and asks whether it fails.
func (w *world) step(op string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ops_ = append(w.ops_, op)
	return w.fail(op)
}

func (w *world) steps() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.ops_...)
}

func (w *world) phrases() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.log...)
}

// phases are the phrases logged that name a phase.
func (w *world) phases() (found []string) {
	for _, p := range w.phrases() {
		switch agent.Phase(p) {
		case agent.Provisioned, agent.Born, agent.Attested, agent.Certificate, agent.Connected, agent.Quarantined, agent.Refused:
			found = append(found, p)
		}
	}
	return found
}

func (w *world) state() agent.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

func (w *world) last() *session {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sessions) == 0 {
		return nil
	}
	return w.sessions[len(w.sessions)-1]
}

// agent makes an agent that lives in this world.
func (w *world) agent() *agent.Agent {
	w.t.Helper()
	cfg := agent.Config{
		Hub: (*hub)(w), Open: w.open, Birth: (*keys)(w), Operational: (*keys)(w),
		Entropy: (*noise)(w), Clock: (*timepiece)(w), Spool: (*disk)(w),
		Claims: func() evidence.Claims { return evidence.Claims{Runtime: "test"} },
		Token:  w.token(),
		Forget: func() error { w.mu.Lock(); defer w.mu.Unlock(); w.forgot = true; return nil },
		Report: func(s agent.Status) error { w.mu.Lock(); defer w.mu.Unlock(); w.status = s; return nil },
		Beat:   func() {}, Log: slog.New((*handler)(w)),
	}
	if w.hasTPM {
		cfg.Attester = (*keys)(w)
	}
	return must(agent.New(cfg))(w.t)
}

// start runs an agent in this world until the function it returns is called.
func (w *world) start(ctx context.Context) (stop func()) {
	w.t.Helper()
	a := w.agent()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("run: %v", err)
		}
	}
}

// token is the claim token that the device was provisioned with, until it
// forgets it.
func (w *world) token() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.forgot {
		return ""
	}
	return "token-1"
}

type hub world

func (h *hub) Begin(_ context.Context, req evidence.BeginRequest) (evidence.BeginResponse, error) {
	w := (*world)(h)
	w.mu.Lock()
	w.claimed = append(w.claimed, req.Token)
	w.mu.Unlock()
	if err := w.step("begin"); err != nil {
		return evidence.BeginResponse{}, err
	}
	if req.TPM == nil {
		return evidence.BeginResponse{Issued: new(w.born(req.CSR))}, nil
	}
	return evidence.BeginResponse{Session: "s", Credential: req.CSR}, nil
}

func (h *hub) Finish(_ context.Context, req evidence.FinishRequest) (evidence.Issued, error) {
	if err := (*world)(h).step("finish"); err != nil {
		return evidence.Issued{}, err
	}
	return (*world)(h).born(req.Secret), nil
}

func (w *world) born(csr []byte) evidence.Issued {
	req := must(x509.ParseCertificateRequest(csr))(w.t)
	leaf := must(w.birth.Issue(pki.BirthLeaf("pump-01", req.PublicKey), time.Now()))(w.t)
	return evidence.Issued{Device: "pump-01", Group: "pumps", Chain: [][]byte{leaf.Raw, w.birth.Cert.Raw}}
}

func (h *hub) Attest(_ context.Context, cert *tls.Certificate, sign func(nonce, exporter []byte) (evidence.Attestation, error)) (evidence.Result, error) {
	w := (*world)(h)
	if err := w.step("attest by " + w.class(cert)); err != nil {
		return evidence.Result{}, err
	}
	if _, err := sign(make([]byte, 32), make([]byte, 32)); err != nil {
		return evidence.Result{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return evidence.Result{Verified: w.verified, Reason: "unknown firmware"}, nil
}

func (w *world) class(cert *tls.Certificate) string {
	if cert.Leaf.Issuer.String() == w.birth.Cert.Subject.String() {
		return "birth"
	}
	return "operational"
}

func (h *hub) Enroll(_ context.Context, cert *tls.Certificate, csr []byte) ([][]byte, error) {
	return (*world)(h).certify("enroll", cert, csr)
}

func (h *hub) Reenroll(_ context.Context, cert *tls.Certificate, csr []byte) ([][]byte, error) {
	return (*world)(h).certify("reenroll", cert, csr)
}

func (w *world) certify(op string, cert *tls.Certificate, csr []byte) ([][]byte, error) {
	if err := w.step(op + " by " + w.class(cert)); err != nil {
		return nil, err
	}
	req := must(pki.CheckCSR(csr, "pump-01"))(w.t)
	w.mu.Lock()
	defer w.mu.Unlock()
	leaf := must(w.ops.Issue(pki.OperationalLeaf("pump-01", req.PublicKey, w.lifetime), time.Now()))(w.t)
	return [][]byte{leaf.Raw, w.ops.Cert.Raw}, nil
}

type keys world

func (k *keys) Birth() (*evidence.Birth, crypto.Signer, error) {
	w := (*world)(k)
	if err := w.step("birth key"); err != nil {
		return nil, nil, err
	}
	if k.birthKey == nil {
		k.birthKey = must(pki.NewKey())(k.t)
	}
	if !k.hasTPM {
		return nil, k.birthKey, nil
	}
	return &evidence.Birth{}, k.birthKey, nil
}

func (k *keys) Activate(credential, _ []byte) ([]byte, error) {
	return credential, (*world)(k).step("activate")
}

func (k *keys) Issued() (*evidence.Issued, error) { return k.issued, nil }

func (k *keys) SaveIssued(i evidence.Issued) error {
	if err := (*world)(k).step("save issued"); err != nil {
		return err
	}
	k.issued = &i
	return nil
}

func (k *keys) RenewBirth() error {
	if err := (*world)(k).step("new birth key"); err != nil {
		return err
	}
	k.issued, k.birthKey = nil, nil
	return nil
}

func (k *keys) NewOperational() (crypto.Signer, error) {
	if err := (*world)(k).step("new key"); err != nil {
		return nil, err
	}
	return pki.NewKey()
}

func (k *keys) Operational() (*tls.Certificate, error) { return k.current, nil }

func (k *keys) Promote(key crypto.Signer, chain [][]byte) error {
	if err := (*world)(k).step("promote"); err != nil {
		return err
	}
	leaf := must(x509.ParseCertificate(chain[0]))(k.t)
	if !key.Public().(*ecdsa.PublicKey).Equal(leaf.PublicKey) {
		return errors.New("promoted another key")
	}
	k.current = &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}
	return nil
}

func (k *keys) Attest(identity.Digest, crypto.Signer) (evidence.Attestation, error) {
	return evidence.Attestation{}, (*world)(k).step("sign evidence")
}

type noise world

func (n *noise) Start() error { return n.Err() }

func (n *noise) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.healthy
}

type timepiece world

func (c *timepiece) Now() (time.Time, string)  { return time.Now(), c.clock }
func (c *timepiece) Expired(at time.Time) bool { return c.clock == "rtc" && time.Now().After(at) }

type disk world

func (d *disk) Ready() <-chan struct{} { return d.ready }

func (d *disk) Batch() ([]logs.Record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]logs.Record(nil), d.waiting...), nil
}

func (d *disk) Ack(seq uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.waiting) > 0 && d.waiting[0].Seq <= seq {
		d.waiting = d.waiting[1:]
	}
	return nil
}

func (w *world) wrote(seq uint64) {
	w.mu.Lock()
	w.waiting = append(w.waiting, logs.Record{Seq: seq, Level: "info", Message: "m"})
	w.mu.Unlock()
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

type handler world

func (h *handler) Enabled(context.Context, slog.Level) bool { return true }
func (h *handler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *handler) WithGroup(string) slog.Handler            { return h }
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, r.Message)
	return nil
}

// session is an open session of a world.
type session struct {
	w        *world
	class    string
	cert     *x509.Certificate
	postures chan posture.Report
	done     chan struct{}

	mu     sync.Mutex
	err    error
	topics []string
}

func (w *world) open(_ context.Context, id identity.Device, cert *tls.Certificate) (agent.Session, error) {
	class := w.class(cert)
	if err := w.step("open by " + class); err != nil {
		return nil, err
	}
	if id != "pump-01" {
		return nil, fault.New(fault.Denied, "wrong id")
	}
	s := &session{w: w, class: class, cert: cert.Leaf, postures: make(chan posture.Report, 10), done: make(chan struct{})}
	w.mu.Lock()
	w.sessions = append(w.sessions, s)
	w.mu.Unlock()
	w.onOpen(s)
	return s, nil
}

func (s *session) tell(status posture.Status, renew bool) {
	s.postures <- posture.Report{Status: status, Renew: renew, Decision: posture.Decision{
		Outcomes: []posture.Outcome{{Measure: "firmware.secure-boot", Standing: posture.Unmet, Reason: "no boot event"}}}}
}

func (s *session) Publish(_ context.Context, topic iothub.Topic, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topics = append(s.topics, topic.String())
	return s.err
}

func (s *session) Attest(_ context.Context, op iothub.AttestOp, _ []byte) ([]byte, error) {
	if err := s.w.step("session " + string(op)); err != nil {
		return nil, err
	}
	if op == iothub.AttestNonce {
		return []byte(`{"nonce":"` + strings.Repeat("A", 43) + `="}`), nil
	}
	return []byte(`{"verified":true}`), nil
}

func (s *session) Offers() <-chan []byte { return nil }

func (s *session) Progress(context.Context, release.Progress) error { return nil }

func (s *session) Exporter() ([]byte, error)       { return make([]byte, 32), nil }
func (s *session) Postures() <-chan posture.Report { return s.postures }
func (s *session) Done() <-chan struct{}           { return s.done }

func (s *session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the session from the device's side.
func (s *session) Close() error {
	s.cut(errors.New("closed"))
	return nil
}

// cut ends the session from the hub's side.
func (s *session) cut(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		close(s.done)
	}
}

// published counts messages of a topic that begins so.
func (s *session) published(prefix string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, topic := range s.topics {
		if strings.HasPrefix(topic, prefix) {
			n++
		}
	}
	return n
}

func (s *session) String() string { return fmt.Sprintf("session by %s", s.class) }
