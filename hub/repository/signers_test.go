package repository_test

import (
	"slices"
	"testing"

	"holdfast/operator"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

// TestSignersAreTold: of each role that release keys sign, who may and who has;
// of what the hub signs, nothing.
func TestSignersAreTold(t *testing.T) {
	w := newWorld(t)
	w.first(w.image(4, 4096))
	at, err := w.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for role, by := range map[string][]int{tuf.Root: {0, 1}, tuf.Targets: {1, 2}, "pump": {0, 2}, tuf.Snapshot: nil, tuf.Timestamp: nil} {
		r := at.Roles[role]
		if by == nil {
			if r.Threshold != 0 || len(r.Keys) != 0 {
				t.Errorf("%s: %+v", role, r)
			}
			continue
		}
		if r.Threshold != 2 || len(r.Keys) != 6 {
			t.Errorf("%s: %d of %d keys", role, r.Threshold, len(r.Keys))
		}
		for i, s := range w.signers {
			classical, err := author.ID(s.Classical.Public())
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []operator.RepositoryKey{{ID: classical, Kind: "classical", Signed: slices.Contains(by, i)},
				{ID: tuf.MLDSAKeyID(s.MLDSA.PublicKey()), Kind: "ml-dsa-65", Signed: slices.Contains(by, i)}} {
				if !slices.Contains(r.Keys, want) {
					t.Errorf("%s: no %+v in %+v", role, want, r.Keys)
				}
			}
		}
	}
}
