package repository

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"holdfast/internal/atomicfile"
	"holdfast/pki"
	"holdfast/tuf/author"
)

// keysPurpose is what the online keys are sealed for.
const keysPurpose = "repository keys"

// keys are the hub's own: what they sign says which files are together and
// newest, never what may be installed.
type keys struct {
	snapshot, timestamp ed25519.PrivateKey
}

// seeds is the form of the keys' file.
type seeds struct {
	Snapshot  []byte `json:"snapshot"`
	Timestamp []byte `json:"timestamp"`
}

// openKeys reads the keys, making them where there are none.
func openKeys(dir string, secret pki.Secret) (keys, error) {
	path := filepath.Join(dir, keysName)
	sealed, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return makeKeys(path, secret)
	}
	if err != nil {
		return keys{}, fmt.Errorf("read the repository's keys: %w", err)
	}
	text, err := secret.Open(keysPurpose, sealed)
	if err != nil {
		return keys{}, err
	}
	var s seeds
	if err := json.Unmarshal(text, &s); err != nil || len(s.Snapshot) != ed25519.SeedSize || len(s.Timestamp) != ed25519.SeedSize {
		return keys{}, fmt.Errorf("%s: not the repository's keys", path)
	}
	return keys{ed25519.NewKeyFromSeed(s.Snapshot), ed25519.NewKeyFromSeed(s.Timestamp)}, nil
}

func makeKeys(path string, secret pki.Secret) (keys, error) {
	var k keys
	var err error
	for _, key := range []*ed25519.PrivateKey{&k.snapshot, &k.timestamp} {
		if _, *key, err = ed25519.GenerateKey(nil); err != nil {
			return k, fmt.Errorf("make the repository's keys: %w", err)
		}
	}
	text, err := json.Marshal(seeds{k.snapshot.Seed(), k.timestamp.Seed()})
	if err != nil {
		return k, err
	}
	sealed, err := secret.Seal(keysPurpose, text)
	if err != nil {
		return k, err
	}
	return k, atomicfile.Write(path, sealed, 0o600)
}

func (k keys) snapshotText() string  { return publicText(k.snapshot) }
func (k keys) timestampText() string { return publicText(k.timestamp) }

func publicText(k ed25519.PrivateKey) string {
	return hex.EncodeToString(k.Public().(ed25519.PublicKey))
}

// signed returns a document's file with the signature of one of the keys.
func signed(d *author.Document, err error, key ed25519.PrivateKey) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	if err := d.Sign(author.Signer{Classical: key}, true, false); err != nil {
		return nil, err
	}
	return d.Bytes()
}
