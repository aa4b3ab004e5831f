// Package birthtest forges what a TPM shows of itself, with keys that are in
// no TPM, so that a test can change anything before it is signed.
package birthtest

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"holdfast/birth"
	"holdfast/evidence"
)

// Maker makes TPMs: a root, and an issuer under it.
type Maker struct {
	Root, Issuer *x509.Certificate

	t   testing.TB
	now time.Time
	key *ecdsa.PrivateKey // of the issuer
}

// NewMaker makes a maker whose certificates are valid at now.
func NewMaker(t testing.TB, now time.Time) *Maker {
	t.Helper()
	m := &Maker{t: t, now: now, key: newKey(t)}
	rootKey := newKey(t)
	m.Root = m.sign(caTemplate("TPM root", now), nil, rootKey.Public(), rootKey)
	m.Issuer = m.sign(caTemplate("TPM issuer", now), m.Root, m.key.Public(), rootKey)
	return m
}

func caTemplate(cn string, now time.Time) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, NotBefore: now.Add(-time.Hour),
		NotAfter: now.Add(10000 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
}

// Register returns the maker's root as it is registered with a hub.
func (m *Maker) Register(class birth.Class) birth.Root {
	return birth.Root{Name: "maker", Class: class, Cert: m.Root}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (m *Maker) sign(tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	m.t.Helper()
	if parent == nil {
		parent = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		m.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		m.t.Fatal(err)
	}
	return cert
}

// EKTemplate is an EK certificate as TCG wants it; a test may spoil it.
func (m *Maker) EKTemplate() *x509.Certificate {
	// GeneralNames with a directoryName that tells the TPM's model.
	name, err := asn1.Marshal(pkix.Name{CommonName: "id:00001014"}.ToRDNSequence())
	if err != nil {
		m.t.Fatal(err)
	}
	dir, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name})
	if err != nil {
		m.t.Fatal(err)
	}
	san, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: dir})
	if err != nil {
		m.t.Fatal(err)
	}
	return &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: m.now.Add(-time.Hour), NotAfter: m.now.Add(1000 * time.Hour),
		KeyUsage: x509.KeyUsageKeyEncipherment, BasicConstraintsValid: true,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}},
		ExtraExtensions:    []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: san}}}
}

// TPM is a forged TPM. Its areas and certificates may be changed before Show.
type TPM struct {
	EK        tpm2.TPMTPublic
	EKChain   [][]byte
	AK, Birth tpm2.TPMTPublic
	AKKey     *ecdsa.PrivateKey
	BirthKey  *ecdsa.PrivateKey
	CSRKey    *ecdsa.PrivateKey // BirthKey unless a test changes it
	CSR       x509.CertificateRequest
	Attest    func(*tpm2.TPMSAttest) // changes the certification before it is signed
	EKKey     *rsa.PrivateKey

	t testing.TB
}

// New makes a healthy TPM.
func (m *Maker) New() *TPM {
	m.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		m.t.Fatal(err)
	}
	p := &TPM{t: m.t, EKKey: key, EK: tpm2.RSAEKTemplate}
	p.EK.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.FillBytes(make([]byte, 256))})
	p.EKChain = m.Chain(p, m.EKTemplate())
	p.NewKeys()
	return p
}

// Chain makes an EK certificate of that form for p, and its chain.
func (m *Maker) Chain(p *TPM, tmpl *x509.Certificate) [][]byte {
	m.t.Helper()
	return m.ChainOf(p.EKKey.Public(), tmpl)
}

// ChainOf is Chain for any EK.
func (m *Maker) ChainOf(ek crypto.PublicKey, tmpl *x509.Certificate) [][]byte {
	m.t.Helper()
	return [][]byte{m.sign(tmpl, m.Issuer, ek, m.key).Raw, m.Issuer.Raw}
}

// NewKeys makes another attestation key and another birth key.
func (p *TPM) NewKeys() {
	p.AKKey, p.BirthKey = newKey(p.t), newKey(p.t)
	p.CSRKey = p.BirthKey
	p.AK, p.Birth = Area(p.AKKey, true), Area(p.BirthKey, false)
}

// Area is the public area of a signing key.
func Area(key *ecdsa.PrivateKey, restricted bool) tpm2.TPMTPublic {
	point, err := key.PublicKey.Bytes() // 4, X, Y
	if err != nil {
		panic(err) // not of a P-256 key
	}
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
			UserWithAuth: true, NoDA: true, SignEncrypt: true, Restricted: restricted},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:33]},
			Y: tpm2.TPM2BECCParameter{Buffer: point[33:]},
		}),
	}
}

// Show returns the request of a device with this TPM.
func (p *TPM) Show() evidence.BeginRequest {
	p.t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &p.CSR, p.CSRKey)
	if err != nil {
		p.t.Fatal(err)
	}
	birthArea := tpm2.Marshal(&p.Birth)
	return evidence.BeginRequest{CSR: csr, TPM: &evidence.Birth{
		EKPublic: tpm2.Marshal(&p.EK), EKChain: p.EKChain, AKPublic: tpm2.Marshal(&p.AK), BirthPublic: birthArea, Certify: p.certify(birthArea)}}
}

func (p *TPM) certify(area []byte) evidence.Certification {
	digest := sha256.Sum256(area)
	name := tpm2.TPM2BName{Buffer: append([]byte{0, 0x0b}, digest[:]...)}
	a := tpm2.TPMSAttest{Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestCertify,
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestCertify, &tpm2.TPMSCertifyInfo{Name: name, QualifiedName: name})}
	if p.Attest != nil {
		p.Attest(&a)
	}
	text := tpm2.Marshal(&a)
	digest = sha256.Sum256(text)
	r, s, err := ecdsa.Sign(rand.Reader, p.AKKey, digest[:])
	if err != nil {
		p.t.Fatal(err)
	}
	sig := tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
		Hash:       tpm2.TPMAlgSHA256,
		SignatureR: tpm2.TPM2BECCParameter{Buffer: r.FillBytes(make([]byte, 32))},
		SignatureS: tpm2.TPM2BECCParameter{Buffer: s.FillBytes(make([]byte, 32))}})}
	return evidence.Certification{Attest: text, Signature: tpm2.Marshal(&sig)}
}

// Activate does what TPM2_ActivateCredential does, for the AK that the TPM has
// now (TPM 2.0 Library, Part 1, section 24).
func (p *TPM) Activate(credential, encrypted []byte) []byte {
	p.t.Helper()
	seed, err := rsa.DecryptOAEP(sha256.New(), nil, p.EKKey, encrypted, []byte("IDENTITY\x00"))
	if err != nil {
		p.t.Fatal(err)
	}
	area := sha256.Sum256(tpm2.Marshal(&p.AK))
	name := append([]byte{0, 0x0b}, area[:]...)
	key := tpm2.KDFa(crypto.SHA256, seed, "STORAGE", name, nil, 128)
	block, err := aes.NewCipher(key)
	if err != nil {
		p.t.Fatal(err)
	}
	hmac, err := tpm2.Unmarshal[tpm2.TPM2BDigest](credential)
	if err != nil {
		p.t.Fatal(err)
	}
	sealed := credential[2+len(hmac.Buffer):]
	plain := make([]byte, len(sealed))
	//lint:ignore SA1019 the TPM encrypts credentials in this mode
	cipher.NewCFBDecrypter(block, make([]byte, 16)).XORKeyStream(plain, sealed)
	if len(plain) < 2 {
		p.t.Fatalf("credential of %d bytes", len(plain))
	}
	return plain[2:]
}
