package keys_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/device/keys"
	"holdfast/evidence"
)

func openFile(t *testing.T, dir string) *keys.File {
	t.Helper()
	f, err := keys.OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFileKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	f := openFile(t, dir)
	if _, err := f.BirthKey(); !errors.Is(err, keys.ErrNone) {
		t.Errorf("birth key before birth: %v", err)
	}
	key, err := f.Birth()
	if err != nil {
		t.Fatal(err)
	}
	again, err := openFile(t, dir).Birth()
	if err != nil || !again.Public().(*ecdsa.PublicKey).Equal(key.Public()) {
		t.Errorf("the birth key changed: %v", err)
	}
	if _, err := f.Operational(); !errors.Is(err, keys.ErrNone) {
		t.Errorf("operational key before the first: %v", err)
	}
	next, err := f.NewOperational()
	if err != nil {
		t.Fatal(err)
	}
	chain := [][]byte{certificate(t, next, 1), certificate(t, key, 2)}
	if err := f.Promote(next, chain); err != nil {
		t.Fatal(err)
	}
	if err := f.Promote(next, [][]byte{certificate(t, key, 3)}); err == nil {
		t.Error("stored a certificate of another key")
	}
	if err := f.Promote(key, [][]byte{certificate(t, key, 4)}); err == nil {
		t.Error("stored the birth key as an operational one")
	}
	now, err := openFile(t, dir).Operational()
	if err != nil {
		t.Fatal(err)
	}
	if !now.Key.Public().(*ecdsa.PublicKey).Equal(next.Public()) || !bytes.Equal(now.Chain[1], chain[1]) {
		t.Error("the stored pair is another one")
	}
	if sig, err := now.Key.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil ||
		!ecdsa.VerifyASN1(next.Public().(*ecdsa.PublicKey), make([]byte, 32), sig) {
		t.Errorf("sign: %v", err)
	}
	for _, name := range []string{"birth.pem", "operational.pem"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestFileKeysRefuse(t *testing.T) {
	for name, text := range map[string]string{
		"empty":       "",
		"not a key":   "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"broken key":  "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"another key": "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "birth.pem"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := openFile(t, dir).Birth(); err == nil || errors.Is(err, keys.ErrNone) {
				t.Errorf("birth: %v", err)
			}
		})
	}
	if _, err := keys.OpenFile(""); err == nil {
		t.Error("opened without a directory")
	}
}

func TestIssuedIsKept(t *testing.T) {
	dir := t.TempDir()
	f := openFile(t, dir)
	if _, err := f.Issued(); !errors.Is(err, keys.ErrNone) {
		t.Errorf("birth certificate before birth: %v", err)
	}
	want := evidence.Issued{Device: "pump-01", Group: "pumps", Chain: [][]byte{{1}}}
	if err := f.SaveIssued(want); err != nil {
		t.Fatal(err)
	}
	got, err := openFile(t, dir).Issued()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("birth certificate (-want +got):\n%s", diff)
	}
	if err := os.WriteFile(filepath.Join(dir, "idevid.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Issued(); err == nil {
		t.Error("took a broken file for a birth certificate")
	}
}
