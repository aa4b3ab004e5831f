package author

import (
	"crypto/mldsa"
	"errors"
	"fmt"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/tuf"
)

var errSeparate = errors.New("classical and ML-DSA keys have different thresholds: this program makes none such")

// post collects the ML-DSA keys and thresholds of the roles that a file
// delegates.
type post tuf.MLDSA

func newPost() post {
	return post{Keys: map[string]metadata.HexBytes{}, Roles: map[string]tuf.MLDSARole{}}
}

func (p post) add(role string, q Quorum) {
	for _, k := range q.MLDSA {
		p.Keys[tuf.MLDSAKeyID(k)] = k.Bytes()
	}
	p.Roles[role] = tuf.MLDSARole{KeyIDs: q.mldsaIDs(), Threshold: q.Threshold}
}

func (p post) field() map[string]any { return map[string]any{tuf.MLDSAField: tuf.MLDSA(p)} }

// quorum returns who signs a role.
func quorum(keys map[string]*metadata.Key, r *metadata.Role, x tuf.MLDSA, name string) (Quorum, error) {
	var q Quorum
	other, ok := x.Roles[name]
	if r == nil || !ok {
		return q, fmt.Errorf("no keys for %s", name)
	}
	if r.Threshold != other.Threshold {
		return q, errSeparate
	}
	q.Threshold = r.Threshold
	for _, id := range r.KeyIDs {
		if keys[id] == nil {
			return q, fmt.Errorf("key %.64q of %s is missing", id, name)
		}
		k, err := keys[id].ToPublicKey()
		if err != nil {
			return q, fmt.Errorf("key %.64q of %s: %w", id, name, err)
		}
		q.Classical = append(q.Classical, k)
	}
	for _, id := range other.KeyIDs {
		k, err := mldsa.NewPublicKey(mldsa.MLDSA65(), x.Keys[id])
		if err != nil {
			return q, fmt.Errorf("ML-DSA key %.64q of %s: %w", id, name, err)
		}
		q.MLDSA = append(q.MLDSA, k)
	}
	return q, q.check()
}
