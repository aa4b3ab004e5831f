package birth_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"holdfast/birth"
	"holdfast/birth/birthtest"
	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/identity"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func TestVerifyRefuses(t *testing.T) {
	m := birthtest.NewMaker(t, now)
	other := birthtest.NewMaker(t, now)
	healthy := m.New()
	spare := m.New()
	// Most cases change a copy of the healthy TPM; making RSA keys is slow.
	tests := []struct {
		name   string
		change func(*birthtest.TPM)
		send   func(*evidence.BeginRequest)
		kind   fault.Kind
		want   string // in the error as the log has it
	}{
		{"EK of an unknown maker", func(p *birthtest.TPM) { p.EKChain = other.Chain(p, other.EKTemplate()) }, nil, fault.Denied, "no registered endorsement root"},
		{"no EK certificate", func(p *birthtest.TPM) { p.EKChain = nil }, nil, fault.Denied, "shows no EK certificate"},
		{"no issuer's certificate", func(p *birthtest.TPM) { p.EKChain = p.EKChain[:1] }, nil, fault.Denied, "no registered endorsement root"},
		{"EK certificate of another EK", func(p *birthtest.TPM) { p.EKChain = spare.EKChain }, nil, fault.Integrity, "EK certificate is of another key"},
		{"EK of another TPM", func(p *birthtest.TPM) { p.EK = spare.EK }, nil, fault.Integrity, "EK certificate is of another key"},
		{"expired EK certificate", ekCert(m, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }), nil, fault.Denied, "expired"},
		{"EK certificate of the future", ekCert(m, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }), nil, fault.Denied, "not yet valid"},
		{"EK certificate for TLS", ekCert(m, func(c *x509.Certificate) {
			c.UnknownExtKeyUsage, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}), nil, fault.Integrity, "tcg-kp-EKCertificate"},
		{"EK certificate for nothing", ekCert(m, func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }), nil, fault.Integrity, "tcg-kp-EKCertificate"},
		{"EK certificate for signatures", ekCert(m, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), nil, fault.Integrity, "key usage"},
		{"EK certificate of a CA", ekCert(m, func(c *x509.Certificate) { c.IsCA = true }), nil, fault.Integrity, "is a CA's"},
		{"unknown critical extension", ekCert(m, func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}), nil, fault.Denied, "unhandled critical extension"},
		{"too many certificates", func(p *birthtest.TPM) {
			p.EKChain = [][]byte{p.EKChain[0], p.EKChain[1], p.EKChain[1], p.EKChain[1], p.EKChain[1], p.EKChain[1], p.EKChain[1]}
		}, nil, fault.Integrity, "7 certificates"},
		{"a chain of garbage", func(p *birthtest.TPM) { p.EKChain = [][]byte{{1, 2, 3}} }, nil, fault.Integrity, "certificate 1"},
		{"a long certificate", func(p *birthtest.TPM) { p.EKChain = [][]byte{make([]byte, 9<<10)} }, nil, fault.Integrity, "bytes"},

		{"EK with other attributes", func(p *birthtest.TPM) { p.EK.ObjectAttributes.UserWithAuth = true }, nil, fault.Integrity, "none of the default EK templates"},
		{"EK with another policy", func(p *birthtest.TPM) { p.EK.AuthPolicy.Buffer = make([]byte, 32) }, nil, fault.Integrity, "none of the default EK templates"},
		{"EK with a byte more", nil, func(r *evidence.BeginRequest) { r.TPM.EKPublic = append(r.TPM.EKPublic, 0) }, fault.Integrity, "EK: "},
		{"EK cut short", nil, func(r *evidence.BeginRequest) { r.TPM.EKPublic = r.TPM.EKPublic[:100] }, fault.Integrity, "EK: "},
		{"no EK", nil, func(r *evidence.BeginRequest) { r.TPM.EKPublic = nil }, fault.Integrity, "EK: "},
		{"a long EK", nil, func(r *evidence.BeginRequest) { r.TPM.EKPublic = make([]byte, 4096) }, fault.Integrity, "4096 bytes"},

		{"unrestricted AK", func(p *birthtest.TPM) { p.AK.ObjectAttributes.Restricted = false }, nil, fault.Integrity, "attestation key: is not restricted"},
		{"AK that could be copied", func(p *birthtest.TPM) { p.AK.ObjectAttributes.FixedTPM = false }, nil, fault.Integrity, "attestation key: is not fixed to its TPM"},
		{"AK under a parent that could move", func(p *birthtest.TPM) { p.AK.ObjectAttributes.FixedParent = false }, nil, fault.Integrity, "attestation key: is not fixed to its TPM"},
		{"AK that was imported", func(p *birthtest.TPM) { p.AK.ObjectAttributes.SensitiveDataOrigin = false }, nil, fault.Integrity, "attestation key: was not made in the TPM"},
		{"AK that decrypts", func(p *birthtest.TPM) { p.AK.ObjectAttributes.Decrypt = true }, nil, fault.Integrity, "attestation key: is not for signing alone"},
		{"AK that does not sign", func(p *birthtest.TPM) { p.AK.ObjectAttributes.SignEncrypt = false }, nil, fault.Integrity, "attestation key: is not for signing alone"},
		{"AK without scheme", func(p *birthtest.TPM) { p.AK.Parameters = noScheme() }, nil, fault.Integrity, "attestation key: does not sign with"},
		{"AK named by SHA-1", func(p *birthtest.TPM) { p.AK.NameAlg = tpm2.TPMAlgSHA1 }, nil, fault.Integrity, "attestation key: is not named by SHA-256"},
		{"AK off the curve", func(p *birthtest.TPM) { p.AK.Unique = point(1, 1) }, nil, fault.Integrity, "attestation key: "},
		{"AK of garbage", nil, func(r *evidence.BeginRequest) { r.TPM.AKPublic = []byte("AK") }, fault.Integrity, "attestation key: "},

		{"restricted birth key", func(p *birthtest.TPM) { p.Birth.ObjectAttributes.Restricted = true }, nil, fault.Integrity, "birth key: is restricted"},
		{"birth key that could be copied", func(p *birthtest.TPM) { p.Birth.ObjectAttributes.FixedTPM = false }, nil, fault.Integrity, "birth key: is not fixed to its TPM"},
		{"birth key under a parent that could move", func(p *birthtest.TPM) { p.Birth.ObjectAttributes.FixedParent = false }, nil, fault.Integrity, "birth key: is not fixed to its TPM"},
		{"birth key that was imported", func(p *birthtest.TPM) { p.Birth.ObjectAttributes.SensitiveDataOrigin = false }, nil, fault.Integrity, "birth key: was not made in the TPM"},
		{"birth key that decrypts", func(p *birthtest.TPM) { p.Birth.ObjectAttributes.Decrypt = true }, nil, fault.Integrity, "birth key: is not for signing alone"},
		{"birth key without authorisation", func(p *birthtest.TPM) { p.Birth.ObjectAttributes.UserWithAuth = false }, nil, fault.Integrity, "birth key: is not used by"},
		{"birth key that is an RSA key", func(p *birthtest.TPM) { p.Birth = spare.EK; p.Birth.ObjectAttributes = healthy.Birth.ObjectAttributes }, nil, fault.Integrity, "birth key: is not an ECC key"},
		{"birth key of garbage", nil, func(r *evidence.BeginRequest) { r.TPM.BirthPublic = []byte{0, 1} }, fault.Integrity, "birth key: "},

		{"certified by another AK", func(p *birthtest.TPM) { p.AKKey = spare.AKKey }, nil, fault.Integrity, "signature is not the attestation key's"},
		{"certification of another key", func(p *birthtest.TPM) {
			p.Attest = func(a *tpm2.TPMSAttest) { a.Attested = certify(tpm2.TPM2BName{Buffer: bytes.Repeat([]byte{1}, 34)}) }
		}, nil, fault.Integrity, "about another key"},
		{"a quote in place of a certification", func(p *birthtest.TPM) {
			p.Attest = func(a *tpm2.TPMSAttest) {
				a.Type, a.Attested = tpm2.TPMSTAttestQuote, tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{})
			}
		}, nil, fault.Integrity, "not a certification made by a TPM"},
		{"a statement that no TPM made", func(p *birthtest.TPM) { p.Attest = func(a *tpm2.TPMSAttest) { a.Magic = 0xff544348 } }, nil, fault.Integrity, "statement"},
		{"a changed statement", nil, func(r *evidence.BeginRequest) { r.TPM.Certify.Attest[20] ^= 1 }, fault.Integrity, "signature is not the attestation key's"},
		{"no signature", nil, func(r *evidence.BeginRequest) { r.TPM.Certify.Signature = nil }, fault.Integrity, "signature"},
		{"a long statement", nil, func(r *evidence.BeginRequest) { r.TPM.Certify.Attest = make([]byte, 4096) }, fault.Integrity, "4096 bytes"},

		{"request for another key", func(p *birthtest.TPM) { p.CSRKey = spare.BirthKey }, nil, fault.Integrity, "another key than the birth key"},
		{"request signed by nobody", nil, func(r *evidence.BeginRequest) { r.CSR[len(r.CSR)-3] ^= 1 }, fault.Invalid, "certificate request"},
		{"request of garbage", nil, func(r *evidence.BeginRequest) { r.CSR = []byte("CSR") }, fault.Invalid, "certificate request"},
		{"no request", nil, func(r *evidence.BeginRequest) { r.CSR = nil }, fault.Invalid, "certificate request"},
		{"a long request", nil, func(r *evidence.BeginRequest) { r.CSR = make([]byte, 1<<16) }, fault.Invalid, "bytes"},
		{"a long token", nil, func(r *evidence.BeginRequest) { r.Token = strings.Repeat("t", 300) }, fault.Invalid, "claim token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := *healthy
			if tt.change != nil {
				tt.change(&p)
			}
			req := p.Show()
			if tt.send != nil {
				tt.send(&req)
			}
			_, err := birth.Verify(req, []birth.Root{m.Register(birth.Hardware)}, now)
			if err == nil || fault.Of(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v (%s), want %s with %q", err, fault.Of(err), tt.kind, tt.want)
			}
			if tt.kind == fault.Integrity && fault.Public(err) != "the TPM's evidence does not verify" {
				t.Errorf("the device learns which check failed: %q", fault.Public(err))
			}
		})
	}
}

