package ledger

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"holdfast/fault"
	"holdfast/identity"
)

// Head is a signed statement that the chain had this end at this time. Key is
// the digest of the public key that verifies it.
type Head struct {
	Seq       uint64          `json:"seq"`
	Hash      identity.Digest `json:"hash"`
	Time      time.Time       `json:"time"`
	Key       identity.Digest `json:"key"`
	Signature []byte          `json:"signature"`
}

// headLabel keeps the signature of a head apart from every other signature.
const headLabel = "holdfast ledger head 1\n"

// message returns what is signed: headLabel Seq:8 Hash Time:8 Key.
func (h Head) message() []byte {
	b := binary.BigEndian.AppendUint64([]byte(headLabel), h.Seq)
	b = append(b, h.Hash[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Time.UnixNano()))
	return append(b, h.Key[:]...)
}

// Tip returns the end of the chain that the head speaks of.
func (h Head) Tip() Tip { return Tip{Seq: h.Seq, Hash: h.Hash} }

// Sign returns the head of a chain that ends with tip. The key is ECDSA P-256
// or Ed25519.
func Sign(key crypto.Signer, tip Tip, now time.Time) (Head, error) {
	id, err := identity.KeyDigest(key.Public())
	if err != nil {
		return Head{}, fmt.Errorf("sign ledger head: %w", err)
	}
	h := Head{Seq: tip.Seq, Hash: tip.Hash, Time: now.UTC(), Key: id}
	m, opts := h.message(), crypto.SignerOpts(crypto.Hash(0))
	switch pub := key.Public().(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() {
			return Head{}, fmt.Errorf("sign ledger head: curve %s", pub.Curve.Params().Name)
		}
		sum := identity.Sum(m)
		m, opts = sum[:], crypto.SHA256
	default:
		return Head{}, fmt.Errorf("sign ledger head: %T", pub)
	}
	if h.Signature, err = key.Sign(rand.Reader, m, opts); err != nil {
		return Head{}, fmt.Errorf("sign ledger head: %w", err)
	}
	return h, nil
}

// Verify checks the head's signature with the key that the caller trusts.
// fault.Integrity: it is another key's, or the head was changed.
func (h Head) Verify(pub crypto.PublicKey) error {
	id, err := identity.KeyDigest(pub)
	if err != nil {
		return fault.New(fault.Invalid, "ledger key: %w", err)
	}
	if id != h.Key {
		return fault.New(fault.Integrity, "ledger head is signed by key %s, want %s", h.Key, id)
	}
	ok := false
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(pub, h.message(), h.Signature)
	case *ecdsa.PublicKey:
		sum := identity.Sum(h.message())
		ok = pub.Curve == elliptic.P256() && ecdsa.VerifyASN1(pub, sum[:], h.Signature)
	}
	if !ok {
		return fault.New(fault.Integrity, "signature of ledger head %d does not verify", h.Seq)
	}
	return nil
}
