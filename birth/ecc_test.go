package birth_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"io"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/birth"
	"holdfast/birth/birthtest"
	"holdfast/evidence"
	"holdfast/internal/swtpm/swtpmtest"
)

// made is a key in a TPM.
type made struct {
	tpm2.NamedHandle
	area tpm2.TPMTPublic
}

func primary(t *testing.T, tpm transport.TPM, hierarchy tpm2.TPMHandle, template tpm2.TPMTPublic) made {
	t.Helper()
	r, err := tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: tpm2.New2B(template)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = tpm2.FlushContext{FlushHandle: r.ObjectHandle}.Execute(tpm) })
	area, err := r.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	return made{tpm2.NamedHandle{Handle: r.ObjectHandle, Name: r.Name}, *area}
}

// TestChallengeToAnECCEK: a TPM whose EK is on P-256 answers its challenge.
func TestChallengeToAnECCEK(t *testing.T) {
	machine := swtpmtest.New(t)
	tpm := machine.Connect()
	defer tpm.Close()
	now := time.Now()
	m := birthtest.NewMaker(t, now)
	p := m.New() // forged but for what follows

	ek := primary(t, tpm, tpm2.TPMRHEndorsement, tpm2.ECCEKTemplate)
	template := p.AK
	template.Unique = tpm2.TPMUPublicID{}
	ak := primary(t, tpm, tpm2.TPMRHOwner, template)

	req := p.Show()
	req.TPM.EKPublic, req.TPM.AKPublic = tpm2.Marshal(&ek.area), tpm2.Marshal(&ak.area)
	key := eccKey(t, ek.area)
	cert := m.EKTemplate()
	req.TPM.EKChain = m.ChainOf(key, cert)
	if _, err := birth.Verify(req, []birth.Root{m.Register(birth.Hardware)}, now); err == nil {
		t.Error("an ECC EK certificate for key encipherment is accepted")
	}
	cert.KeyUsage = x509.KeyUsageKeyAgreement
	req.TPM.EKChain = m.ChainOf(key, cert)
	if _, err := birth.Verify(req, []birth.Root{m.Register(birth.Hardware)}, now); err == nil {
		t.Fatal("a key that the AK did not certify is accepted")
	}

	own := primary(t, tpm, tpm2.TPMRHOwner, unrestricted(template))
	req.TPM.BirthPublic = tpm2.Marshal(&own.area)
	var err error
	if req.CSR, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, signer{t, tpm, own}); err != nil {
		t.Fatal(err)
	}
	r, err := tpm2.Certify{ObjectHandle: auth(own), SignHandle: auth(ak), InScheme: null()}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	req.TPM.Certify = evidence.Certification{Attest: r.CertifyInfo.Bytes(), Signature: tpm2.Marshal(&r.Signature)}
	v, err := birth.Verify(req, []birth.Root{m.Register(birth.Hardware)}, now)
	if err != nil {
		t.Fatal(err)
	}
	secret, credential, encrypted, err := v.Challenge()
	if err != nil {
		t.Fatal(err)
	}
	got, err := tpm2.ActivateCredential{
		ActivateHandle: auth(ak), KeyHandle: tpm2.AuthHandle{Handle: ek.Handle, Name: ek.Name, Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16, endorsed)},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: credential}, Secret: tpm2.TPM2BEncryptedSecret{Buffer: encrypted},
	}.Execute(tpm)
	if err != nil || !bytes.Equal(got.CertInfo.Buffer, secret) {
		t.Errorf("the TPM cannot answer its challenge: %v", err)
	}
}

func auth(k made) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: k.Handle, Name: k.Name, Auth: tpm2.PasswordAuth(nil)}
}

func null() tpm2.TPMTSigScheme { return tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull} }

// endorsed satisfies the policy of EKs.
func endorsed(tpm transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
	_, err := tpm2.PolicySecret{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		PolicySession: session, NonceTPM: nonce}.Execute(tpm)
	return err
}

func unrestricted(template tpm2.TPMTPublic) tpm2.TPMTPublic {
	template.ObjectAttributes.Restricted = false
	return template
}

func eccKey(t *testing.T, area tpm2.TPMTPublic) *ecdsa.PublicKey {
	t.Helper()
	params, err := area.Parameters.ECCDetail()
	if err != nil {
		t.Fatal(err)
	}
	point, err := area.Unique.ECC()
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm2.ECDSAPub(params, point)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signer is a crypto.Signer in a TPM.
type signer struct {
	t   *testing.T
	tpm transport.TPM
	made
}

func (s signer) Public() crypto.PublicKey { return eccKey(s.t, s.area) }

func (s signer) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	r, err := tpm2.Sign{KeyHandle: auth(s.made), Digest: tpm2.TPM2BDigest{Buffer: digest}, InScheme: null(),
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}}.Execute(s.tpm)
	if err != nil {
		return nil, err
	}
	sig, err := r.Signature.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer)})
}
