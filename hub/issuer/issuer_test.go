package issuer_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/hub/issuer"
	"holdfast/hub/store"
	"holdfast/identity"
	"holdfast/pki"
)

var secret = []byte("a secret of the tests, never one of a hub's own")

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// bench is an issuer over a real store, with a clock that a test can turn.
type bench struct {
	*issuer.Issuer
	dir, rootOut string
	store        *store.Store

	mu      sync.Mutex
	now     time.Time
	issued  []issuer.Issued
	revoked []issuer.Revoked
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) wait(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func newBench(t testing.TB) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{dir: filepath.Join(dir, "ca"), rootOut: filepath.Join(dir, "root.key"), now: time.Now().Truncate(time.Second)}
	must(issuer.Init(b.dir, b.rootOut, []string{"localhost", "127.0.0.1"}, seal(t), b.now))(t)
	b.store = must(store.Open(t.Context(), filepath.Join(dir, "hub.db")))(t)
	t.Cleanup(func() { b.store.Close() })
	b.Issuer = b.open(t)
	return b
}

func seal(t testing.TB) pki.Secret {
	t.Helper()
	return must(pki.ParseSecret(secret))(t)
}

func (b *bench) open(t testing.TB) *issuer.Issuer {
	t.Helper()
	return must(issuer.New(issuer.Config{
		Dir: b.dir, Secret: seal(t), Store: b.store, Log: slog.New(slog.DiscardHandler), Now: b.clock,
		URL: "https://localhost:8443",
		Issued: func(_ context.Context, i issuer.Issued) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.issued = append(b.issued, i)
			return nil
		},
		Revoked: func(_ context.Context, r issuer.Revoked) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.revoked = append(b.revoked, r)
		},
	}))(t)
}

func newCSR(t testing.TB, id string) []byte {
	t.Helper()
	return csrOf(t, id, must(pki.NewKey())(t))
}

func csrOf(t testing.TB, id string, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	tmpl := &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}}
	return must(x509.CreateCertificateRequest(rand.Reader, tmpl, key))(t)
}

func (b *bench) birth(t testing.TB, id identity.Device) *x509.Certificate {
	t.Helper()
	return must(b.IssueBirth(t.Context(), id, "pumps", newCSR(t, string(id))))(t)[0]
}

func TestRootKeyLeavesTheHub(t *testing.T) {
	b := newBench(t)
	key := must(os.ReadFile(b.rootOut))(t)
	info := must(os.Stat(b.rootOut))(t)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("root key has mode %v", info.Mode())
	}
	root := must(pki.ParseKey(key))(t)
	if !b.Root().PublicKey.(*ecdsa.PublicKey).Equal(root.Public()) {
		t.Error("the file has not the root's key")
	}
	scalar := must(root.(*ecdsa.PrivateKey).Bytes())(t)
	body := bytes.Split(key, []byte("\n"))[1]
	for _, entry := range must(os.ReadDir(b.dir))(t) {
		text := must(os.ReadFile(filepath.Join(b.dir, entry.Name())))(t)
		if bytes.Contains(text, body) || bytes.Contains(text, scalar) {
			t.Errorf("%s has the root's key", entry.Name())
		}
		if strings.HasSuffix(entry.Name(), ".key") && bytes.Contains(text, []byte("PRIVATE KEY")) {
			t.Errorf("%s is not sealed", entry.Name())
		}
	}
}

func TestInitTouchesNothingThatExists(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "ca")
	hosts := []string{"hub.example"}
	for name, tc := range map[string]struct {
		dir, out string
		hosts    []string
		secret   pki.Secret
	}{
		"root key over a file":      {ca, file, hosts, seal(t)},
		"directory over a file":     {file, filepath.Join(dir, "k"), hosts, seal(t)},
		"root key among the hub's":  {ca, filepath.Join(ca, "root.key"), hosts, seal(t)},
		"no place for the root key": {ca, "", hosts, seal(t)},
		"no host":                   {ca, filepath.Join(dir, "k"), nil, seal(t)},
		"no secret":                 {ca, filepath.Join(dir, "k"), hosts, pki.Secret{}},
		"no such place":             {ca, filepath.Join(dir, "none", "k"), hosts, seal(t)},
	} {
		if _, err := issuer.Init(tc.dir, tc.out, tc.hosts, tc.secret, time.Now()); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if entries := must(os.ReadDir(dir))(t); len(entries) != 1 {
			t.Errorf("%s: left %v", name, entries)
		}
	}
	if got := must(os.ReadFile(file))(t); string(got) != "precious" {
		t.Errorf("the file now has %q", got)
	}
}

