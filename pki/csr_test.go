package pki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/netip"
	"net/url"
	"testing"

	"holdfast/pki"
)

func extension(id string, critical bool) pkix.Extension {
	return pkix.Extension{Id: asn1OID(id), Critical: critical, Value: []byte{5, 0}}
}

func asn1OID(text string) asn1.ObjectIdentifier {
	var oid asn1.ObjectIdentifier
	n := 0
	for _, c := range text + "." {
		if c == '.' {
			oid, n = append(oid, n), 0
			continue
		}
		n = 10*n + int(c-'0')
	}
	return oid
}

func makeCSR(t testing.TB, tmpl x509.CertificateRequest, key crypto.Signer) []byte {
	t.Helper()
	return must(x509.CreateCertificateRequest(rand.Reader, &tmpl, key))(t)
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	return must(asn1.Marshal(v))(t)
}

func ext(t testing.TB, id string, v any) []pkix.Extension {
	t.Helper()
	return []pkix.Extension{{Id: asn1OID(id), Value: marshal(t, v)}}
}

func TestCheckCSRRefusesByRule(t *testing.T) {
	const id = "pump-01"
	p256 := newKey(t)
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t)
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))(t)
	p521 := must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))(t)
	rsa2048 := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	cn := pkix.Name{CommonName: id}
	own := &url.URL{Scheme: "urn", Opaque: "holdfast:device:" + id}
	broken := makeCSR(t, x509.CertificateRequest{Subject: cn}, p256)
	broken[len(broken)-1] ^= 1
	type csr = x509.CertificateRequest
	for _, tc := range []struct {
		name string
		der  []byte
		want pki.Rule
	}{
		{"CN alone", makeCSR(t, csr{Subject: cn}, p256), ""},
		{"empty subject", makeCSR(t, csr{}, p256), ""},
		{"P-384", makeCSR(t, csr{Subject: cn}, p384), ""},
		{"own URN", makeCSR(t, csr{Subject: cn, URIs: []*url.URL{own}}, p256), ""},
		{"own DNS name", makeCSR(t, csr{Subject: cn, DNSNames: []string{id}}, p256), ""},
		{"usages of the profile", makeCSR(t, csr{Subject: cn, ExtraExtensions: append(
			ext(t, "2.5.29.15", asn1.BitString{Bytes: []byte{0x80}, BitLength: 1}),
			ext(t, "2.5.29.37", []asn1.ObjectIdentifier{asn1OID("1.3.6.1.5.5.7.3.2")})...)}, p256), ""},
		{"CA:FALSE", makeCSR(t, csr{ExtraExtensions: ext(t, "2.5.29.19", struct{}{})}, p256), ""},

		{"size", bytes.Repeat([]byte{0x30}, pki.MaxCSR+1), pki.RuleSize},
		{"empty", nil, pki.RuleEncoding},
		{"garbage", []byte("-----BEGIN"), pki.RuleEncoding},
		{"trailing byte", append(makeCSR(t, csr{Subject: cn}, p256), 0), pki.RuleEncoding},
		{"broken signature", broken, pki.RuleSignature},
		{"RSA", makeCSR(t, csr{Subject: cn}, rsa2048), pki.RuleKeyType},
		{"Ed25519", makeCSR(t, csr{Subject: cn}, ed), pki.RuleKeyType},
		{"P-224", makeCSR(t, csr{Subject: cn}, p224), pki.RuleKeySize},
		{"P-521", makeCSR(t, csr{Subject: cn}, p521), pki.RuleKeySize},
		{"SHA-1", makeCSR(t, csr{Subject: cn, SignatureAlgorithm: x509.ECDSAWithSHA1}, p256), pki.RuleAlgorithm},
		{"another CN", makeCSR(t, csr{Subject: pkix.Name{CommonName: "pump-02"}}, p256), pki.RuleSubject},
		{"organization", makeCSR(t, csr{Subject: pkix.Name{CommonName: id, Organization: []string{"x"}}}, p256), pki.RuleSubject},
		{"two CNs", makeCSR(t, csr{Subject: pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: asn1OID("2.5.4.3"), Value: id}, {Type: asn1OID("2.5.4.3"), Value: id}}}}, p256), pki.RuleSubject},
		{"another URN", makeCSR(t, csr{URIs: []*url.URL{{Scheme: "urn", Opaque: "holdfast:device:pump-02"}}}, p256), pki.RuleName},
		{"another DNS name", makeCSR(t, csr{DNSNames: []string{"hub.example"}}, p256), pki.RuleName},
		{"IP address", makeCSR(t, csr{IPAddresses: append(csr{}.IPAddresses, netip.MustParseAddr("192.0.2.1").AsSlice())}, p256), pki.RuleName},
		{"e-mail address", makeCSR(t, csr{EmailAddresses: []string{"a@b.example"}}, p256), pki.RuleName},
		{"other name", makeCSR(t, csr{ExtraExtensions: ext(t, "2.5.29.17",
			[]asn1.RawValue{{Class: 2, Tag: 8, Bytes: marshal(t, asn1OID("1.2.3"))}})}, p256), pki.RuleName},
		{"unknown extension", makeCSR(t, csr{ExtraExtensions: []pkix.Extension{extension("1.2.3.4", false)}}, p256), pki.RuleExtension},
		{"policy", makeCSR(t, csr{ExtraExtensions: []pkix.Extension{extension("2.5.29.32", false)}}, p256), pki.RuleExtension},
		{"certSign", makeCSR(t, csr{ExtraExtensions: ext(t, "2.5.29.15",
			asn1.BitString{Bytes: []byte{0x84}, BitLength: 6})}, p256), pki.RuleExtension},
		{"serverAuth", makeCSR(t, csr{ExtraExtensions: ext(t, "2.5.29.37",
			[]asn1.ObjectIdentifier{asn1OID("1.3.6.1.5.5.7.3.1")})}, p256), pki.RuleExtension},
		{"CA:TRUE", makeCSR(t, csr{ExtraExtensions: ext(t, "2.5.29.19", struct{ CA bool }{true})}, p256), pki.RuleCA},
		{"challenge password", withAttribute(t, p256, "1.2.840.113549.1.9.7"), pki.RuleAttribute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			csr, err := pki.CheckCSR(tc.der, id)
			if pki.RuleOf(err) != tc.want || (err == nil) != (tc.want == "") || (csr == nil) != (err != nil) {
				t.Errorf("got %v, want rule %q", err, tc.want)
			}
		})
	}
}

