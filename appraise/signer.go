package appraise

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"

	"holdfast/evidence"
	"holdfast/identity"
)

// signer is an attestation key: ECDSA P-256, or RSASSA of 2048 to 4096 bits,
// both over SHA-256.
type signer struct {
	ecdsa *ecdsa.PublicKey
	rsa   *rsa.PublicKey
}

// checkAK takes the activated AK apart. Enrolment checked it before it was
// stored; a quote means something only if it still is a restricted key.
func (a *appraisal) checkAK() *Failure {
	ak, err := parseAK(a.in.AK)
	if err != nil {
		return fail(StepAK, "%v", err)
	}
	a.ak = ak
	return nil
}

func parseAK(b []byte) (signer, error) {
	p, err := parsePublic(b)
	switch {
	case err != nil:
		return signer{}, err
	case !p.has(fixedTPM|fixedParent|sensitiveDataOrigin|restricted|signs) || p.attributes&decrypts != 0:
		return signer{}, errors.New("not a restricted signing key that was made in its TPM to stay there")
	case p.nameAlg != algSHA256 || p.hash != algSHA256:
		return signer{}, errors.New("name or signature is not by SHA-256")
	case p.kind == algECC && p.scheme == algECDSA:
		key, err := p.p256()
		return signer{ecdsa: key}, err
	case p.kind == algRSA && p.scheme == algRSASSA:
		key, err := p.rsaKey()
		return signer{rsa: key}, err
	}
	return signer{}, fmt.Errorf("signature scheme %#x", p.scheme)
}

// p256 returns the key, after checking that it is a point of the curve.
func (p public) p256() (*ecdsa.PublicKey, error) {
	const size = 32
	if p.curve != curveP256 || len(p.x) > size || len(p.y) > size {
		return nil, fmt.Errorf("curve %#x is not P-256", p.curve)
	}
	point := make([]byte, 1+2*size)
	point[0] = 4 // uncompressed
	copy(point[1+size-len(p.x):], p.x)
	copy(point[1+2*size-len(p.y):], p.y)
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

func (p public) rsaKey() (*rsa.PublicKey, error) {
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(p.modulus), E: 65537}
	if p.exponent != 0 && p.exponent != 65537 {
		return nil, fmt.Errorf("RSA exponent %d", p.exponent)
	}
	if bits := key.N.BitLen(); bits < 2048 || bits > 4096 {
		return nil, fmt.Errorf("RSA key of %d bits", bits)
	}
	return key, nil
}

// verify checks a TPMT_SIGNATURE over the bytes of a statement.
func (s signer) verify(attest, signature []byte) error {
	digest := sha256.Sum256(attest)
	if s.rsa != nil {
		sig, _, err := parseSignature(signature, algRSASSA)
		if err != nil {
			return err
		}
		return rsa.VerifyPKCS1v15(s.rsa, crypto.SHA256, digest[:], sig)
	}
	r, t, err := parseSignature(signature, algECDSA)
	if err != nil {
		return err
	}
	if !ecdsa.Verify(s.ecdsa, digest[:], new(big.Int).SetBytes(r), new(big.Int).SetBytes(t)) {
		return errors.New("signature is not the attestation key's")
	}
	return nil
}

// open returns a statement that the AK signed, of the wanted type. A restricted
// key signs bytes that begin with TPM_GENERATED_VALUE only if the TPM itself
// made them, which parseStatement checks.
func (s signer) open(c evidence.Certification, want uint16) (statement, error) {
	if len(c.Attest) > maxTPM || len(c.Signature) > maxTPM {
		return statement{}, fmt.Errorf("statement or signature is longer than %d bytes", maxTPM)
	}
	if err := s.verify(c.Attest, c.Signature); err != nil {
		return statement{}, err
	}
	v, err := parseStatement(c.Attest)
	if err == nil && v.kind != want {
		err = fmt.Errorf("statement of type %#x, want %#x", v.kind, want)
	}
	return v, err
}

var errBinding = errors.New("qualifying data is not of this nonce, device, session and claims")

// openBound is open, and demands the qualifying data.
func (s signer) openBound(c evidence.Certification, want uint16, binding identity.Digest) (statement, error) {
	v, err := s.open(c, want)
	if err == nil && !bytes.Equal(v.extraData, binding[:]) {
		err = errBinding
	}
	return v, err
}

// name is the Name of a TPM object or NV index: the algorithm and the digest
// of its public area (TPM 2.0 Library, Part 1, "Names").
func name(public []byte) []byte {
	d := sha256.Sum256(public)
	return append([]byte{algSHA256 >> 8, algSHA256 & 0xFF}, d[:]...)
}
