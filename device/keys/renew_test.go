package keys_test

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"testing"

	"holdfast/device/keys"
	"holdfast/evidence"
	"holdfast/internal/swtpm/swtpmtest"
)

// TestRenewBirth: another birth key, no certificate of the old one, and the
// same attestation key.
func TestRenewBirth(t *testing.T) {
	m := swtpmtest.New(t)
	dir := t.TempDir()
	k := open(t, m.Connect(), dir)
	if err := k.RenewBirth(); err != nil {
		t.Errorf("before birth: %v", err)
	}
	old, oldKey := born(t, k)
	if err := k.SaveIssued(evidence.Issued{Device: "pump-01"}); err != nil {
		t.Fatal(err)
	}
	if err := k.RenewBirth(); err != nil {
		t.Fatal(err)
	}
	k = open(t, m.Connect(), dir)
	if _, err := k.Issued(); !errors.Is(err, keys.ErrNone) {
		t.Errorf("the certificate of the old key: %v", err)
	}
	shown, key := born(t, k)
	if key.Public().(*ecdsa.PublicKey).Equal(oldKey.Public()) {
		t.Error("the birth key is the old one")
	}
	if !bytes.Equal(shown.AKPublic, old.AKPublic) {
		t.Error("the attestation key changed")
	}
}

func TestRenewBirthInAFile(t *testing.T) {
	f := openFile(t, t.TempDir())
	old, err := f.Birth()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.SaveIssued(evidence.Issued{Device: "pump-01"}), f.RenewBirth(), f.RenewBirth()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Issued(); !errors.Is(err, keys.ErrNone) {
		t.Errorf("the certificate of the old key: %v", err)
	}
	if key, err := f.Birth(); err != nil || key.Public().(*ecdsa.PublicKey).Equal(old.Public()) {
		t.Errorf("the birth key is the old one, or %v", err)
	}
}