func ekCert(m *birthtest.Maker, spoil func(*x509.Certificate)) func(*birthtest.TPM) {
	return func(p *birthtest.TPM) {
		c := m.EKTemplate()
		spoil(c)
		p.EKChain = m.Chain(p, c)
	}
}

func noScheme() tpm2.TPMUPublicParms {
	return tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256})
}

func point(x, y byte) tpm2.TPMUPublicID {
	return tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: []byte{x}}, Y: tpm2.TPM2BECCParameter{Buffer: []byte{y}}})
}

func certify(n tpm2.TPM2BName) tpm2.TPMUAttest {
	return tpm2.NewTPMUAttest(tpm2.TPMSTAttestCertify, &tpm2.TPMSCertifyInfo{Name: n, QualifiedName: n})
}

func TestVerifySaysWhatWasShown(t *testing.T) {
	m, other := birthtest.NewMaker(t, now), birthtest.NewMaker(t, now)
	p := m.New()
	req := p.Show()
	req.Token = "token"
	for _, class := range []birth.Class{birth.Hardware, birth.Software} {
		v, err := birth.Verify(req, []birth.Root{other.Register(birth.Hardware), m.Register(class)}, now)
		if err != nil {
			t.Fatal(err)
		}
		if v.Class != class || v.EK != identity.Sum(req.TPM.EKPublic) || v.Token != "token" || v.Subject == "" || v.Issuer != "CN=TPM issuer" {
			t.Errorf("%+v", v.Showing)
		}
		if want, _ := identity.KeyDigest(p.BirthKey.Public()); v.Key != want {
			t.Errorf("birth key %s", v.Key)
		}
	}
}

