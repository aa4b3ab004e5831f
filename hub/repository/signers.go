package repository

import (
	"slices"

	"holdfast/operator"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

// Kinds of release keys: each is counted for itself.
const (
	classicalKey = "classical"
	mldsaKey     = "ml-dsa-65"
)

// tellSigners says of each role that release keys sign whose signatures it may
// have and whose it has, for people to see: whether they suffice tuf has decided.
// Of metadata that tuf accepts and our own program would not have made it says
// nothing.
func (s *state) tellSigners() {
	root, rootFile, err := author.ParseRoot(s.trust.Root)
	if err != nil {
		return
	}
	s.tell(tuf.Root, rootFile, root.Release)
	targets, targetsFile, err := author.ParseTargets(s.trust.Targets)
	if err != nil {
		return
	}
	s.tell(tuf.Targets, targetsFile, root.Release)
	for p, b := range s.trust.Products {
		_, file, err := author.ParseProduct(p, b)
		if d, ok := targets.Delegation(p); ok && err == nil {
			s.tell(string(p), file, d.Signers)
		}
	}
}

func (s *state) tell(role string, file *author.Document, q author.Quorum) {
	at, ok := s.roles[role]
	if !ok {
		return
	}
	signed := file.Signed(q)
	at.Threshold = q.Threshold
	for _, k := range q.Classical {
		if id, err := author.ID(k); err == nil {
			at.Keys = append(at.Keys, operator.RepositoryKey{ID: id, Kind: classicalKey, Signed: slices.Contains(signed.Classical, id)})
		}
	}
	for _, k := range q.MLDSA {
		id := tuf.MLDSAKeyID(k)
		at.Keys = append(at.Keys, operator.RepositoryKey{ID: id, Kind: mldsaKey, Signed: slices.Contains(signed.MLDSA, id)})
	}
	s.roles[role] = at
}
