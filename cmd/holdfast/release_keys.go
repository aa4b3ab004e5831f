package main

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"holdfast/client/staging"
	"holdfast/internal/keyfile"
	"holdfast/internal/token"
	"holdfast/tuf/author"
)

// keyFlags are the flags of commands that make or open release keys.
type keyFlags struct {
	io         stdio
	passphrase string // file
	pin        string // file
	helper     string
	weak       bool
}

func newKeyFlags(cmd *cobra.Command, io stdio) *keyFlags {
	k := &keyFlags{io: io}
	f := cmd.Flags()
	f.StringVar(&k.passphrase, "passphrase-file", os.Getenv("HOLDFAST_RELEASE_PASSPHRASE_FILE"), "file with the keys' passphrase (default $HOLDFAST_RELEASE_PASSPHRASE_FILE, or it is asked for)")
	f.Lookup("passphrase-file").DefValue = ""
	f.StringVar(&k.pin, "pin-file", os.Getenv("HOLDFAST_RELEASE_PIN_FILE"), "file with the PIN of the PKCS#11 token (default $HOLDFAST_RELEASE_PIN_FILE, or it is asked for)")
	f.Lookup("pin-file").DefValue = ""
	f.StringVar(&k.helper, "pkcs11-helper", "", "program that speaks to PKCS#11 tokens (default holdfast-pkcs11 beside this one, or in the path)")
	return k
}

// making adds the flag that is for new keys.
func (k *keyFlags) making(cmd *cobra.Command) *keyFlags {
	cmd.Flags().BoolVar(&k.weak, "unencrypted-weak", false, "leave new keys readable for whoever can read their files: for tests and simulations")
	return k
}

// secret reads a passphrase or PIN from a file, or asks for it where there is a
// terminal.
func (k *keyFlags) secret(what, file, flag string) (string, error) {
	if file != "" {
		b, err := staging.ReadFile(file, 4<<10)
		if err != nil {
			return "", fmt.Errorf("read the %s: %w", what, err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	}
	in, ok := k.io.In.(*os.File)
	if !ok || !isTerminal(in) {
		return "", usagef("%s is required where nobody can be asked for the %s", flag, what)
	}
	fmt.Fprintf(k.io.Err, "%s: ", what)
	defer fmt.Fprintln(k.io.Err)
	return readHidden(in)
}

// errTyping says that whoever typed a secret gave up.
var errTyping = errors.New("interrupted")

// readHidden reads a line from a terminal that does not show it. Ctrl-C arrives as
// a key, so that the terminal is as it was whatever is typed.
func readHidden(f *os.File) (string, error) {
	was, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return "", err
	}
	quiet := *was
	quiet.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	quiet.Cc[unix.VMIN], quiet.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &quiet); err != nil {
		return "", err
	}
	defer func() { _ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, was) }() // nothing better can be done
	return typed(f)
}

// typed reads keys up to the end of a line, with backspace and Ctrl-U. It reads
// nothing behind the line: the next question may be answered already.
func typed(r io.Reader) (string, error) {
	var line []byte
	for key := make([]byte, 1); len(line) < 1<<10; {
		if _, err := io.ReadFull(r, key); err != nil {
			return "", err
		}
		switch key[0] {
		case '\n', '\r':
			return string(line), nil
		case 0x03, 0x04: // Ctrl-C, Ctrl-D
			return "", errTyping
		case 0x15: // Ctrl-U
			line = nil
		case 0x08, 0x7f:
			_, size := utf8.DecodeLastRune(line)
			line = line[:len(line)-size]
		default:
			line = append(line, key[0])
		}
	}
	return "", errors.New("the line is too long")
}

// open opens a key to sign with.
func (k *keyFlags) open(cmd *cobra.Command, path string) (staging.Signer, error) {
	s := staging.Signer{Name: keyName(path)}
	key, err := keyfile.Load(path)
	if err != nil {
		return s, err
	}
	phrase := ""
	if key.Encrypted() {
		if phrase, err = k.secret("passphrase of "+path, k.passphrase, "--passphrase-file"); err != nil {
			return s, err
		}
	}
	private, err := key.Open(phrase)
	if err != nil {
		return s, fmt.Errorf("key %s: %w", path, err)
	}
	s.Signer = author.Signer{Classical: private.Classical, MLDSA: private.MLDSA}
	if key.Token != nil {
		s.Classical, err = k.token(cmd, *key.Token, key.Public.Classical)
	}
	return s, err
}

// token opens the half of a key that a token has.
func (k *keyFlags) token(cmd *cobra.Command, t keyfile.Token, want crypto.PublicKey) (crypto.Signer, error) {
	pin, err := k.secret("PIN of the token "+t.Label, k.pin, "--pin-file")
	if err != nil {
		return nil, err
	}
	helper, err := k.findHelper()
	if err != nil {
		return nil, err
	}
	s, err := token.Open(cmd.Context(), token.Config{Helper: helper, Module: t.Module, Token: t.Label, Key: t.Key, PIN: pin})
	if err != nil {
		return nil, err
	}
	if want != nil && !s.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(want) {
		return nil, fmt.Errorf("the token's key %s is another one than the key file says", t.Key)
	}
	return s, nil
}