// TestSoftwareWinsOverHardware: a chain that leads to roots of both classes is
// taken for the lesser.
func TestSoftwareWinsOverHardware(t *testing.T) {
	m := birthtest.NewMaker(t, now)
	roots := []birth.Root{m.Register(birth.Hardware), {Name: "issuer", Class: birth.Software, Cert: m.Issuer}}
	v, err := birth.Verify(m.New().Show(), roots, now)
	if err != nil || v.Class != birth.Software {
		t.Errorf("class %q, %v", v.Class, err)
	}
}

func TestChallengeIsForOneTPMAndOneKey(t *testing.T) {
	m := birthtest.NewMaker(t, now)
	p := m.New()
	v, err := birth.Verify(p.Show(), []birth.Root{m.Register(birth.Hardware)}, now)
	if err != nil {
		t.Fatal(err)
	}
	secret, credential, encrypted, err := v.Challenge()
	if err != nil {
		t.Fatal(err)
	}
	if len(secret) != birth.SecretSize || !bytes.Equal(p.Activate(credential, encrypted), secret) {
		t.Error("the TPM cannot answer its challenge")
	}
	p.NewKeys()
	if bytes.Equal(p.Activate(credential, encrypted), secret) {
		t.Error("the challenge is answered for another attestation key")
	}
}

