package repository

import (
	"crypto"
	"crypto/ed25519"
	"maps"
	"slices"

	"holdfast/identity"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

// RoleOf says what a key signs here, now or under a root before: empty for a key
// that signs nothing.
func (r *Repository) RoleOf(key identity.Digest) string {
	for _, own := range []ed25519.PrivateKey{r.keys.snapshot, r.keys.timestamp} {
		if is(key, own.Public()) {
			return "this hub's key of snapshot or timestamp"
		}
	}
	s := r.held.Load()
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		for _, k := range signersIn(name, s.files[name]) {
			if is(key, k) {
				return "a release key"
			}
		}
	}
	return ""
}

// signersIn returns the keys that a root or targets name to sign. What was
// published could be read: what cannot names none.
func signersIn(name string, b []byte) []crypto.PublicKey {
	var keys []crypto.PublicKey
	switch _, role, _ := parseName(name); role {
	case tuf.Root:
		if root, _, err := author.ParseRoot(b); err == nil {
			keys = root.Release.Classical
		}
	case tuf.Targets:
		if targets, _, err := author.ParseTargets(b); err == nil {
			for _, d := range targets.Products {
				keys = append(keys, d.Signers.Classical...)
			}
		}
	}
	return keys
}

func is(key identity.Digest, public crypto.PublicKey) bool {
	d, err := identity.KeyDigest(public)
	return err == nil && d == key
}
