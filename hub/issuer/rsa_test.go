package issuer_test

import (
	"crypto/rsa"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/hub/issuer"
	"holdfast/pki"
)

func TestRSAHierarchy(t *testing.T) {
	b := newBench(t)
	names := must(pki.ParseNames([]string{"127.0.0.2"}))(t)
	if _, err := b.IssueRSAServer(t.Context(), issuer.Legacy, names, time.Hour); err == nil {
		t.Fatal("issued by an authority that does not exist")
	}
	out := filepath.Join(t.TempDir(), "legacy-root.key")
	root := must(issuer.InitRSA(b.dir, issuer.Legacy, out, []string{"127.0.0.2"}, seal(t), b.now))(t)
	if key := must(pki.ParseKey(must(os.ReadFile(out))(t)))(t); !pki.SamePublicKey(root, key.Public()) {
		t.Error("the file has not the root's key")
	}
	i := b.open(t)
	if got := i.RSARoot(issuer.Legacy); got == nil || !got.Equal(root) || i.RSARoot(issuer.Modern) != nil {
		t.Errorf("roots: legacy %v, modern %v", got, i.RSARoot(issuer.Modern))
	}
	s := must(issuer.NewRSAServing(t.Context(), i, issuer.Legacy, names, time.Hour))(t)
	cert := must(s.Certificate())(t)
	if _, ok := cert.PrivateKey.(*rsa.PrivateKey); !ok || len(cert.Certificate) != 2 || cert.Leaf.KeyUsage&x509.KeyUsageKeyEncipherment == 0 {
		t.Errorf("%T, %d certificates, usage %b", cert.PrivateKey, len(cert.Certificate), cert.Leaf.KeyUsage)
	}
	stored := must(b.store.Certificates(t.Context(), issuer.Selection{Serial: pki.SerialText(cert.Leaf)}))(t)
	if len(stored) != 1 || stored[0].Class != pki.Server {
		t.Errorf("recorded: %+v", stored)
	}
}

func TestInitRSATouchesNothingThatExists(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	hosts := []string{"localhost"}
	must(issuer.InitRSA(b.dir, issuer.Modern, filepath.Join(dir, "rsa.key"), hosts, seal(t), b.now))(t)
	for name, tc := range map[string]struct{ out, want string }{
		"the hierarchy exists":     {filepath.Join(dir, "other.key"), "exists already"},
		"the key's file exists":    {b.rootOut, "exists already"},
		"the key would stay there": {filepath.Join(b.dir, "root.key"), "may not stay"},
		"no file":                  {"", "needs a file"},
	} {
		kind := issuer.Legacy
		if name == "the hierarchy exists" {
			kind = issuer.Modern
		}
		if _, err := issuer.InitRSA(b.dir, kind, tc.out, hosts, seal(t), b.now); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(b.dir, "legacy")); err == nil {
		t.Error("a refusal left something behind")
	}
}

// Key and certificate of one hierarchy do not pass for the other's.
func TestRSAHierarchiesAreKeptApart(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	for _, kind := range []issuer.RSA{issuer.Modern, issuer.Legacy} {
		must(issuer.InitRSA(b.dir, kind, filepath.Join(dir, string(kind)), []string{"localhost"}, seal(t), b.now))(t)
	}
	copyFile(t, filepath.Join(b.dir, "rsa", "server.key"), filepath.Join(b.dir, "legacy", "server.key"))
	if _, err := issuer.New(issuer.Config{Dir: b.dir, Secret: seal(t), Store: b.store, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a key of the other hierarchy was taken")
	}
}
