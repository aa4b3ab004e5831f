package evidence_test

import (
	"testing"

	"holdfast/evidence"
	"holdfast/identity"
)

// ascending returns n bytes that count up from first.
func ascending(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// TestBinding pins the qualifying data: devices in the field compute the same.
// The digest was computed by another program (Python's hashlib).
func TestBinding(t *testing.T) {
	nonce, exporter := ascending(0, evidence.NonceSize), ascending(32, evidence.ExporterSize)
	claims := []byte(`{"runtime":"1"}`)
	got := evidence.Binding(nonce, "pump-01", exporter, claims)
	if want := "a064507ff3853a07373584869edc8911574672a9f822fe9f77aa8ed767047b15"; got.String() != want {
		t.Errorf("Binding = %s, want %s", got, want)
	}
}

func TestBindingCoversEveryPart(t *testing.T) {
	nonce, exporter := ascending(0, evidence.NonceSize), ascending(32, evidence.ExporterSize)
	claims := []byte(`{}`)
	seen := map[identity.Digest]string{evidence.Binding(nonce, "pump-01", exporter, claims): "the original"}
	for name, d := range map[string]identity.Digest{
		"another nonce":   evidence.Binding(ascending(1, evidence.NonceSize), "pump-01", exporter, claims),
		"another device":  evidence.Binding(nonce, "pump-02", exporter, claims),
		"another session": evidence.Binding(nonce, "pump-01", ascending(33, evidence.ExporterSize), claims),
		"other claims":    evidence.Binding(nonce, "pump-01", exporter, []byte(`{ }`)),
		"no claims":       evidence.Binding(nonce, "pump-01", exporter, nil),
	} {
		if other, ok := seen[d]; ok {
			t.Errorf("%s has the binding of %s", name, other)
		}
		seen[d] = name
	}
}
