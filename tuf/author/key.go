package author

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/tuf"
)

// Signer has the private halves of a release key. Without ML-DSA it signs what
// takes classical signatures alone: snapshot and timestamp.
type Signer struct {
	Classical crypto.Signer     // Ed25519 or ECDSA P-256
	MLDSA     *mldsa.PrivateKey // ML-DSA-65; nil: none
}

// Quorum says whose signatures a role takes: Threshold of the classical keys and,
// counted separately, Threshold of the ML-DSA keys.
type Quorum struct {
	Classical []crypto.PublicKey // ed25519.PublicKey or *ecdsa.PublicKey (P-256)
	MLDSA     []*mldsa.PublicKey // ML-DSA-65
	Threshold int
}

// ID returns the TUF key id of a classical key.
func ID(key crypto.PublicKey) (string, error) {
	k, err := tufKey(key)
	if err != nil {
		return "", err
	}
	return k.ID()
}

func tufKey(key crypto.PublicKey) (*metadata.Key, error) {
	switch k := key.(type) {
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("ed25519 key of %d bytes", len(k))
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, errors.New("an ECDSA key that is not on P-256")
		}
	default:
		return nil, fmt.Errorf("a key of type %T: want Ed25519 or ECDSA P-256", key)
	}
	return metadata.KeyFromPublicKey(key)
}

// check refuses a quorum that could never be met, or by one key twice.
func (q Quorum) check() error {
	if q.Threshold < 1 || q.Threshold > len(q.Classical) || q.Threshold > len(q.MLDSA) {
		return fmt.Errorf("a threshold of %d with %d classical and %d ML-DSA keys", q.Threshold, len(q.Classical), len(q.MLDSA))
	}
	ids, err := q.ids()
	if err != nil {
		return err
	}
	post := q.mldsaIDs()
	if len(slices.Compact(ids)) != len(q.Classical) || len(slices.Compact(post)) != len(q.MLDSA) {
		return errors.New("a key is named twice")
	}
	return nil
}

// ids returns the ids of the classical keys, sorted.
func (q Quorum) ids() ([]string, error) {
	ids := make([]string, 0, len(q.Classical))
	for _, k := range q.Classical {
		id, err := ID(k)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

// mldsaIDs returns the ids of the ML-DSA keys, sorted.
func (q Quorum) mldsaIDs() []string {
	ids := make([]string, 0, len(q.MLDSA))
	for _, k := range q.MLDSA {
		ids = append(ids, tuf.MLDSAKeyID(k))
	}
	slices.Sort(ids)
	return ids
}

// Equal reports whether two quorums have the same keys and threshold, in any
// order.
func (q Quorum) Equal(other Quorum) bool {
	a, err := q.ids()
	b, err2 := other.ids()
	return err == nil && err2 == nil && q.Threshold == other.Threshold && slices.Equal(a, b) && slices.Equal(q.mldsaIDs(), other.mldsaIDs())
}

// With returns the quorum with the keys of another added, those it has already
// once. The threshold stays.
func (q Quorum) With(other Quorum) Quorum {
	q = q.Without(other)
	q.Classical = append(q.Classical, other.Classical...)
	q.MLDSA = append(q.MLDSA, other.MLDSA...)
	return q
}

// Without returns the quorum without the keys of another. The threshold stays.
func (q Quorum) Without(other Quorum) Quorum {
	q.Classical = slices.DeleteFunc(slices.Clone(q.Classical), func(k crypto.PublicKey) bool {
		return slices.ContainsFunc(other.Classical, func(o crypto.PublicKey) bool { return equal(k, o) })
	})
	q.MLDSA = slices.DeleteFunc(slices.Clone(q.MLDSA), func(k *mldsa.PublicKey) bool {
		return slices.ContainsFunc(other.MLDSA, func(o *mldsa.PublicKey) bool { return k.Equal(o) })
	})
	return q
}

// Holds reports which of a signer's halves the quorum names.
func (q Quorum) Holds(s Signer) (classical, post bool) {
	classical = slices.ContainsFunc(q.Classical, func(k crypto.PublicKey) bool { return equal(k, s.Classical.Public()) })
	post = s.MLDSA != nil && slices.ContainsFunc(q.MLDSA, func(k *mldsa.PublicKey) bool { return k.Equal(s.MLDSA.PublicKey()) })
	return classical, post
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

func equal(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// sign signs message: Ed25519 as it is, ECDSA its SHA-256.
func sign(key crypto.Signer, message []byte) ([]byte, error) {
	switch key.Public().(type) {
	case ed25519.PublicKey:
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	case *ecdsa.PublicKey:
		return key.Sign(rand.Reader, sum(message), crypto.SHA256)
	}
	return nil, fmt.Errorf("a key of type %T: want Ed25519 or ECDSA P-256", key.Public())
}

// verifies reports whether signature is key's over message.
func verifies(key crypto.PublicKey, message, signature []byte) bool {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return len(k) == ed25519.PublicKeySize && ed25519.Verify(k, message, signature)
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, sum(message), signature)
	}
	return false
}

// sorted returns the keys of a map in order.
func sorted[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
