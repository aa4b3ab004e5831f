package birth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"holdfast/evidence"
)

// maxStructure is the longest TPM structure in bytes that is read: an RSA 4096
// public area has some 600.
const maxStructure = 2048

// decode reads one TPM structure that fills b to its last byte. A structure
// that would be written in another way than it came is refused: digests are
// taken of the bytes.
func decode[T tpm2.Marshallable, P interface {
	*T
	tpm2.Unmarshallable
}](b []byte) (*T, error) {
	if len(b) > maxStructure {
		return nil, fmt.Errorf("%d bytes, at most %d are read", len(b), maxStructure)
	}
	v, err := tpm2.Unmarshal[T, P](b)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(tpm2.Marshal(P(v)), b) {
		return nil, errors.New("encoding is not canonical")
	}
	return v, nil
}

// publicKey returns the key of a public area: RSA of 2048 to 4096 bits or
// ECDSA P-256, after checking that it is a point of the curve.
func publicKey(area *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	switch area.Type {
	case tpm2.TPMAlgRSA:
		params, err := area.Parameters.RSADetail()
		if err != nil {
			return nil, err
		}
		modulus, err := area.Unique.RSA()
		if err != nil {
			return nil, err
		}
		key, err := tpm2.RSAPub(params, modulus)
		if err != nil {
			return nil, err
		}
		if n := key.N.BitLen(); n < 2048 || n > 4096 || n != int(params.KeyBits) {
			return nil, fmt.Errorf("RSA key of %d bits", n)
		}
		return key, nil
	case tpm2.TPMAlgECC:
		return p256(area)
	}
	return nil, fmt.Errorf("key of algorithm %#x", uint16(area.Type))
}

func p256(area *tpm2.TPMTPublic) (*ecdsa.PublicKey, error) {
	params, err := area.Parameters.ECCDetail()
	if err != nil {
		return nil, err
	}
	if params.CurveID != tpm2.TPMECCNistP256 {
		return nil, fmt.Errorf("curve %#x is not P-256", uint16(params.CurveID))
	}
	point, err := area.Unique.ECC()
	if err != nil {
		return nil, err
	}
	key, err := tpm2.ECDSAPub(params, point)
	if err != nil {
		return nil, err
	}
	if _, err := key.ECDH(); err != nil {
		return nil, fmt.Errorf("public point: %w", err)
	}
	return key, nil
}

// checkAK refuses a public area that is not an attestation key's: restricted,
// so that it signs only what the TPM itself says, made in its TPM and unable
// to leave it.
func checkAK(area *tpm2.TPMTPublic) error {
	o := area.ObjectAttributes
	switch {
	case !o.Restricted:
		return errors.New("is not restricted: it would sign anything")
	case !o.SignEncrypt || o.Decrypt:
		return errors.New("is not for signing alone")
	}
	if err := checkOrigin(area); err != nil {
		return err
	}
	return checkScheme(area)
}

// checkBirthKey refuses a public area that is not an identity key's.
func checkBirthKey(area *tpm2.TPMTPublic) error {
	o := area.ObjectAttributes
	switch {
	case o.Restricted:
		return errors.New("is restricted: it could not sign a TLS handshake")
	case !o.SignEncrypt || o.Decrypt:
		return errors.New("is not for signing alone")
	case area.Type != tpm2.TPMAlgECC:
		return errors.New("is not an ECC key")
	}
	return checkOrigin(area)
}

// checkOrigin refuses a key that was not made in its TPM or could leave it.
func checkOrigin(area *tpm2.TPMTPublic) error {
	o := area.ObjectAttributes
	switch {
	case !o.FixedTPM || !o.FixedParent:
		return errors.New("is not fixed to its TPM: it could be copied")
	case !o.SensitiveDataOrigin:
		return errors.New("was not made in the TPM")
	case !o.UserWithAuth:
		return errors.New("is not used by its authorisation value")
	case area.NameAlg != tpm2.TPMAlgSHA256:
		return errors.New("is not named by SHA-256")
	}
	return nil
}

// checkScheme demands the schemes in which statements are read: ECDSA or
// RSASSA, with SHA-256.
func checkScheme(area *tpm2.TPMTPublic) error {
	bad := errors.New("does not sign with ECDSA or RSASSA and SHA-256")
	switch area.Type {
	case tpm2.TPMAlgECC:
		params, err := area.Parameters.ECCDetail()
		if err != nil || params.Scheme.Scheme != tpm2.TPMAlgECDSA {
			return bad
		}
		if s, err := params.Scheme.Details.ECDSA(); err != nil || s.HashAlg != tpm2.TPMAlgSHA256 {
			return bad
		}
		return nil
	case tpm2.TPMAlgRSA:
		params, err := area.Parameters.RSADetail()
		if err != nil || params.Scheme.Scheme != tpm2.TPMAlgRSASSA {
			return bad
		}
		if s, err := params.Scheme.Details.RSASSA(); err != nil || s.HashAlg != tpm2.TPMAlgSHA256 {
			return bad
		}
		return nil
	}
	return bad
}

// checkCertify verifies that the TPM in which ak lives says that the object
// with that public area lives in it too.
func checkCertify(ak crypto.PublicKey, c evidence.Certification, area []byte) error {
	if len(c.Attest) > maxStructure {
		return fmt.Errorf("statement of %d bytes, at most %d are read", len(c.Attest), maxStructure)
	}
	if err := checkSignature(ak, c); err != nil {
		return err
	}
	s, err := decode[tpm2.TPMSAttest](c.Attest)
	if err != nil {
		return fmt.Errorf("statement: %w", err)
	}
	if s.Magic != tpm2.TPMGeneratedValue || s.Type != tpm2.TPMSTAttestCertify {
		return errors.New("statement is not a certification made by a TPM")
	}
	info, err := s.Attested.Certify()
	if err != nil {
		return fmt.Errorf("statement: %w", err)
	}
	if subtle.ConstantTimeCompare(info.Name.Buffer, objectName(area)) != 1 {
		return errors.New("statement is about another key")
	}
	return nil
}

func checkSignature(ak crypto.PublicKey, c evidence.Certification) error {
	sig, err := decode[tpm2.TPMTSignature](c.Signature)
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	bad := errors.New("signature is not the attestation key's")
	digest := sha256.Sum256(c.Attest)
	switch key := ak.(type) {
	case *rsa.PublicKey:
		s, err := sig.Signature.RSASSA()
		if err != nil || sig.SigAlg != tpm2.TPMAlgRSASSA || s.Hash != tpm2.TPMAlgSHA256 ||
			rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], s.Sig.Buffer) != nil {
			return bad
		}
		return nil
	case *ecdsa.PublicKey:
		s, err := sig.Signature.ECDSA()
		if err != nil || sig.SigAlg != tpm2.TPMAlgECDSA || s.Hash != tpm2.TPMAlgSHA256 ||
			!ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(s.SignatureR.Buffer), new(big.Int).SetBytes(s.SignatureS.Buffer)) {
			return bad
		}
		return nil
	}
	return bad
}

// objectName is the Name of an object that is named by SHA-256 (TPM 2.0
// Library, Part 1, section 16).
func objectName(area []byte) []byte {
	d := sha256.Sum256(area)
	return append([]byte{0x00, 0x0b}, d[:]...)
}
