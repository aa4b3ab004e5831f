package tuf_test

import (
	"bytes"
	"crypto/mldsa"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/release"
	"holdfast/tuf"
)

func TestVerifyMLDSA(t *testing.T) {
	r := newRepo()
	x := r.mldsa("pump")
	message := []byte("canonical bytes")
	sigs := func(keys ...any) []metadata.Signature {
		var out []metadata.Signature
		for _, k := range keys {
			out = append(out, sign(k, message))
		}
		return out
	}
	bad := sigs(r.post[1])
	bad[0].Signature[0] ^= 1
	swapped := sigs(r.post[1])
	swapped[0].KeyID = id(r.post[2])
	for name, c := range map[string]struct {
		role string
		sigs []metadata.Signature
		want release.Attack
	}{
		"two":                {"pump", sigs(r.post[2], r.post[0]), ""},
		"three and others":   {"pump", append(sigs(r.post[0], r.post[1], r.post[2], r.keys[0], newMLDSA()), bad...), ""},
		"one":                {"pump", sigs(r.post[0]), release.KeyCompromise},
		"one, twice":         {"pump", sigs(r.post[0], r.post[0]), release.KeyCompromise},
		"one and a bad one":  {"pump", append(sigs(r.post[0]), bad...), release.KeyCompromise},
		"one under two ids":  {"pump", append(sigs(r.post[1]), swapped...), release.KeyCompromise},
		"classical ones":     {"pump", sigs(r.keys[0], r.keys[1]), release.ArbitrarySoftware},
		"strangers":          {"pump", sigs(newMLDSA(), newMLDSA()), release.ArbitrarySoftware},
		"none":               {"pump", nil, release.ArbitrarySoftware},
		"of an unknown role": {"valve", sigs(r.post[0], r.post[1]), release.ArbitrarySoftware},
	} {
		t.Run(name, func(t *testing.T) {
			err := tuf.VerifyMLDSA(x, c.role, message, c.sigs)
			if c.want == "" && err != nil {
				t.Error(err)
			} else if c.want != "" {
				refused(t, err, c.want, "ML-DSA-65")
			}
		})
	}
	refused(t, tuf.VerifyMLDSA(x, "pump", []byte("other bytes"), sigs(r.post[0], r.post[1])), release.ArbitrarySoftware)
	refused(t, tuf.VerifyMLDSA(tuf.MLDSA{}, "pump", message, nil), release.ArbitrarySoftware)
}

func TestSignMLDSA(t *testing.T) {
	key := newMLDSA()
	a, b := must(tuf.SignMLDSA(key, []byte("x"))), must(tuf.SignMLDSA(key, []byte("x")))
	if !bytes.Equal(a.Signature, b.Signature) {
		t.Error("the same key and bytes give two signatures")
	}
	weak := must(mldsa.GenerateKey(mldsa.MLDSA44()))
	if _, err := tuf.SignMLDSA(weak, []byte("x")); err == nil {
		t.Error("signed with ML-DSA-44")
	}
}

func TestMLDSAFieldSurvivesJSON(t *testing.T) {
	want := newRepo().mldsa(tuf.Root, tuf.Targets)
	var fields map[string]any
	if err := json.Unmarshal(must(json.Marshal(map[string]any{tuf.MLDSAField: want})), &fields); err != nil {
		t.Fatal(err)
	}
	got, err := tuf.ParseMLDSA(fields, tuf.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := tuf.ParseMLDSA(nil, tuf.DefaultLimits()); err == nil {
		t.Error("read what is not there")
	}
}
