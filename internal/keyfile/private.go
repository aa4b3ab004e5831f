package keyfile

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"holdfast/fault"
)

// maxWork bounds what decrypting a file may cost: scrypt's log2 N.
const maxWork = 22

// Private has opened private halves. It is not comparable and prints nothing.
type Private struct {
	Classical crypto.Signer // nil where a token has it
	MLDSA     *mldsa.PrivateKey

	_ [0]func()
}

// String returns no secret.
func (Private) String() string { return "release key (redacted)" }

// GoString returns no secret.
func (p Private) GoString() string { return p.String() }

// LogValue returns no secret.
func (p Private) LogValue() slog.Value { return slog.StringValue(p.String()) }

// Config says how a new key is made.
type Config struct {
	// Passphrase encrypts the private halves; at least MinPassphrase bytes.
	Passphrase string
	// UnencryptedUnsafe leaves the private halves readable for whoever can read
	// the file. Passphrase is empty then.
	UnencryptedUnsafe bool
	// Work is scrypt's log2 N; 0 means age's own choice.
	Work int
	// Token and TokenKey are for a classical half that a PKCS#11 token has.
	Token    *Token
	TokenKey crypto.PublicKey
}

// Generate makes a key.
func Generate(cfg Config) (*Key, error) {
	h := halves{MLDSA: make([]byte, mldsa.PrivateKeySize)}
	rand.Read(h.MLDSA) // never fails
	if cfg.Token == nil {
		h.Ed25519 = make([]byte, ed25519.SeedSize)
		rand.Read(h.Ed25519)
	}
	p, err := h.open()
	if err != nil {
		return nil, err
	}
	k := &Key{Public: Public{Classical: cfg.TokenKey, MLDSA: p.MLDSA.PublicKey()}, Token: cfg.Token}
	if cfg.Token == nil {
		k.Public.Classical = p.Classical.Public()
	}
	switch {
	case cfg.UnencryptedUnsafe && cfg.Passphrase != "":
		return nil, errors.New("a passphrase for a key that is not to be encrypted")
	case cfg.UnencryptedUnsafe:
		k.bare = &h
		return k, nil
	}
	k.sealed, err = seal(h, cfg)
	return k, err
}

// Open decrypts the private halves. That they are not those of the public
// halves beside them is an Integrity fault.
func (k *Key) Open(passphrase string) (*Private, error) {
	h := k.bare
	if k.sealed != "" {
		var err error
		if h, err = unseal(k.sealed, passphrase); err != nil {
			return nil, err
		}
	}
	if h == nil {
		return nil, fault.New(fault.Invalid, "the file has only the public half of the key")
	}
	p, err := h.open()
	if err != nil {
		return nil, err
	}
	if k.Token == nil && (p.Classical == nil || !k.Public.Classical.(ed25519.PublicKey).Equal(p.Classical.Public())) ||
		k.Token != nil && p.Classical != nil || !p.MLDSA.PublicKey().Equal(k.Public.MLDSA) {
		return nil, fault.New(fault.Integrity, "the private half of the key is not that of its public half")
	}
	return p, nil
}

func (h halves) open() (*Private, error) {
	var p Private
	switch len(h.Ed25519) {
	case 0:
	case ed25519.SeedSize:
		p.Classical = ed25519.NewKeyFromSeed(h.Ed25519)
	default:
		return nil, fmt.Errorf("ed25519 private key of %d bytes", len(h.Ed25519))
	}
	var err error
	if p.MLDSA, err = mldsa.NewPrivateKey(mldsa.MLDSA65(), h.MLDSA); err != nil {
		return nil, fmt.Errorf("ML-DSA-65 private key: %w", err)
	}
	return &p, nil
}

func seal(h halves, cfg Config) (string, error) {
	if len(cfg.Passphrase) < MinPassphrase {
		return "", fault.New(fault.Invalid, "a passphrase of %d bytes: want at least %d", len(cfg.Passphrase), MinPassphrase)
	}
	to, err := age.NewScryptRecipient(cfg.Passphrase)
	if err != nil {
		return "", err
	}
	if cfg.Work != 0 {
		to.SetWorkFactor(cfg.Work)
	}
	plain, err := json.Marshal(h)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	text := armor.NewWriter(&out)
	w, err := age.Encrypt(text, to)
	if err != nil {
		return "", fmt.Errorf("encrypt the key: %w", err)
	}
	if _, err := w.Write(plain); err != nil {
		return "", fmt.Errorf("encrypt the key: %w", err)
	}
	if err := errors.Join(w.Close(), text.Close()); err != nil {
		return "", fmt.Errorf("encrypt the key: %w", err)
	}
	return out.String(), nil
}

func unseal(sealed, passphrase string) (*halves, error) {
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the passphrase is missing")
	}
	id.SetMaxWorkFactor(maxWork)
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(sealed)), id)
	if _, wrong := errors.AsType[*age.NoIdentityMatchError](err); wrong {
		return nil, fault.New(fault.Denied, "the passphrase is wrong")
	}
	if err != nil {
		return nil, fault.New(fault.Integrity, "decrypt the key: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, MaxSize))
	if err != nil {
		return nil, fault.New(fault.Integrity, "decrypt the key: %w", err)
	}
	var h halves
	if err := json.Unmarshal(plain, &h); err != nil {
		return nil, fault.New(fault.Integrity, "decrypt the key: what it holds is no key")
	}
	return &h, nil
}