func (k *keyFlags) findHelper() (string, error) {
	if k.helper != "" {
		return k.helper, nil
	}
	const name = "holdfast-pkcs11"
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), name); exists(beside) {
			return beside, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", usagef("%s is neither beside this program nor in the path: build it with CGO_ENABLED=1 go build ./cmd/%s, or name it with --pkcs11-helper", name, name)
	}
	return path, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// make makes a key file.
func (k *keyFlags) make(cmd *cobra.Command, path string, t *keyfile.Token) error {
	cfg := keyfile.Config{UnencryptedUnsafe: k.weak, Token: t}
	if !k.weak {
		phrase, err := k.newPassphrase(path)
		if err != nil {
			return err
		}
		cfg.Passphrase = phrase
	}
	if t != nil {
		s, err := k.token(cmd, *t, nil)
		if err != nil {
			return err
		}
		cfg.TokenKey = s.Public()
	}
	key, err := keyfile.Generate(cfg)
	if err != nil {
		return fmt.Errorf("make the key %s: %w", path, err)
	}
	return key.Save(path)
}

// newPassphrase is secret for a new key: a typed one is asked for twice.
func (k *keyFlags) newPassphrase(path string) (string, error) {
	what := "passphrase for the new key " + path
	phrase, err := k.secret(what, k.passphrase, "--passphrase-file")
	if err != nil || k.passphrase != "" {
		return phrase, err
	}
	again, err := k.secret("the same once more", "", "--passphrase-file")
	if err == nil && again != phrase {
		err = errors.New("the two passphrases differ")
	}
	return phrase, err
}

// keyName is what a key is called in a staging directory.
func keyName(path string) string {
	name := filepath.Base(path)
	for _, ext := range []string{".pub", ".key"} {
		name = strings.TrimSuffix(name, ext)
	}
	return name
}

// quorum adds the public halves of key files, and remembers their names.
func addKeys(d *staging.Dir, paths []string) (author.Quorum, error) {
	var q author.Quorum
	for _, path := range paths {
		key, err := keyfile.Load(path)
		if err != nil {
			return q, err
		}
		q.Classical = append(q.Classical, key.Public.Classical)
		q.MLDSA = append(q.MLDSA, key.Public.MLDSA)
		if err := d.Name(keyName(path), key); err != nil {
			return q, err
		}
	}
	return q, nil
}

func releaseKeygenCmd(io stdio) *cobra.Command {
	var t keyfile.Token
	cmd := &cobra.Command{
		Use:   "keygen FILE...",
		Short: "Make release keys",
		Long: `Make release keys. Each file has both halves of one signer's key, Ed25519 and
ML-DSA-65, encrypted with a passphrase; FILE.pub has the public halves, to give to
whoever makes the root. With --pkcs11-module the classical half is an ECDSA P-256 key
that a PKCS#11 token has already.`,
		Example: `  holdfast release keygen release-1.key release-2.key release-3.key
  holdfast release keygen hsm.key --pkcs11-module /usr/lib/softhsm/libsofthsm2.so --token releases --token-key release-1`,
		Args: cobra.ArbitraryArgs,
	}
	f := cmd.Flags()
	f.StringVar(&t.Module, "pkcs11-module", "", "PKCS#11 library: the classical half is in a token")
	f.StringVar(&t.Label, "token", "", "label of the token")
	f.StringVar(&t.Key, "token-key", "", "label of the key in the token")
	k := newKeyFlags(cmd, io).making(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		var at *keyfile.Token
		switch {
		case len(a) == 0:
			return usagef("name the files of the keys: the command is %q", cmd.UseLine())
		case t != (keyfile.Token{}) && (t.Module == "" || t.Label == "" || t.Key == "" || len(a) != 1):
			return usagef("--pkcs11-module, --token and --token-key go together, for one key")
		case t.Module != "":
			at = &t
		}
		for _, path := range a {
			if err := k.make(cmd, path, at); err != nil {
				return err
			}
		}
		return show(cmd.OutOrStdout(), *asJSON, a, func(w writer) {
			for _, path := range a {
				fmt.Fprintf(w, "made %s, and %s.pub to give to others\n", path, path)
			}
		})
	}
	return cmd
}

// ensure makes those keys that are missing, and says so. Of a public half that is
// missing there is nothing to make.
func (k *keyFlags) ensure(cmd *cobra.Command, paths []string) error {
	for _, path := range paths {
		_, err := os.Lstat(path)
		if !errors.Is(err, fs.ErrNotExist) || strings.HasSuffix(path, ".pub") {
			continue
		}
		if err := k.make(cmd, path, nil); err != nil {
			return err
		}
		fmt.Fprintf(k.io.Err, "made the key %s\n", path)
	}
	return nil
}
