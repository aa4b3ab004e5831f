package tuf

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/identity"
	"holdfast/release"
)

// maxKey is the longest text of a classical public key: PEM of a P-256 key.
const maxKey = 512

// keyring has the keys and thresholds that root or targets name, of both kinds.
type keyring struct {
	keys  map[string]key
	roles map[string]role
	mldsa MLDSA
}

// key is a classical key, and what tells it from others whatever it is called.
type key struct {
	public      crypto.PublicKey
	fingerprint identity.Digest
}

// role is which keys sign for a role, and how many must.
type role struct {
	ids       []string
	threshold int
}

// newKeyring reads classical keys and checks that each stands under its own id.
func newKeyring(keys map[string]*metadata.Key, l Limits) (*keyring, error) {
	if len(keys) > l.Keys {
		return nil, fmt.Errorf("%d keys: want %d at most", len(keys), l.Keys)
	}
	k := &keyring{keys: map[string]key{}, roles: map[string]role{}}
	for id, listed := range keys {
		pub, err := publicKey(listed)
		if err != nil {
			return nil, fmt.Errorf("key %.64q: %w", id, err)
		}
		if own, err := listed.ID(); err != nil || own != id {
			return nil, fmt.Errorf("key %.64q: its id is %q", id, own)
		}
		fingerprint, err := identity.KeyDigest(pub)
		if err != nil {
			return nil, fmt.Errorf("key %.64q: %w", id, err)
		}
		k.keys[id] = key{pub, fingerprint}
	}
	return k, nil
}

// publicKey reads an Ed25519 key or an ECDSA key on P-256. go-tuf panics on an
// Ed25519 key of another length, so this stands before it.
func publicKey(k *metadata.Key) (crypto.PublicKey, error) {
	if len(k.Value.PublicKey) > maxKey {
		return nil, fmt.Errorf("%d bytes: want %d at most", len(k.Value.PublicKey), maxKey)
	}
	switch {
	case k.Type == metadata.KeyTypeEd25519 && k.Scheme == metadata.KeySchemeEd25519:
		b, err := hex.DecodeString(k.Value.PublicKey)
		if err != nil || len(b) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("an Ed25519 key of %d bytes", len(b))
		}
		return ed25519.PublicKey(b), nil
	case (k.Type == metadata.KeyTypeECDSA_SHA2_P256 || k.Type == metadata.KeyTypeECDSA_SHA2_P256_COMPAT) && k.Scheme == metadata.KeySchemeECDSA_SHA2_P256:
		pub, err := k.ToPublicKey()
		if err != nil {
			return nil, err
		}
		if ec, ok := pub.(*ecdsa.PublicKey); ok && ec.Curve == elliptic.P256() {
			return ec, nil
		}
		return nil, errors.New("an ECDSA key of another curve than P-256")
	}
	return nil, fmt.Errorf("type %.32q, scheme %.32q: want Ed25519, or ECDSA on P-256", k.Type, k.Scheme)
}

// add gives a role its keys.
func (k *keyring) add(name string, ids []string, threshold int) error {
	known := func(id string) bool { _, ok := k.keys[id]; return ok }
	if err := checkRole(ids, threshold, known); err != nil {
		return fmt.Errorf("role %.64q: %w", name, err)
	}
	k.roles[name] = role{ids, threshold}
	return nil
}

// shares reports whether one key signs for both roles, whatever it is called.
func (k *keyring) shares(a, b string) bool {
	for _, x := range k.roles[a].ids {
		for _, y := range k.roles[b].ids {
			if k.keys[x].fingerprint == k.keys[y].fingerprint {
				return true
			}
		}
	}
	return false
}

// count returns how many of a role's classical keys have signed. A key under two
// names counts once.
func (k *keyring) count(name string, canonical []byte, sigs []metadata.Signature) int {
	signed := map[identity.Digest]bool{}
	for _, id := range k.roles[name].ids {
		for _, s := range sigs {
			if s.KeyID == id && verifies(k.keys[id].public, canonical, s.Signature) {
				signed[k.keys[id].fingerprint] = true
			}
		}
	}
	return len(signed)
}

func verifies(pub crypto.PublicKey, message, sig []byte) bool {
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(pub, message, sig)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		return ecdsa.VerifyASN1(pub, sum[:], sig)
	}
	return false
}

// online reports whether a role is signed by the hub, with no ML-DSA signature:
// what it signs says which versions are together, never what may be installed.
func online(name string) bool { return name == Snapshot || name == Timestamp }

// verify checks both thresholds of a role.
func verify[T metadata.Roles](k *keyring, f *file[T]) error {
	r, ok := k.roles[f.role]
	if !ok {
		return f.refuse(release.ArbitrarySoftware, "no keys are named for this role")
	}
	err := threshold(k.count(f.role, f.canonical, f.meta.Signatures), r.threshold, "classical")
	if err == nil && !online(f.role) {
		err = VerifyMLDSA(k.mldsa, f.role, f.canonical, f.meta.Signatures)
	}
	if err != nil {
		return f.refuse(release.AttackOf(err), "%w", errors.Unwrap(err))
	}
	return nil
}
