package pki_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/testkit"
	"holdfast/pki"
)

func TestIntermediatesAreConstrained(t *testing.T) {
	w := newWorld(t)
	for class, ca := range w.ca {
		c := ca.Cert
		policy := must(class.Policy())(t)
		if !c.IsCA || c.MaxPathLen != 0 || !c.MaxPathLenZero {
			t.Errorf("%s: CA %t, path length %d", class, c.IsCA, c.MaxPathLen)
		}
		if len(c.Policies) != 1 || !c.Policies[0].Equal(policy) {
			t.Errorf("%s: policies %v, want %v", class, c.Policies, policy)
		}
		want := x509.ExtKeyUsageClientAuth
		if class == pki.Server {
			want = x509.ExtKeyUsageServerAuth
		}
		if !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{want}) {
			t.Errorf("%s: usages %v", class, c.ExtKeyUsage)
		}
		if err := c.CheckSignatureFrom(w.root.Cert); err != nil {
			t.Errorf("%s: %v", class, err)
		}
		for _, e := range c.Extensions {
			if e.Critical && e.Id.String() != "2.5.29.15" && e.Id.String() != "2.5.29.19" { // what every library knows
				t.Errorf("%s: extension %s is critical", class, e.Id)
			}
		}
		if n := c.SerialNumber.BitLen(); n > 128 || n < 64 {
			t.Errorf("%s: serial number of %d bits", class, n)
		}
	}
	if w.root.Cert.NotAfter.Year() >= 2050 {
		t.Errorf("root ends %s: not a UTCTime", w.root.Cert.NotAfter)
	}
}

func TestLeafProfiles(t *testing.T) {
	w := newWorld(t)
	ca := w.ca[pki.Operational]
	ca.CRL = "https://hub.example:8443/crl/operational.crl"
	leaf := must(ca.Issue(pki.OperationalLeaf("pump:01", newKey(t).Public(), time.Hour), now.Add(time.Hour)))(t)
	if got := leaf.NotBefore; !got.Equal(now.Add(time.Hour - pki.Backdate)) {
		t.Errorf("not before %s", got)
	}
	if !leaf.NotAfter.Equal(now.Add(2 * time.Hour)) {
		t.Errorf("not after %s", leaf.NotAfter)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != "urn:holdfast:device:pump:01" {
		t.Errorf("names %v", leaf.URIs)
	}
	if !slices.Equal(leaf.CRLDistributionPoints, []string{ca.CRL}) {
		t.Errorf("distribution points %v", leaf.CRLDistributionPoints)
	}
	if !bytes.Equal(leaf.AuthorityKeyId, ca.Cert.SubjectKeyId) || len(leaf.SubjectKeyId) != 20 {
		t.Error("key identifiers do not link leaf and CA")
	}
	birth := w.device(t, pki.Birth, "pump-01")
	if !birth.NotAfter.Equal(pki.Forever) || !birth.NotBefore.Equal(w.ca[pki.Birth].Cert.NotBefore) {
		t.Errorf("birth certificate from %s to %s", birth.NotBefore, birth.NotAfter)
	}
	if long := must(ca.Issue(pki.OperationalLeaf("x", newKey(t).Public(), 100*365*24*time.Hour), now))(t); !long.NotAfter.Equal(ca.Cert.NotAfter) {
		t.Errorf("leaf outlives its authority: %s", long.NotAfter)
	}
}

func TestIssueRefuses(t *testing.T) {
	w := newWorld(t)
	key := newKey(t).Public()
	weak := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	for name, tc := range map[string]struct {
		ca   *pki.Authority
		leaf pki.Leaf
	}{
		"another class":  {w.ca[pki.Operational], pki.BirthLeaf("pump-01", key)},
		"by the root":    {w.root, pki.BirthLeaf("pump-01", key)},
		"no lifetime":    {w.ca[pki.Operational], pki.OperationalLeaf("pump-01", key, 0)},
		"RSA key":        {w.ca[pki.Birth], pki.BirthLeaf("pump-01", weak.Public())},
		"no key":         {w.ca[pki.Birth], pki.BirthLeaf("pump-01", nil)},
		"bad id":         {w.ca[pki.Birth], pki.BirthLeaf("pump/01", key)},
		"nameless hub":   {w.ca[pki.Server], pki.ServerLeaf(pki.Names{}, key, time.Hour)},
		"empty operator": {w.ca[pki.Operator], pki.OperatorLeaf("", key, time.Hour)},
	} {
		if cert, err := tc.ca.Issue(tc.leaf, now); err == nil {
			t.Errorf("%s: issued %s", name, cert.Subject)
		}
	}
}

func TestServersAreBoundToTheHubsNames(t *testing.T) {
	for _, tc := range []struct {
		hosts []string
		names pki.Names
		ok    bool
	}{
		{[]string{"hub.example"}, pki.Names{DNS: []string{"hub.example"}}, true},
		{[]string{"hub.example"}, pki.Names{DNS: []string{"a.hub.example"}}, true},
		{[]string{"hub.example"}, pki.Names{DNS: []string{"hub.example", "evil.example"}}, false},
		{[]string{"hub.example"}, pki.Names{IPs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}, false},
		{[]string{"hub.example"}, pki.Names{IPs: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}, false},
		{[]string{"192.0.2.7"}, pki.Names{IPs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}, true},
		{[]string{"192.0.2.7"}, pki.Names{IPs: []netip.Addr{netip.MustParseAddr("192.0.2.8")}}, false},
		{[]string{"192.0.2.7"}, pki.Names{IPs: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}, false},
		{[]string{"192.0.2.7"}, pki.Names{DNS: []string{"hub.example"}}, false},
		{[]string{"::1", "localhost"}, pki.Names{DNS: []string{"localhost"}, IPs: []netip.Addr{netip.MustParseAddr("::1")}}, true},
	} {
		root := must(pki.NewRoot(now))(t)
		ca := must(root.NewIntermediate(pki.Server, must(pki.ParseNames(tc.hosts))(t), now))(t)
		leaf := must(ca.Issue(pki.ServerLeaf(tc.names, newKey(t).Public(), time.Hour), now))(t)
		roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(root.Cert)
		intermediates.AddCert(ca.Cert)
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now})
		if (err == nil) != tc.ok {
			t.Errorf("hub %v, certificate for %v %v: %v", tc.hosts, tc.names.DNS, tc.names.IPs, err)
		}
	}
}