func TestFileKeyShowsOnlyItsKey(t *testing.T) {
	p := birthtest.NewMaker(t, now).New()
	req := p.Show()
	req.TPM, req.Token = nil, "token"
	v, err := birth.Verify(req, nil, now)
	if err != nil || v.Class != birth.File || v.EK != (identity.Digest{}) || v.AK != nil {
		t.Errorf("%+v, %v", v, err)
	}
	if _, _, _, err := v.Challenge(); err == nil {
		t.Error("a challenge without a TPM")
	}
}

func TestParseEK(t *testing.T) {
	p := birthtest.NewMaker(t, now).New()
	area := tpm2.Marshal(&p.EK)
	want := identity.Sum(area)
	b64 := base64.StdEncoding.EncodeToString(area)
	sized := binary.BigEndian.AppendUint16(nil, uint16(len(area)))
	eccKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecc := tpm2.ECCEKTemplate
	ecc.Unique = birthtest.Area(eccKey, true).Unique
	for name, file := range map[string][]byte{
		"TPMT_PUBLIC":  area,
		"TPM2B_PUBLIC": append(sized, area...),
		"hexadecimal":  []byte(want.String()),
		"with newline": []byte(want.String() + "\n"),
		"JSON digest":  []byte(`{"ek":"` + want.String() + `"}`),
		"JSON area":    []byte(` {"ek_public":"` + b64 + `"}` + "\n"),
	} {
		if got, err := birth.ParseEK(file); err != nil || got != want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if got, err := birth.ParseEK(tpm2.Marshal(&ecc)); err != nil || got != identity.Sum(tpm2.Marshal(&ecc)) {
		t.Errorf("ECC: %s, %v", got, err)
	}
	srk := tpm2.Marshal(&tpm2.RSASRKTemplate)
	ak := tpm2.Marshal(&p.AK)
	for name, file := range map[string][]byte{
		"nothing":            nil,
		"garbage":            []byte("EK"),
		"another size":       append([]byte{1, 0}, area...),
		"a byte more":        append(bytes.Clone(area), 0),
		"half":               area[:len(area)/2],
		"a storage key":      srk,
		"an attestation key": ak,
		"half a digest":      []byte(want.String()[:32]),
		"a digest's bytes":   want[:],
		"empty JSON":         []byte(`{}`),
		"both members":       []byte(`{"ek":"` + want.String() + `","ek_public":"` + b64 + `"}`),
		"unknown member":     []byte(`{"ek":"` + want.String() + `","id":"pump-01"}`),
		"JSON of another":    []byte(`{"ek_public":"` + base64.StdEncoding.EncodeToString(ak) + `"}`),
		"too long":           make([]byte, 5000),
	} {
		if got, err := birth.ParseEK(file); err == nil {
			t.Errorf("%s: accepted as %s", name, got)
		}
	}
}

func FuzzVerify(f *testing.F) {
	m := birthtest.NewMaker(f, now)
	p := m.New()
	req := p.Show()
	f.Add(req.TPM.EKPublic, req.TPM.AKPublic, req.TPM.BirthPublic, req.TPM.Certify.Attest, req.TPM.Certify.Signature, req.TPM.EKChain[0], req.CSR)
	roots := []birth.Root{m.Register(birth.Software)}
	good := [][]byte{req.TPM.EKPublic, req.TPM.AKPublic, req.TPM.BirthPublic}
	f.Fuzz(func(t *testing.T, ek, ak, key, attest, signature, cert, csr []byte) {
		r := evidence.BeginRequest{CSR: csr, TPM: &evidence.Birth{EKPublic: ek, AKPublic: ak, BirthPublic: key,
			EKChain: [][]byte{cert, req.TPM.EKChain[1]}, Certify: evidence.Certification{Attest: attest, Signature: signature}}}
		if _, err := birth.Verify(r, roots, now); err == nil {
			for i, area := range [][]byte{ek, ak, key} {
				if !bytes.Equal(area, good[i]) {
					t.Errorf("area %d was changed and verifies", i)
				}
			}
		}
		_, _ = birth.ParseEK(ek)
	})
}

// An EK whose modulus is shorter than its template says is none.
func TestParseEKRefusesRSA1024(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	area := tpm2.RSAEKTemplate
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: new(big.Int).Rsh(key.N, 1024).Bytes()})
	if d, err := birth.ParseEK(tpm2.Marshal(&area)); err == nil {
		t.Errorf("accepted as %s", d)
	}
}