func TestNewRefusesWhatDoesNotBelongTogether(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, b *bench, cfg *issuer.Config){
		"another secret": func(t *testing.T, _ *bench, cfg *issuer.Config) {
			cfg.Secret = must(pki.ParseSecret(pki.NewSecret()))(t)
		},
		"keys exchanged": func(t *testing.T, b *bench, _ *issuer.Config) {
			copyFile(t, filepath.Join(b.dir, "birth.key"), filepath.Join(b.dir, "operational.key"))
		},
		"certificates exchanged": func(t *testing.T, b *bench, _ *issuer.Config) {
			copyFile(t, filepath.Join(b.dir, "birth.pem"), filepath.Join(b.dir, "operational.pem"))
		},
		"another root": func(t *testing.T, b *bench, _ *issuer.Config) {
			copyFile(t, filepath.Join(newBench(t).dir, "root.pem"), filepath.Join(b.dir, "root.pem"))
		},
		"key missing": func(t *testing.T, b *bench, _ *issuer.Config) {
			if err := os.Remove(filepath.Join(b.dir, "server.key")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		b := newBench(t)
		cfg := issuer.Config{Dir: b.dir, Secret: seal(t), Store: b.store, Log: slog.New(slog.DiscardHandler)}
		spoil(t, b, &cfg)
		if _, err := issuer.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.WriteFile(to, must(os.ReadFile(from))(t), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestIssuedCertificatesAreTrustedAsTheirClass(t *testing.T) {
	b := newBench(t)
	trust := must(pki.NewTrust(b.Anchors(pki.Birth, pki.Operational, pki.Operator)...))(t)
	key := must(pki.NewKey())(t)
	for class, chain := range map[pki.Class][]*x509.Certificate{
		pki.Birth:       must(b.IssueBirth(t.Context(), "pump-01", "pumps", newCSR(t, "pump-01")))(t),
		pki.Operational: must(b.IssueOperational(t.Context(), "pump-01", newCSR(t, "pump-01"), time.Hour))(t),
		pki.Operator:    must(b.IssueOperator(t.Context(), "ada", key.Public(), time.Hour))(t),
	} {
		peer, err := trust.Verify(chain, b.clock())
		if err != nil || peer.Class != class {
			t.Errorf("%s: %+v, %v", class, peer, err)
		}
		if err := b.CheckRevoked(t.Context(), peer.Serial); err != nil {
			t.Errorf("%s: %v", class, err)
		}
	}
	if len(b.issued) != 3 {
		t.Fatalf("told of %d certificates, want 3", len(b.issued))
	}
}

func TestServerCertificate(t *testing.T) {
	b := newBench(t)
	names := must(pki.ParseNames([]string{"localhost", "127.0.0.1"}))(t)
	s := must(issuer.NewServing(t.Context(), b.Issuer, names, time.Hour))(t)
	cert := must(s.Certificate())(t)
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(b.Root())
	intermediates.AddCert(b.Authority(pki.Server))
	for _, host := range []string{"localhost", "127.0.0.1"} {
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: intermediates}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestRequestsAreRefusedByRule(t *testing.T) {
	b := newBench(t)
	_, err := b.IssueOperational(t.Context(), "pump-01", newCSR(t, "pump-02"), time.Hour)
	if pki.RuleOf(err) != pki.RuleSubject || fault.Of(err) != fault.Invalid || !strings.Contains(fault.Public(err), "subject") {
		t.Errorf("another device's request: %v", err)
	}
	if _, err := b.IssueOperational(t.Context(), "pump-01", newCSR(t, "pump-01"), 0); fault.Of(err) != fault.Denied {
		t.Errorf("no lifetime: %v", err)
	}
	if len(b.issued) != 0 {
		t.Errorf("told of %d certificates", len(b.issued))
	}
}

func TestAKeyIsCertifiedOnce(t *testing.T) {
	b := newBench(t)
	key := must(pki.NewKey())(t)
	must(b.IssueBirth(t.Context(), "pump-01", "pumps", csrOf(t, "pump-01", key)))(t)
	for name, tc := range map[string]struct {
		issue func() error
		kind  fault.Kind
	}{
		"the same again": {func() error {
			_, err := b.IssueBirth(t.Context(), "pump-01", "pumps", csrOf(t, "pump-01", key))
			return err
		}, fault.Conflict},
		"for another class": {func() error {
			_, err := b.IssueOperational(t.Context(), "pump-01", csrOf(t, "pump-01", key), time.Hour)
			return err
		}, fault.Conflict},
		"by another device": {func() error {
			_, err := b.IssueBirth(t.Context(), "pump-02", "pumps", csrOf(t, "pump-02", key))
			return err
		}, fault.Denied},
		"by an operator": {func() error {
			_, err := b.IssueOperator(t.Context(), "ada", key.Public(), time.Hour)
			return err
		}, fault.Denied},
		"as another's AK": {func() error {
			return b.NoteKey(t.Context(), must(identity.KeyDigest(key.Public()))(t), "pump-02", "ak")
		}, fault.Denied},
	} {
		err := tc.issue()
		if pki.RuleOf(err) != pki.RuleKeyReuse || fault.Of(err) != tc.kind {
			t.Errorf("%s: %v (%s), want rule %q as %s", name, err, fault.Of(err), pki.RuleKeyReuse, tc.kind)
		}
		if tc.kind == fault.Denied && strings.Contains(fault.Public(err), "pump-01") {
			t.Errorf("%s: the peer learns whose key it is: %q", name, fault.Public(err))
		}
	}
	if certs := must(b.Certificates(t.Context(), pki.Birth, "pump-01"))(t); len(certs) != 1 {
		t.Errorf("%d certificates on record, want 1", len(certs))
	}
}

func TestNotedKeys(t *testing.T) {
	b := newBench(t)
	key := must(pki.NewKey())(t)
	digest := must(identity.KeyDigest(key.Public()))(t)
	for range 2 { // a device shows its key again and again
		if err := b.NoteKey(t.Context(), digest, "sensor-01", "maker"); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.NoteKey(t.Context(), digest, "sensor-02", "maker"); pki.RuleOf(err) != pki.RuleKeyReuse {
		t.Errorf("another device: %v", err)
	}
	if _, err := b.IssueOperational(t.Context(), "sensor-01", csrOf(t, "sensor-01", key), time.Hour); pki.RuleOf(err) != pki.RuleKeyReuse {
		t.Errorf("its maker's key certified by us: %v", err)
	}
}

// Of many requests with one key at the same time, one is served.
func TestOneOfManyWithOneKey(t *testing.T) {
	b := newBench(t)
	key := must(pki.NewKey())(t)
	const n = 16
	errs := make(chan error, n)
	for range n {
		go func() {
			_, err := b.IssueOperational(t.Context(), "pump-01", csrOf(t, "pump-01", key), time.Hour)
			errs <- err
		}()
	}
	served := 0
	for range n {
		switch err := <-errs; {
		case err == nil:
			served++
		case pki.RuleOf(err) != pki.RuleKeyReuse:
			t.Error(err)
		}
	}
	if served != 1 {
		t.Errorf("%d served, want 1", served)
	}
}

func TestBirthSupersedesTheEarlierOne(t *testing.T) {
	b := newBench(t)
	other := b.birth(t, "pump-02")
	old := b.birth(t, "pump-01")
	b.wait(time.Minute)
	renewed := b.birth(t, "pump-01")
	for cert, want := range map[*x509.Certificate]pki.Rule{old: pki.RuleRevoked, renewed: "", other: ""} {
		if err := b.CheckRevoked(t.Context(), pki.SerialText(cert)); pki.RuleOf(err) != want {
			t.Errorf("%s %s: %v, want rule %q", cert.Subject.CommonName, pki.SerialText(cert), err, want)
		}
	}
	if err := b.crl(t, pki.Birth).Check(old); pki.RuleOf(err) != pki.RuleRevoked {
		t.Errorf("the list does not have it: %v", err)
	}
	if err := b.CheckRevoked(t.Context(), "1234"); pki.RuleOf(err) != pki.RuleRevoked {
		t.Errorf("a certificate nobody issued: %v", err)
	}
}

func (b *bench) crl(t testing.TB, class pki.Class) *pki.CRL {
	t.Helper()
	der := must(b.CRL(t.Context(), class))(t)
	return must(pki.VerifyCRL(der, b.Authority(class), nil, b.clock()))(t)
}

func TestRevocationListsGoForward(t *testing.T) {
	b := newBench(t)
	leaf := must(b.IssueOperational(t.Context(), "pump-01", newCSR(t, "pump-01"), time.Hour))(t)[0]
	first := b.crl(t, pki.Operational)
	if again := b.crl(t, pki.Operational); again.Number.Cmp(first.Number) != 0 {
		t.Errorf("number %v after %v, with nothing revoked", again.Number, first.Number)
	}
	if err := b.RevokeDevice(t.Context(), "pump-01", pki.ReasonKeyCompromise); err != nil {
		t.Fatal(err)
	}
	second := b.crl(t, pki.Operational)
	if second.Number.Cmp(first.Number) <= 0 || pki.RuleOf(second.Check(leaf)) != pki.RuleRevoked {
		t.Errorf("number %v after %v; %v", second.Number, first.Number, second.Check(leaf))
	}
	if _, err := pki.VerifyCRL(must(b.CRL(t.Context(), pki.Operational))(t), b.Authority(pki.Operational),
		new(big.Int).Add(second.Number, big.NewInt(1)), b.clock()); pki.RuleOf(err) != pki.RuleNumber {
		t.Errorf("an older number: %v", err)
	}
	b.wait(issuer.DefaultCRLLifetime/2 + time.Minute)
	third := b.crl(t, pki.Operational)
	if third.Number.Cmp(second.Number) <= 0 || third.NextUpdate.Sub(b.clock()) < issuer.DefaultCRLLifetime-time.Minute {
		t.Errorf("not renewed before its time: number %v until %s", third.Number, third.NextUpdate)
	}
	b.Issuer = b.open(t) // a restart
	if fourth := b.crl(t, pki.Operational); fourth.Number.Cmp(third.Number) <= 0 {
		t.Errorf("number %v after %v and a restart", fourth.Number, third.Number)
	}
	b.wait(100 * time.Hour)
	if late := b.crl(t, pki.Operational); late.Len() != 0 {
		t.Errorf("%d entries long after their certificates ended", late.Len())
	}
}

func TestRevoke(t *testing.T) {
	b := newBench(t)
	serial := pki.SerialText(b.birth(t, "pump-01"))
	if err := b.Revoke(t.Context(), "00ff", pki.ReasonRetired); fault.Of(err) != fault.NotFound {
		t.Errorf("unknown serial number: %v", err)
	}
	for range 2 {
		if err := b.Revoke(t.Context(), serial, pki.ReasonRetired); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.CheckRevoked(t.Context(), serial); pki.RuleOf(err) != pki.RuleRevoked {
		t.Error(err)
	}
	if len(b.revoked) != 1 || !slices.Equal(b.revoked[0].Serials, []string{serial}) {
		t.Errorf("told of %+v", b.revoked)
	}
	if _, err := b.CRL(t.Context(), "maker"); fault.Of(err) != fault.NotFound {
		t.Errorf("a list of nobody: %v", err)
	}
}

// full is a store whose disk is full.
type full struct{ issuer.Store }

func (full) AddCertificates(context.Context, []issuer.Certificate) ([]issuer.Added, error) {
	return nil, errors.New("disk full")
}

func TestNoRecordNoCertificate(t *testing.T) {
	b := newBench(t)
	told := false
	i := must(issuer.New(issuer.Config{
		Dir: b.dir, Secret: seal(t), Store: full{b.store}, Log: slog.New(slog.DiscardHandler),
		Issued: func(context.Context, issuer.Issued) error { told = true; return nil },
	}))(t)
	chain, err := i.IssueBirth(t.Context(), "pump-01", "pumps", newCSR(t, "pump-01"))
	if err == nil || chain != nil || told || fault.Of(err) != fault.Internal {
		t.Errorf("got %v, %v, told %t", chain, err, told)
	}
}

// TestCertificateThatNobodyKnowsOfIsWithheld: what the ledger did not take is
// not handed out.
func TestCertificateThatNobodyKnowsOfIsWithheld(t *testing.T) {
	b := newBench(t)
	i := must(issuer.New(issuer.Config{
		Dir: b.dir, Secret: seal(t), Store: b.store, Log: slog.New(slog.DiscardHandler),
		Issued: func(context.Context, issuer.Issued) error { return errors.New("ledger is full") },
	}))(t)
	chain, err := i.IssueOperational(t.Context(), "pump-01", newCSR(t, "pump-01"), time.Hour)
	if err == nil || chain != nil || fault.Of(err) != fault.Internal {
		t.Errorf("got %v, %v", chain, err)
	}
}

func BenchmarkIssueOperational(b *testing.B) {
	bench := newBench(b)
	requests := func(n int) (csrs [][]byte) {
		for range n {
			csrs = append(csrs, newCSR(b, "pump-01"))
		}
		return csrs
	}
	b.Run("bare", func(b *testing.B) {
		ca := must(pki.NewRoot(time.Now()))(b)
		key := must(pki.NewKey())(b)
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := x509.CreateCertificate(rand.Reader, tmpl, ca.Cert, key.Public(), ca.Key); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("issuer", func(b *testing.B) {
		csrs := requests(b.N)
		next := make(chan []byte, len(csrs))
		for _, c := range csrs {
			next <- c
		}
		b.ReportAllocs()
		b.SetParallelism(16)
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := bench.IssueOperational(b.Context(), "pump-01", <-next, time.Hour); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