func TestParseNamesRefuses(t *testing.T) {
	for _, hosts := range [][]string{nil, {""}, {"*.example"}, {"a..b"}, {".a"}, {"a."}, {"-a"}, {"a/b"}, {strings.Repeat("a", 254)}} {
		if n, err := pki.ParseNames(hosts); err == nil {
			t.Errorf("%q accepted as %v", hosts, n)
		}
	}
}

func TestCheckServer(t *testing.T) {
	w := newWorld(t)
	if err := pki.CheckServer([]*x509.Certificate{w.device(t, pki.Server, "")}); err != nil {
		t.Error(err)
	}
	if err := pki.CheckServer(nil); pki.RuleOf(err) != pki.RuleNone {
		t.Error(err)
	}
	if err := pki.CheckServer([]*x509.Certificate{w.device(t, pki.Birth, "pump-01")}); pki.RuleOf(err) != pki.RulePolicy {
		t.Error(err)
	}
}

// OpenSSL is an independent judge of the chains.
func TestOpenSSLVerifiesTheChains(t *testing.T) {
	openssl := testkit.Need(t, "openssl")
	w := newWorld(t)
	dir := t.TempDir()
	write := func(name string, certs ...*x509.Certificate) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pki.EncodeCerts(certs...), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root := write("root.pem", w.root.Cert)
	at := []string{"verify", "-x509_strict", "-attime", "1793620800", "-CAfile", root} // now
	for _, class := range pki.Classes() {
		leaf := write(string(class)+".pem", w.device(t, class, "pump-01"))
		ca := write(string(class)+"-ca.pem", w.ca[class].Cert)
		for purpose, want := range map[string]bool{"sslserver": class == pki.Server, "sslclient": class != pki.Server} {
			policy := must(class.Policy())(t).String()
			args := append(slices.Clone(at), "-untrusted", ca, "-purpose", purpose, "-explicit_policy", "-policy", policy, leaf)
			out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput()
			if (err == nil) != want {
				t.Errorf("%s as %s: %v, want %t\n%s", class, purpose, err, want, out)
			}
		}
	}
}

// A hub that is reached by addresses alone: its authority excludes every DNS
// name, and OpenSSL takes a common name that could be one for one.
func TestOpenSSLVerifiesAHubWithoutAName(t *testing.T) {
	openssl := testkit.Need(t, "openssl")
	w := newWorld(t)
	names := must(pki.ParseNames([]string{"192.0.2.7"}))(t)
	ca := must(w.root.NewIntermediate(pki.Server, names, now))(t)
	leaf := must(ca.Issue(pki.ServerLeaf(names, must(pki.NewKey())(t).Public(), time.Hour), now))(t)
	dir := t.TempDir()
	for name, cert := range map[string]*x509.Certificate{"root.pem": w.root.Cert, "ca.pem": ca.Cert, "leaf.pem": leaf} {
		if err := os.WriteFile(filepath.Join(dir, name), pki.EncodeCerts(cert), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-attime", "1793620800",
		"-CAfile", filepath.Join(dir, "root.pem"), "-untrusted", filepath.Join(dir, "ca.pem"), "-purpose", "sslserver",
		"-verify_ip", "192.0.2.7", filepath.Join(dir, "leaf.pem")).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
