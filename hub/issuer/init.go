package issuer

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/internal/atomicfile"
	"holdfast/pki"
)

const rootFile = "root.pem"

func certPath(dir string, class pki.Class) string { return filepath.Join(dir, string(class)+".pem") }
func keyPath(dir string, class pki.Class) string  { return filepath.Join(dir, string(class)+".key") }
func purpose(class pki.Class) string              { return "ca key " + string(class) }

// Init makes a root and the four intermediates of a hub that is reached by
// hosts (names or addresses; its server certificates may have no others). The
// certificates and the intermediates' keys, sealed under secret, go to dir,
// which must not exist and is there completely or not at all. The root's key
// goes to the new file rootOut, unsealed and readable by its owner: it has to
// be taken off the hub. rootOut is on stable storage before dir appears, so
// that no hub ever exists whose root key is lost.
func Init(dir, rootOut string, hosts []string, secret pki.Secret, now time.Time) (*x509.Certificate, error) {
	names, err := pki.ParseNames(hosts)
	if err != nil {
		return nil, err
	}
	if err := checkPaths(dir, dir, rootOut); err != nil {
		return nil, err
	}
	root, err := pki.NewRoot(now)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, fmt.Errorf("make authorities: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".")
	if err != nil {
		return nil, fmt.Errorf("make authorities: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := fillDir(tmp, root, names, secret, now); err != nil {
		return nil, fmt.Errorf("make authorities: %w", err)
	}
	if err := writeRootKey(rootOut, root); err != nil {
		return nil, fmt.Errorf("write root key: %w", err)
	}
	if err := publish(tmp, dir); err != nil {
		return nil, errors.Join(fmt.Errorf("make authorities: %w", err), os.Remove(rootOut))
	}
	return root.Cert, nil
}

// checkPaths refuses to touch what exists, and a root key that would stay in
// home, among the hub's files.
func checkPaths(dir, home, rootOut string) error {
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make authorities: %s exists already", dir)
	}
	if rootOut == "" {
		return errors.New("make authorities: the root key needs a file to go to")
	}
	if _, err := os.Lstat(rootOut); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make authorities: %s exists already", rootOut)
	}
	absHome, err := filepath.Abs(home)
	if err != nil {
		return err
	}
	absOut, err := filepath.Abs(rootOut)
	if err != nil {
		return err
	}
	if strings.HasPrefix(absOut, absHome+string(filepath.Separator)) {
		return fmt.Errorf("make authorities: the root key may not stay in %s", home)
	}
	return nil
}

func fillDir(dir string, root *pki.Authority, names pki.Names, secret pki.Secret, now time.Time) error {
	if err := atomicfile.Write(filepath.Join(dir, rootFile), pki.EncodeCerts(root.Cert), 0o644); err != nil {
		return err
	}
	for _, class := range pki.Classes() {
		ca, err := root.NewIntermediate(class, names, now)
		if err != nil {
			return err
		}
		if err := writeAuthority(dir, ca, secret, purpose(class)); err != nil {
			return err
		}
	}
	return nil
}

// writeAuthority writes an authority's certificate and its key, sealed.
func writeAuthority(dir string, ca *pki.Authority, secret pki.Secret, purpose string) error {
	key, err := pki.EncodeKey(ca.Key)
	if err != nil {
		return err
	}
	sealed, err := secret.Seal(purpose, key)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(keyPath(dir, ca.Class), sealed, 0o600); err != nil {
		return err
	}
	return atomicfile.Write(certPath(dir, ca.Class), pki.EncodeCerts(ca.Cert), 0o644)
}

// writeRootKey writes a new file; it never replaces one.
func writeRootKey(path string, root *pki.Authority) error {
	text, err := pki.EncodeKey(root.Key)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

func publish(tmp, dir string) error {
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(dir))
}