// withAttribute makes a request with an attribute that x509 would not write.
func withAttribute(t testing.TB, key *ecdsa.PrivateKey, id string) []byte {
	t.Helper()
	var parsed struct {
		Info struct {
			Version            int
			Subject, PublicKey asn1.RawValue
			Attributes         []asn1.RawValue `asn1:"tag:0"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	der := makeCSR(t, x509.CertificateRequest{Subject: pkix.Name{CommonName: "pump-01"}}, key)
	if _, err := asn1.Unmarshal(der, &parsed); err != nil {
		t.Fatal(err)
	}
	attribute := marshal(t, struct {
		Type   asn1.ObjectIdentifier
		Values []string `asn1:"set"`
	}{asn1OID(id), []string{"secret"}})
	parsed.Info.Attributes = append(parsed.Info.Attributes, asn1.RawValue{FullBytes: attribute})
	digest := crypto.SHA256.New()
	digest.Write(marshal(t, parsed.Info))
	sig := must(key.Sign(rand.Reader, digest.Sum(nil), crypto.SHA256))(t)
	parsed.Signature = asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	return marshal(t, parsed)
}

func FuzzCSR(f *testing.F) {
	key := newKey(f)
	f.Add(makeCSR(f, x509.CertificateRequest{Subject: pkix.Name{CommonName: "pump-01"}}, key))
	f.Add(makeCSR(f, x509.CertificateRequest{DNSNames: []string{"pump-01"}}, key))
	f.Add(makeCSR(f, x509.CertificateRequest{ExtraExtensions: ext(f, "2.5.29.19", struct{ CA bool }{true})}, key))
	f.Add(withAttribute(f, key, "1.2.840.113549.1.9.7"))
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := pki.CheckCSR(der, "pump-01")
		if err != nil {
			if pki.RuleOf(err) == "" {
				t.Fatalf("refusal without a rule: %v", err)
			}
			return
		}
		if cn := csr.Subject.CommonName; cn != "" && cn != "pump-01" {
			t.Fatalf("accepted for %q", cn)
		}
		if csr.CheckSignature() != nil {
			t.Fatal("accepted without its key")
		}
	})
}
