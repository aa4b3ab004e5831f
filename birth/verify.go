package birth

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"

	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/pki"
)

// maxToken bounds a claim token in bytes.
const maxToken = 256

// Verified is a request to be born whose evidence holds, as far as it can
// without the answer to a challenge.
type Verified struct {
	Showing
	CSR   []byte
	AK    []byte          // TPMT_PUBLIC; nil without a TPM
	EKKey identity.Digest // of the EK's public key; zero without a TPM
	AKKey identity.Digest // of the AK's public key; zero without a TPM

	ek *tpm2.TPMTPublic
}

// Verify checks everything a request shows of itself, but not yet who it is:
// the CSR is signed by its key; that key was born in the TPM that the AK lives
// in, according to the AK; AK and birth key are of the demanded kinds; and the
// EK's certificate leads to one of roots. That the AK lives in the TPM of the
// EK is what the challenge is for.
//
// What comes back with an error has as much of the Showing as was read, so
// that a refusal can be recorded with it. The error's kind is Invalid for what
// is malformed, Integrity for what does not verify, Denied for a TPM of an
// unknown maker.
func Verify(req evidence.BeginRequest, roots []Root, now time.Time) (*Verified, error) {
	v := &Verified{Showing: Showing{Token: req.Token, Class: File}, CSR: req.CSR}
	if len(req.Token) > maxToken {
		return v, fault.New(fault.Invalid, "claim token has %d bytes, at most %d are allowed", len(req.Token), maxToken)
	}
	key, err := csrKey(req.CSR)
	if err != nil {
		return v, fault.New(fault.Invalid, "certificate request: %w", err)
	}
	if v.Key, err = identity.KeyDigest(key); err != nil {
		return v, fault.New(fault.Invalid, "certificate request: %w", err)
	}
	if req.TPM == nil {
		return v, nil
	}
	v.Class = ""
	if err := v.verifyTPM(*req.TPM, key, roots, now); err != nil {
		if fault.Of(err) == fault.Internal {
			err = fault.Hide(fault.Integrity, "the TPM's evidence does not verify", err)
		}
		return v, err
	}
	return v, nil
}

// csrKey returns the key of a request after checking that it signed it. The
// rules of the request's contents are the issuer's.
func csrKey(der []byte) (crypto.PublicKey, error) {
	if len(der) > pki.MaxCSR {
		return nil, fmt.Errorf("%d bytes, at most %d are read", len(der), pki.MaxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, err
	}
	return csr.PublicKey, nil
}

func (v *Verified) verifyTPM(b evidence.Birth, csr crypto.PublicKey, roots []Root, now time.Time) error {
	ek, ekKey, err := parseEK(b.EKPublic)
	if err != nil {
		return fmt.Errorf("EK: %w", err)
	}
	v.ek, v.EK = ek, identity.Sum(b.EKPublic)
	if v.EKKey, err = identity.KeyDigest(ekKey); err != nil {
		return fmt.Errorf("EK: %w", err)
	}
	leaf, class, err := checkChain(b.EKChain, ekKey, roots, now)
	if leaf != nil {
		v.Subject, v.Issuer = ekSubject(leaf), leaf.Issuer.String()
	}
	if err != nil {
		return err
	}
	v.Class = class
	ak, akKey, err := parseKey(b.AKPublic, checkAK)
	if err != nil {
		return fmt.Errorf("attestation key: %w", err)
	}
	v.AK = tpm2.Marshal(ak)
	if v.AKKey, err = identity.KeyDigest(akKey); err != nil {
		return fmt.Errorf("attestation key: %w", err)
	}
	_, key, err := parseKey(b.BirthPublic, checkBirthKey)
	if err != nil {
		return fmt.Errorf("birth key: %w", err)
	}
	if err := checkCertify(akKey, b.Certify, b.BirthPublic); err != nil {
		return fmt.Errorf("certification of the birth key: %w", err)
	}
	if pub, ok := key.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(csr) {
		return errors.New("certificate request is for another key than the birth key")
	}
	return nil
}

// ekSubject names an EK certificate for a person. Its subject is often empty;
// then its serial number has to do.
func ekSubject(c *x509.Certificate) string {
	if s := c.Subject.String(); s != "" {
		return s
	}
	return "serial " + c.SerialNumber.Text(16)
}

// parseKey reads a public area that satisfies check.
func parseKey(area []byte, check func(*tpm2.TPMTPublic) error) (*tpm2.TPMTPublic, crypto.PublicKey, error) {
	public, err := decode[tpm2.TPMTPublic](area)
	if err != nil {
		return nil, nil, err
	}
	if err := check(public); err != nil {
		return nil, nil, err
	}
	key, err := publicKey(public)
	return public, key, err
}

// SecretSize is the size in bytes of the secret of a challenge.
const SecretSize = 32

// Challenge makes a secret that only a TPM with this EK and this AK can read
// (TPM2_MakeCredential), and what to send to it.
func (v *Verified) Challenge() (secret, credential, encrypted []byte, err error) {
	if v.ek == nil {
		return nil, nil, nil, errors.New("challenge: there is no TPM")
	}
	to, err := tpm2.ImportEncapsulationKey(v.ek)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("challenge: %w", err)
	}
	secret = make([]byte, SecretSize)
	rand.Read(secret)
	credential, encrypted, err = tpm2.CreateCredential(rand.Reader, to, objectName(v.AK), secret)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("challenge: %w", err)
	}
	return secret, credential, encrypted, nil
}
