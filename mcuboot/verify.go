package mcuboot

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"io"

	"holdfast/identity"
)

// Verify parses an image and verifies it for a board whose fuses hold keyHash,
// the identity.KeyDigest of the key that signs its images (ECDSA P-256). Its
// errors are Refusals with details.
func Verify(data []byte, keyHash identity.Digest) (*Image, error) {
	img, err := Parse(data)
	if err != nil {
		return nil, err
	}
	if err := img.verifyHashed(keyHash); err != nil {
		return nil, err
	}
	return img, nil
}

// VerifyAt is Verify of an image in the first size bytes of r, such as a slot,
// in memory that does not grow with the image. What is read afterwards has not
// been verified.
func VerifyAt(r io.ReaderAt, size int64, keyHash identity.Digest) (*Image, error) {
	img, err := ParseAt(r, size)
	if err != nil {
		return nil, err
	}
	if err := img.verifyHashed(keyHash); err != nil {
		return nil, err
	}
	return img, nil
}

// verifyHashed verifies with the image's own key, which keyHash has to name.
func (img *Image) verifyHashed(keyHash identity.Digest) error {
	if img.publicKey == nil {
		return MissingKey
	}
	if sum := identity.Sum(img.publicKey); subtle.ConstantTimeCompare(sum[:], keyHash[:]) != 1 {
		return fmt.Errorf("%w: %s", WrongKey, sum)
	}
	return img.verify(img.publicKey)
}

// VerifyWith is Verify for who has the key itself; the image then needs to
// name it no more than by its hash.
func VerifyWith(data []byte, key *ecdsa.PublicKey) (*Image, error) {
	img, err := Parse(data)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("verify image: %w", err)
	}
	sum := identity.Sum(der)
	switch {
	case img.publicKey == nil && img.keyHash == nil:
		return nil, MissingKey
	case img.publicKey != nil && !bytes.Equal(img.publicKey, der),
		img.keyHash != nil && !bytes.Equal(img.keyHash, sum[:]):
		return nil, WrongKey
	}
	if err := img.verify(der); err != nil {
		return nil, err
	}
	return img, nil
}

// verify checks hash and signature with a key that is already trusted.
func (img *Image) verify(key []byte) error {
	if img.hash == nil {
		return MissingHash
	}
	if !bytes.Equal(img.hash, img.Digest[:]) {
		return fmt.Errorf("%w: %s", WrongHash, img.Digest)
	}
	if img.signature == nil {
		return MissingSignature
	}
	parsed, err := x509.ParsePKIXPublicKey(key)
	public, ok := parsed.(*ecdsa.PublicKey)
	if err != nil || !ok || public.Curve != elliptic.P256() {
		return fmt.Errorf("%w: not ECDSA P-256", WrongKey)
	}
	if !ecdsa.VerifyASN1(public, img.Digest[:], img.signature) {
		return WrongSignature
	}
	return nil
}
