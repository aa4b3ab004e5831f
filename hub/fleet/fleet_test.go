package fleet_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"holdfast/access"
	"holdfast/birth"
	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/hub/store"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// world is a fleet on a real store, with a clock and everything it acts on.
type world struct {
	*fleet.Fleet
	t      testing.TB
	path   string
	store  *store.Store
	ledger *book
	gate   *gate
	shop   *shop
	lab    *lab
	crl    []string

	mu  sync.Mutex
	now time.Time
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, path: filepath.Join(t.TempDir(), "hub.db"), now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	w.ledger, w.shop, w.lab = &book{}, &shop{}, &lab{}
	w.gate = &gate{modes: map[identity.Device]access.Mode{}}
	w.open()
	t.Cleanup(func() { w.store.Close() })
	for id, policy := range map[identity.Group]string{"pumps": posture.Standard, "bench": posture.Bench, "lab": posture.Lenient} {
		w.must1(w.SetGroup(t.Context(), "admin", id, operator.SetGroup{PolicyName: policy, Simulation: id != "lab", FileKeys: id == "lab"}))
	}
	return w
}

// open starts the fleet on the store, as after a restart.
func (w *world) open() {
	w.t.Helper()
	var err error
	if w.store, err = store.Open(w.t.Context(), w.path); err != nil {
		w.t.Fatal(err)
	}
	w.Fleet, err = fleet.New(fleet.Config{
		Store: w.store.Fleet(), Ledger: w.ledger, Sessions: w.gate, Withdrawer: w, Releases: w.shop, Offers: w.shop, Audits: w.lab,
		Log: slog.New(slog.DiscardHandler), Now: w.clock,
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) restart() {
	w.t.Helper()
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
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

func (w *world) Withdraw(_ context.Context, id identity.Device, class pki.Class, serial string, _ int) error {
	w.crl = append(w.crl, fmt.Sprintf("%s %s %s", id, class, serial))
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

func (w *world) must2(d operator.Device, err error) operator.Device {
	w.t.Helper()
	w.must(err)
	return d
}

// refused checks that err is of a kind.
func (w *world) refused(err error, kind fault.Kind) {
	w.t.Helper()
	if err == nil || fault.Of(err) != kind {
		w.t.Errorf("error %v, want one of kind %s", err, kind)
	}
}

// book is a ledger in memory, which can be out of order.
type book struct {
	mu     sync.Mutex
	broken bool
	lines  []string // kind, device
	last   map[string]map[string]any
}

func (b *book) Record(_ context.Context, kind string, id identity.Device, details any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken {
		return fmt.Errorf("ledger is out of order")
	}
	text, err := json.Marshal(details)
	if err != nil {
		return err
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	if b.last == nil {
		b.last = map[string]map[string]any{}
	}
	b.last[kind+" "+string(id)] = m
	b.lines = append(b.lines, kind+" "+string(id))
	return nil
}

func (b *book) count(line string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, l := range b.lines {
		if l == line {
			n++
		}
	}
	return n
}

// gate is the registry of sessions.
type gate struct {
	mu      sync.Mutex
	modes   map[identity.Device]access.Mode
	acts    []string
	reports []posture.Report
	last    map[identity.Device]posture.Report
}

func (g *gate) SetMode(_ context.Context, id identity.Device, m access.Mode, _ string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.acts, g.modes[id] = append(g.acts, fmt.Sprintf("%s %s", id, m)), m
	return nil
}

func (g *gate) Revoke(_ context.Context, id identity.Device, _ string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.acts = append(g.acts, fmt.Sprintf("%s revoked", id))
	delete(g.modes, id)
	return nil
}

func (g *gate) Publish(_ context.Context, id identity.Device, r posture.Report) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reports = append(g.reports, r)
	if g.last == nil {
		g.last = map[identity.Device]posture.Report{}
	}
	g.last[id] = r
	return nil
}

func (g *gate) mode(id identity.Device) access.Mode {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.modes[id]
}

func digest(s string) identity.Digest { return identity.Sum([]byte(s)) }

func ekFile(s string) []byte {
	return []byte(hex.EncodeToString(func() []byte { d := digest(s); return d[:] }()))
}

// tpm is what a software TPM of that name shows.
func tpm(name string) birth.Showing {
	return birth.Showing{EK: digest("ek " + name), Key: digest("key " + name), Class: birth.Software, Subject: name, Remote: "192.0.2.1"}
}

// addByEK registers a device by the EK of the TPM of its name.
func (w *world) addByEK(id identity.Device, g identity.Group) {
	w.t.Helper()
	w.must1(w.AddDevice(w.t.Context(), "admin", operator.AddDevice{ID: id, Group: g, EK: ekFile("ek " + string(id))}))
}

// born carries a birth to its end.
func (w *world) born(s birth.Showing, serial string) birth.Entry {
	w.t.Helper()
	e, err := w.Claim(w.t.Context(), s)
	w.must(err)
	w.must(w.Bind(w.t.Context(), e.Device, s))
	w.must(w.Born(w.t.Context(), birth.Born{Device: e.Device, Showing: s, AK: []byte("ak " + serial), Serial: serial, Time: w.clock()}))
	return e
}

func (w *world) rows(v measure.Verdict, g measure.Grade, ids ...measure.ID) []measure.Row {
	var rows []measure.Row
	for _, id := range ids {
		rows = append(rows, measure.Row{Measure: id, Verdict: v, Grade: g, Reason: string(v), Time: w.clock()})
	}
	return rows
}

// appraisal is what a good appraisal says.
func (w *world) appraisal() []measure.Row {
	return append(w.rows(measure.Pass, measure.Attested, measure.IdentityAttestation, measure.FirmwareSecureBoot, measure.AppDebug),
		w.rows(measure.Pass, measure.Claimed, measure.CryptoEntropy, measure.CryptoAcceleration, measure.AppWatchdog)...)
}

// handshake is what a good session shows.
func (w *world) handshake() []measure.Row {
	return w.rows(measure.Pass, measure.Observed, measure.ProtocolTLS, measure.ProtocolX509, measure.ProtocolCipherSuites,
		measure.ProtocolMutualTLS, measure.ProtocolMQTTTLS, measure.CryptoAlgorithms)
}

func peer(class pki.Class, id identity.Device, serial string) pki.Peer {
	return pki.Peer{Class: class, Device: id, Name: string(id), Serial: serial}
}

// connect opens a session the way the gateway does.
func (w *world) connect(p pki.Peer, session string) access.Mode {
	w.t.Helper()
	a, err := w.Admit(w.t.Context(), p)
	w.must(err)
	w.gate.mu.Lock()
	w.gate.modes[p.Device] = a.Mode
	w.gate.mu.Unlock()
	w.must1(w.SessionOpened(w.t.Context(), p, session, a.Mode, w.handshake()))
	return w.gate.mode(p.Device)
}

// certify grants and records a certificate, and returns how long it lives.
func (w *world) certify(p pki.Peer, serial string) time.Duration {
	w.t.Helper()
	w.must1(w.Admit(w.t.Context(), p))
	life, err := w.Grant(w.t.Context(), p.Device, p.Class)
	w.must(err)
	now := w.clock()
	w.must(w.Certificate(w.t.Context(), p.Device, fleet.Certificate{Serial: serial, NotBefore: now.Add(-pki.Backdate), NotAfter: now.Add(life), Lifetime: life}))
	return life
}

func (w *world) report(id identity.Device, s posture.Source, rows []measure.Row) posture.Decision {
	w.t.Helper()
	d, err := w.Report(w.t.Context(), id, s, rows)
	w.must(err)
	return d
}

func (w *world) status(id identity.Device, want posture.Status) operator.Device {
	w.t.Helper()
	d, err := w.Device(w.t.Context(), id)
	w.must(err)
	if d.Status != want {
		w.t.Errorf("%s is %s (%s), want %s", id, d.Status, d.Reason, want)
	}
	return d
}

// healthy takes a device from nothing to trusted.
func (w *world) healthy(id identity.Device, g identity.Group) pki.Peer {
	w.t.Helper()
	w.addByEK(id, g)
	w.born(tpm(string(id)), "b-"+string(id))
	w.report(id, posture.Attestation, w.appraisal())
	w.certify(peer(pki.Birth, id, "b-"+string(id)), "1-"+string(id))
	p := peer(pki.Operational, id, "1-"+string(id))
	w.connect(p, "s1")
	w.report(id, posture.Logs, w.rows(measure.Pass, measure.Observed, measure.AppErrorLogging))
	w.status(id, posture.Trusted)
	return p
}

// ca makes a CA certificate that changes then may spoil.
func ca(t testing.TB, cn string, now time.Time, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// addMaker registers a maker's CA and a group of it, and returns a peer that
// it certified.
func (w *world) addMaker(name string, g identity.Group, ids ...string) func(identity.Device) pki.Peer {
	w.t.Helper()
	cert := ca(w.t, name, w.clock(), nil)
	w.must1(w.AddCA(w.t.Context(), "admin", operator.CA{Name: name, Kind: "maker", PEM: string(pki.EncodeCerts(cert))}))
	w.must1(w.SetGroup(w.t.Context(), "admin", g, operator.SetGroup{PolicyName: posture.Lenient, MakerCAs: []string{name}, IDs: ids}))
	return func(id identity.Device) pki.Peer {
		p := peer(pki.Maker, id, "m1")
		p.Anchor = identity.Sum(cert.Raw)
		return p
	}
}

// noWrites is a store whose devices cannot be saved unless ok; it counts.
type noWrites struct {
	fleet.Store
	ok     bool
	writes int
}

func (s *noWrites) SaveDevice(ctx context.Context, r fleet.Record, es []fleet.Event) error {
	if !s.ok {
		return fmt.Errorf("disk is full")
	}
	s.writes++
	return s.Store.SaveDevice(ctx, r, es)
}

// over is a second fleet over another store, with the same ledger and sessions.
func (w *world) over(s fleet.Store) *fleet.Fleet {
	w.t.Helper()
	f, err := fleet.New(fleet.Config{Store: s, Ledger: w.ledger, Sessions: w.gate, Log: slog.New(slog.DiscardHandler), Now: w.clock})
	w.must(err)
	return f
}

func TestWhatNothingProvesHasTheTimeOfLooking(t *testing.T) {
	w := newWorld(t)
	w.must1(w.AddDevice(t.Context(), "admin", operator.AddDevice{ID: "box-1", Group: "lab", Token: true}))
	w.pass(time.Hour)
	d, err := w.Device(t.Context(), "box-1")
	w.must(err)
	report, err := w.Current(t.Context(), "box-1")
	w.must(err)
	for _, r := range append(d.Posture, report.Rows...) {
		if r.Grade == measure.None && !r.Time.Equal(w.now) {
			t.Errorf("%s is of %s, want the time of looking", r.Measure, r.Time)
		}
	}
	text, err := json.Marshal(d)
	w.must(err)
	var members map[string]any
	w.must(json.Unmarshal(text, &members))
	if c, there := members["certificate"]; !there || c != nil {
		t.Errorf("certificate of a device that has none is %v, want null", c)
	}
}
