package repository_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/release"
)

// TestAuditsOfReleases: a release whose audit statement does not count is not
// published, and one that is published is not asked about again.
func TestAuditsOfReleases(t *testing.T) {
	w := newWorld(t)
	image, envelope := w.image(4, 1000), []byte(`{"payload":""}`)
	w.upload(image, envelope)
	rel := w.release(image)
	audit := blob(envelope)
	rel.Audit = &audit
	var asked int
	w.audit = func(r release.Release, b []byte) error {
		asked++
		if r.Path() != rel.Path() || !bytes.Equal(b, envelope) {
			t.Errorf("asked about %s and %q", r.Path(), b)
		}
		return fault.New(fault.Integrity, "no registered auditor has signed it")
	}
	files := map[string][]byte{"1.root.json": w.root(1, nil), "1.targets.json": w.targets(1, "pump"), "1.pump.json": w.product(1, rel)}
	kindOf(t, "a statement that does not count", w.try(files), fault.Integrity, "")
	if len(w.Releases(t.Context())) != 0 || asked != 1 {
		t.Errorf("%d are published, asked %d times", len(w.Releases(t.Context())), asked)
	}
	good := w.audit
	w.audit = nil
	w.publish(files)
	if b, err := w.Document(t.Context(), audit); err != nil || !bytes.Equal(b, envelope) {
		t.Errorf("%q, %v", b, err)
	}
	w.audit, asked = good, 0
	w.publish(map[string][]byte{"2.pump.json": w.product(2, rel)})
	if asked != 0 {
		t.Error("asked about a release that is published")
	}

	if _, err := w.Document(t.Context(), release.Blob{Length: 3, SHA256: identity.Sum([]byte("abc"))}); err == nil {
		t.Error("a document that is not there")
	}
	if _, err := w.Document(t.Context(), release.Blob{Length: release.MaxDocument + 1, SHA256: audit.SHA256}); err == nil {
		t.Error("a document that is too large")
	}
	if err := os.WriteFile(filepath.Join(w.dir, "blobs", audit.SHA256.String()), bytes.ToUpper(envelope), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Document(t.Context(), audit); err == nil {
		t.Error("a document that was changed on disk")
	}
}

func TestRoleOf(t *testing.T) {
	w := newWorld(t)
	digest := func(key any) identity.Digest {
		d, err := identity.KeyDigest(key)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	at, err := w.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	own, signer := digest(publicKey(t, at.TimestampKey)), digest(w.signers[2].Classical.Public())
	if w.RoleOf(own) == "" || w.RoleOf(signer) != "" {
		t.Errorf("before: %q %q", w.RoleOf(own), w.RoleOf(signer))
	}
	w.first(w.image(4, 1000))
	if w.RoleOf(signer) != "a release key" || w.RoleOf(digest(newSigner(t).Classical.Public())) != "" {
		t.Errorf("after: %q", w.RoleOf(signer))
	}
}
