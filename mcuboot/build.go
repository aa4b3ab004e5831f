package mcuboot

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"holdfast/identity"
)

// Build makes an image: the payload under a header with the version, with the
// security counter (which boards never let go down) and a signature by signer,
// an ECDSA P-256 key.
func Build(payload []byte, version Version, securityCounter uint32, signer crypto.Signer) ([]byte, error) {
	public, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, errors.New("build image: the signer is not ECDSA P-256")
	}
	if len(payload) > MaxSize {
		return nil, fmt.Errorf("build image: %w: payload of %d bytes", TooLarge, len(payload))
	}
	key, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("build image: %w", err)
	}
	counter := tagBytes(tagSecurityCounter, le.AppendUint32(nil, securityCounter))
	signed := slices.Concat(header(payload, version, areaHeader+len(counter)), payload, list(protectedMagic, counter))
	digest := identity.Sum(signed)
	signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("build image: sign: %w", err)
	}
	return append(signed, list(openMagic, tagBytes(tagSHA256, digest[:]),
		tagBytes(tagPublicKey, key), tagBytes(tagECDSA, signature))...), nil
}

func header(payload []byte, v Version, protected int) []byte {
	h := le.AppendUint32(nil, Magic)
	h = le.AppendUint32(h, 0) // load address
	h = le.AppendUint16(h, headerSize)
	h = le.AppendUint16(h, uint16(protected))
	h = le.AppendUint32(h, uint32(len(payload)))
	h = le.AppendUint32(h, 0) // flags
	h = append(h, v.Major, v.Minor)
	h = le.AppendUint16(h, v.Revision)
	h = le.AppendUint32(h, v.Build)
	return le.AppendUint32(h, 0) // padding
}

func tagBytes(kind uint16, value []byte) []byte {
	t := le.AppendUint16(nil, kind)
	t = le.AppendUint16(t, uint16(len(value)))
	return append(t, value...)
}

func list(magic uint16, tags ...[]byte) []byte {
	body := bytes.Join(tags, nil)
	l := le.AppendUint16(nil, magic)
	l = le.AppendUint16(l, uint16(areaHeader+len(body)))
	return append(l, body...)
}
