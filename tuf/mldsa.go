package tuf

import (
	"crypto/mldsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	jsonv2 "encoding/json/v2"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/release"
)

// MLDSAField is the name in the signed part of root and targets under which the
// ML-DSA keys of the roles they delegate stand. go-tuf keeps it among the
// unrecognised fields.
const MLDSAField = "x-holdfast-mldsa"

// MLDSA says which ML-DSA-65 keys sign which roles: in root of root and targets,
// in targets of each product.
type MLDSA struct {
	Keys  map[string]metadata.HexBytes `json:"keys"` // by MLDSAKeyID; the encoded public key, on the wire in hexadecimal
	Roles map[string]MLDSARole         `json:"roles"`
}

// MLDSARole is whose signatures a role needs, and how many.
type MLDSARole struct {
	KeyIDs    []string `json:"keyids"`
	Threshold int      `json:"threshold"`
}

// MLDSAKeyID returns a key's id: the SHA-256 of the encoded public key, in
// lower-case hexadecimal.
func MLDSAKeyID(pub *mldsa.PublicKey) string { return mldsaKeyID(pub.Bytes()) }

func mldsaKeyID(encoded []byte) string {
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:])
}

// Canonical returns the bytes that are signed: canonical JSON of the signed part,
// a go-tuf type or JSON text.
func Canonical(signed any) ([]byte, error) {
	b, err := cjson.EncodeCanonical(signed)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	return b, nil
}

// SignMLDSA signs canonical bytes. The same key and bytes give the same
// signature.
func SignMLDSA(key *mldsa.PrivateKey, canonical []byte) (metadata.Signature, error) {
	if key.PublicKey().Parameters() != mldsa.MLDSA65() {
		return metadata.Signature{}, fmt.Errorf("sign with %s: want ML-DSA-65", key.PublicKey().Parameters())
	}
	sig, err := key.SignDeterministic(canonical, nil)
	if err != nil {
		return metadata.Signature{}, fmt.Errorf("sign with ML-DSA-65: %w", err)
	}
	return metadata.Signature{KeyID: MLDSAKeyID(key.PublicKey()), Signature: sig}, nil
}

// ParseMLDSA reads MLDSAField from go-tuf's unrecognised fields, and checks that
// every key is an ML-DSA-65 key under its own id and that every role can reach
// its threshold. The limits bound keys and roles.
func ParseMLDSA(unrecognised map[string]any, l Limits) (MLDSA, error) {
	field, ok := unrecognised[MLDSAField]
	if !ok {
		return MLDSA{}, fmt.Errorf("%s is missing", MLDSAField)
	}
	text, err := json.Marshal(field)
	if err != nil {
		return MLDSA{}, fmt.Errorf("%s: %w", MLDSAField, err)
	}
	var x MLDSA
	if err := jsonv2.Unmarshal(text, &x, jsonv2.RejectUnknownMembers(true)); err != nil {
		return MLDSA{}, fmt.Errorf("%s: %w", MLDSAField, err)
	}
	if err := x.check(l); err != nil {
		return MLDSA{}, fmt.Errorf("%s: %w", MLDSAField, err)
	}
	return x, nil
}

func (x MLDSA) check(l Limits) error {
	if roles := max(2, l.Products); len(x.Keys) > l.Keys || len(x.Roles) > roles {
		return fmt.Errorf("%d keys and %d roles: want %d and %d at most", len(x.Keys), len(x.Roles), l.Keys, roles)
	}
	for id, encoded := range x.Keys {
		if _, err := mldsa.NewPublicKey(mldsa.MLDSA65(), encoded); err != nil {
			return fmt.Errorf("key %.64q: %w", id, err)
		}
		if id != mldsaKeyID(encoded) {
			return fmt.Errorf("key %.64q: its id is %s", id, mldsaKeyID(encoded))
		}
	}
	for role, r := range x.Roles {
		known := func(id string) bool { _, ok := x.Keys[id]; return ok }
		if err := checkRole(r.KeyIDs, r.Threshold, known); err != nil {
			return fmt.Errorf("role %.64q: %w", role, err)
		}
	}
	return nil
}

// checkRole says why a role's keys cannot reach its threshold: each key is known
// and named once.
func checkRole(ids []string, threshold int, known func(string) bool) error {
	if threshold < 1 || threshold > len(ids) {
		return fmt.Errorf("threshold %d of %d keys", threshold, len(ids))
	}
	seen := map[string]bool{}
	for _, id := range ids {
		switch {
		case !known(id):
			return fmt.Errorf("key %.64q is not among the keys", id)
		case seen[id]:
			return fmt.Errorf("key %.64q is named twice", id)
		}
		seen[id] = true
	}
	return nil
}

// count returns how many of a role's keys have signed.
func (x MLDSA) count(role string, canonical []byte, sigs []metadata.Signature) int {
	signed := map[string]bool{}
	for _, id := range x.Roles[role].KeyIDs {
		pub, err := mldsa.NewPublicKey(mldsa.MLDSA65(), x.Keys[id])
		if err != nil {
			continue
		}
		for _, s := range sigs {
			if s.KeyID == id && mldsa.Verify(pub, canonical, s.Signature, nil) == nil {
				signed[mldsaKeyID(pub.Bytes())] = true
			}
		}
	}
	return len(signed)
}

// VerifyMLDSA checks that enough of a role's ML-DSA keys have signed canonical
// bytes, each counted once. It refuses with release.ArbitrarySoftware where none
// has and with release.KeyCompromise where some have.
func VerifyMLDSA(x MLDSA, role string, canonical []byte, sigs []metadata.Signature) error {
	r, ok := x.Roles[role]
	if !ok || r.Threshold < 1 {
		return refuse(release.ArbitrarySoftware, "no ML-DSA-65 keys are named for %s", role)
	}
	return threshold(x.count(role, canonical, sigs), r.Threshold, "ML-DSA-65")
}

// threshold names the attack that too few signatures are.
func threshold(have, want int, kind string) error {
	switch {
	case want > 0 && have >= want:
		return nil
	case have == 0:
		return refuse(release.ArbitrarySoftware, "no valid %s signature, want %d", kind, want)
	}
	return refuse(release.KeyCompromise, "valid %s signatures of %d keys, want %d", kind, have, want)
}
