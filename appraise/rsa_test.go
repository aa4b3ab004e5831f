package appraise_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"holdfast/appraise"
	"holdfast/appraise/appraisetest"
	"holdfast/evidence"
)

// rsaAK is the public area of an RSA attestation key.
func rsaAK(key *rsa.PrivateKey, scheme tpm2.TPMAlgID, exponent uint32) []byte {
	details := tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})
	if scheme == tpm2.TPMAlgRSAPSS {
		details = tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAPSS, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: tpm2.TPMAlgSHA256})
	}
	return tpm2.Marshal(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
			UserWithAuth: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme:    tpm2.TPMTRSAScheme{Scheme: scheme, Details: details}, KeyBits: 2048, Exponent: exponent}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()}),
	})
}

func TestRSA(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(c *evidence.Certification) {
		digest := sha256.Sum256(c.Attest)
		sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		c.Signature = tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgRSASSA,
			Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA, &tpm2.TPMSSignatureRSA{Hash: tpm2.TPMAlgSHA256,
				Sig: tpm2.TPM2BPublicKeyRSA{Buffer: sig}})})
	}
	b := appraisetest.New(t)
	in := inputOf(b, b.Attest(t, nonce, device, exporter))
	in.AK = rsaAK(key, tpm2.TPMAlgRSASSA, 0)
	if o := appraise.Appraise(in, now); o.Failure == nil || o.Failure.Step != appraise.StepSignature {
		t.Errorf("an ECDSA signature under an RSA key: %v", o.Failure)
	}
	sign(&in.Evidence.Quote)
	sign(&in.Evidence.Counters[0].Certify)
	sign(&in.Evidence.NextKey.Certify)
	if o := appraise.Appraise(in, now); o.Failure != nil {
		t.Fatal(o.Failure)
	}
	in.Evidence.Quote.Signature[20] ^= 1
	if o := appraise.Appraise(in, now); o.Failure == nil || o.Failure.Step != appraise.StepSignature {
		t.Errorf("a changed signature: %v", o.Failure)
	}
	short := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: key.Primes[0]}}
	for name, ak := range map[string][]byte{
		"another scheme":   rsaAK(key, tpm2.TPMAlgRSAPSS, 0),
		"another exponent": rsaAK(key, tpm2.TPMAlgRSASSA, 3),
		"1024 bits":        rsaAK(short, tpm2.TPMAlgRSASSA, 0),
	} {
		in.AK = ak
		if o := appraise.Appraise(in, now); o.Failure == nil || o.Failure.Step != appraise.StepAK {
			t.Errorf("%s: %v", name, o.Failure)
		}
	}
}
