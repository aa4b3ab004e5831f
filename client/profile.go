package client

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/fault"
	"holdfast/internal/atomicfile"
	"holdfast/internal/filelock"
	"holdfast/ledger"
	"holdfast/pki"
	"holdfast/tlspolicy"
)

// headName is where a profile's directory keeps the newest ledger head seen.
const headName = "head.json"

// Profile is an operator's way to a hub: a file of this form, with the files
// it names in its directory.
type Profile struct {
	URL         string `json:"url"`                   // of the operator API
	Root        string `json:"root"`                  // file: the hub's root certificate
	Certificate string `json:"certificate,omitempty"` // file: the operator's certificate and its issuer
	Key         string `json:"key,omitempty"`         // file: its private key
	Token       string `json:"token,omitempty"`       // file: an API token, in place of a certificate and key
	LedgerKey   string `json:"ledger_key"`            // file: the public key that verifies ledger heads

	dir string
	pub crypto.PublicKey
}

// Open makes the client of the profile at path. It keeps the newest ledger
// head in the profile's directory and refuses answers of a hub whose ledger
// has been shortened or rewritten since.
func Open(path string) (*Client, error) { return OpenAt(path, "") }

// OpenAt is Open for a hub that is to be reached at another URL than the
// profile's, which an empty one leaves as it is.
func OpenAt(path, at string) (*Client, error) {
	p, err := LoadProfile(path)
	if err != nil {
		return nil, err
	}
	if at != "" {
		p.URL = at
	}
	token, err := p.token()
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", path, err)
	}
	return p.open(path, token)
}

// OpenWithToken is Open with an API token in place of whatever credential the
// profile has, which is not shown.
func OpenWithToken(path, token string) (*Client, error) {
	p, err := LoadProfile(path)
	if err != nil {
		return nil, err
	}
	p.Certificate, p.Key, p.Token = "", "", "from elsewhere"
	return p.open(path, token)
}

func (p *Profile) open(path, token string) (*Client, error) {
	cfg, err := p.tls()
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", path, err)
	}
	return New(Config{URL: p.URL, HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}, Head: p.keep, Token: token}), nil
}

// Redirect writes into the profile at path that its hub is at another URL now.
func Redirect(path, to string) error {
	p, err := LoadProfile(path)
	if err != nil || p.URL == to {
		return err
	}
	p.URL = to
	return p.save(path)
}

// LoadProfile reads a profile.
func LoadProfile(path string) (*Profile, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read operator profile: %w", err)
	}
	p := &Profile{dir: filepath.Dir(path)}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(p); err != nil {
		return nil, fmt.Errorf("operator profile %s: %w", path, err)
	}
	if b, err = os.ReadFile(p.file(p.LedgerKey)); err != nil {
		return nil, fmt.Errorf("operator profile: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM block", p.file(p.LedgerKey))
	}
	if p.pub, err = x509.ParsePKIXPublicKey(block.Bytes); err != nil {
		return nil, fmt.Errorf("%s: %w", p.file(p.LedgerKey), err)
	}
	return p, nil
}

func (p *Profile) file(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(p.dir, name)
}

// tls reads the files of the profile into the client's TLS policy.
func (p *Profile) tls() (*tls.Config, error) {
	u, err := url.Parse(p.URL)
	if err != nil || u.Scheme != "https" {
		return nil, fmt.Errorf("url %q: want https://HOST:PORT", p.URL)
	}
	root, err := os.ReadFile(p.file(p.Root))
	if err != nil {
		return nil, err
	}
	roots, err := pki.ParseCerts(root)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Root, err)
	}
	cert, err := p.certificate()
	if err != nil {
		return nil, err
	}
	return tlspolicy.Client(tlspolicy.Dialer{Roots: roots, ServerName: u.Hostname(), Now: time.Now,
		Certificate: func() (*tls.Certificate, error) { return cert, nil }})
}

// token reads the API token; empty where the profile has none.
func (p *Profile) token() (string, error) {
	if p.Token == "" {
		return "", nil
	}
	b, err := os.ReadFile(p.file(p.Token))
	return strings.TrimSpace(string(b)), err
}

// certificate reads the operator's certificate and key; nil where the profile
// has a token in their place.
func (p *Profile) certificate() (*tls.Certificate, error) {
	if p.Certificate == "" && p.Token != "" {
		return nil, nil
	}
	b, err := os.ReadFile(p.file(p.Certificate))
	if err != nil {
		return nil, err
	}
	chain, err := pki.ParseCerts(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Certificate, err)
	}
	if b, err = os.ReadFile(p.file(p.Key)); err != nil {
		return nil, err
	}
	key, err := pki.ParseKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Key, err)
	}
	return &tls.Certificate{Certificate: pki.RawChain(chain), PrivateKey: key, Leaf: chain[0]}, nil
}

// VerifyHead checks a head's signature with the profile's key.
func (p *Profile) VerifyHead(h ledger.Head) error { return h.Verify(p.pub) }

// Kept returns the newest head that this profile has seen.
func (p *Profile) Kept() (ledger.Head, bool, error) {
	var h ledger.Head
	b, err := os.ReadFile(p.file(headName))
	if errors.Is(err, os.ErrNotExist) {
		return h, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err != nil {
		return h, false, fmt.Errorf("kept ledger head: %w", err)
	}
	return h, true, nil
}

// keep compares an answer's head with the newest seen, and keeps the newer. A
// head that was signed later and speaks of less, or of something else, shows
// that records were removed or rewritten.
func (p *Profile) keep(h ledger.Head) error {
	if err := p.VerifyHead(h); err != nil {
		return fmt.Errorf("ledger head: %w", err)
	}
	unlock, err := filelock.Wait(p.file("head.lock")) // other processes have this profile too
	if err != nil {
		return fmt.Errorf("keep ledger head: %w", err)
	}
	defer unlock()
	kept, ok, err := p.Kept()
	if err != nil {
		return err
	}
	if ok {
		if err := follows(kept, h); err != nil {
			return err
		}
		if h.Seq <= kept.Seq {
			return nil
		}
	}
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return atomicfile.Write(p.file(headName), b, 0o600)
}

// follows refuses a head that cannot come after the one that was kept. Answers
// may overtake one another: an older head that arrives late is none the worse.
func follows(kept, h ledger.Head) error {
	switch {
	case h.Seq == kept.Seq && h.Hash != kept.Hash:
		return fault.New(fault.Integrity, "the hub's ledger was rewritten: record %d is not the one this operator has seen", h.Seq)
	case h.Seq < kept.Seq && h.Time.After(kept.Time):
		return fault.New(fault.Integrity, "the hub's ledger was shortened: it has %d records, this operator has seen %d", h.Seq, kept.Seq)
	}
	return nil
}
