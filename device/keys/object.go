package keys

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/evidence"
)

// blob is a key as the TPM gave it: the private part is encrypted for it.
type blob struct {
	Public  []byte `json:"public"`  // TPMT_PUBLIC
	Private []byte `json:"private"` // contents of TPM2B_PRIVATE

	private *ecdsa.PrivateKey // of a key in a file, instead of the above
}

// attestationTemplate is of a key that signs only what the TPM says itself.
func attestationTemplate() tpm2.TPMTPublic {
	p := signingTemplate()
	p.ObjectAttributes.Restricted = true
	return p
}

// signingTemplate is of a key that was born in this TPM, cannot leave it, and
// signs. Without NoDA a board that loses power a few times while the key is
// in use would lock itself out (TPM 2.0 Library, Part 1, 19.8.6).
func signingTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgECC,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
			UserWithAuth: true, NoDA: true, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{
				Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA,
					&tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
		}),
	}
}

// create makes a key under the storage root key.
func (t *TPM) create(template tpm2.TPMTPublic) (blob, error) {
	made, err := tpm2.Create{ParentHandle: withAuth(t.srk), InPublic: tpm2.New2B(template)}.Execute(t.tpm)
	if err != nil {
		return blob{}, fmt.Errorf("create key in TPM: %w", err)
	}
	return blob{Public: made.OutPublic.Bytes(), Private: made.OutPrivate.Buffer}, nil
}

// loaded loads a key, calls use with it, and flushes it.
func (t *TPM) loaded(b blob, use func(tpm2.AuthHandle) error) error {
	obj, err := tpm2.Load{
		ParentHandle: withAuth(t.srk),
		InPrivate:    tpm2.TPM2BPrivate{Buffer: b.Private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](b.Public),
	}.Execute(t.tpm)
	if errors.Is(err, tpm2.TPMRCIntegrity) {
		return ErrForeign
	}
	if err != nil {
		return fmt.Errorf("load key into TPM: %w", err)
	}
	err = use(withAuth(tpm2.NamedHandle{Handle: obj.ObjectHandle, Name: obj.Name}))
	return errors.Join(err, flush(t.tpm, obj.ObjectHandle))
}

// key makes a blob usable as a crypto.Signer.
func (t *TPM) key(b blob) (*Key, error) {
	public, err := publicKey(b.Public)
	if err != nil {
		return nil, err
	}
	return &Key{public: public, blob: b, sign: func(digest []byte) ([]byte, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.sign(b, digest)
	}}, nil
}

func publicKey(area []byte) (*ecdsa.PublicKey, error) {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](area)
	if err != nil {
		return nil, fmt.Errorf("public area: %w", err)
	}
	key, err := tpm2.Pub(*public)
	if err != nil {
		return nil, fmt.Errorf("public area: %w", err)
	}
	ec, ok := key.(*ecdsa.PublicKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, errors.New("public area: the key is not ECDSA P-256")
	}
	return ec, nil
}

func (t *TPM) sign(b blob, digest []byte) ([]byte, error) {
	var der []byte
	err := t.loaded(b, func(key tpm2.AuthHandle) error {
		signed, err := tpm2.Sign{
			KeyHandle:  key,
			Digest:     tpm2.TPM2BDigest{Buffer: digest},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
		}.Execute(t.tpm)
		if err != nil {
			return err
		}
		sig, err := signed.Signature.Signature.ECDSA()
		if err != nil {
			return err
		}
		der, err = asn1.Marshal(struct{ R, S *big.Int }{
			new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer)})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sign in TPM: %w", err)
	}
	return der, nil
}

// certify has the attestation key say that a key lives in this TPM.
func (t *TPM) certify(ak, key blob, qualifying []byte) (evidence.Certification, error) {
	var c evidence.Certification
	err := t.loaded(ak, func(ak tpm2.AuthHandle) error {
		return t.loaded(key, func(key tpm2.AuthHandle) error {
			said, err := tpm2.Certify{ObjectHandle: key, SignHandle: ak,
				QualifyingData: tpm2.TPM2BData{Buffer: qualifying}, InScheme: nullScheme()}.Execute(t.tpm)
			if err != nil {
				return err
			}
			c = certification(said.CertifyInfo, said.Signature)
			return nil
		})
	})
	if err != nil {
		return c, fmt.Errorf("certify key: %w", err)
	}
	return c, nil
}

func certification(attest tpm2.TPM2BAttest, signature tpm2.TPMTSignature) evidence.Certification {
	return evidence.Certification{Attest: attest.Bytes(), Signature: tpm2.Marshal(signature)}
}

// nullScheme leaves the choice to the key, which has only one.
func nullScheme() tpm2.TPMTSigScheme { return tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull} }

// withAuth is a handle whose authorisation value is empty.
func withAuth(h tpm2.NamedHandle) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: h.Handle, Name: h.Name, Auth: tpm2.PasswordAuth(nil)}
}

func flush(tpm transport.TPM, h tpm2.TPMHandle) error {
	if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(tpm); err != nil {
		return fmt.Errorf("flush TPM handle %#x: %w", uint32(h), err)
	}
	return nil
}

// The ranges of handles that a crashed predecessor may have left in use.
const (
	transientRange = 0x80000000
	sessionRange   = 0x02000000 // loaded sessions
)

// flushAll flushes every transient object and loaded session.
func flushAll(tpm transport.TPM) error {
	for _, from := range []uint32{transientRange, sessionRange} {
		handles, err := handles(tpm, from)
		if err != nil {
			return err
		}
		for _, h := range handles {
			if err := flush(tpm, h); err != nil {
				return err
			}
		}
	}
	return nil
}

// handles lists the handles in use from one on, in its range.
func handles(tpm transport.TPM, from uint32) ([]tpm2.TPMHandle, error) {
	r, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: from, PropertyCount: 254}.Execute(tpm)
	if err != nil {
		return nil, fmt.Errorf("list TPM handles: %w", err)
	}
	list, err := r.CapabilityData.Data.Handles()
	if err != nil {
		return nil, fmt.Errorf("list TPM handles: %w", err)
	}
	return list.Handle, nil
}
