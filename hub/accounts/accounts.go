// Package accounts says who may ask this hub: it keeps the accounts of
// operators and what opens them (certificates, passkeys, an OIDC provider,
// one-time links, API tokens), and finds out for each request whose it is.
//
// Invariants:
//   - A secret is kept as its SHA-256 and shown once. Links, cookies and tokens
//     have 256 random bits: nothing slower than SHA-256 is needed to keep them.
//   - Role and groups are those of the account as it is now, never as they were
//     when a session or token began. A revoked account opens nothing.
//   - Nobody gives more than they have, and the last administrator of all groups
//     stays one.
//   - Whatever gives somebody a way in needs a fresh proof of who asks, which a
//     token or a stolen cookie cannot give.
//   - The ledger has an act before it happens: what cannot be recorded is not
//     done.
package accounts

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/webauthn"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/ratelimit"
	"holdfast/operator"
)

// The ledger's kinds of what happens here.
const (
	kindAdd           = "operator.add"
	kindChange        = "operator.change"
	kindRevoke        = "operator.revoke"
	kindCertificate   = "operator.certificate"
	kindLogin         = "login.ok"
	kindRefused       = "login.refused"
	kindLogout        = "logout"
	kindLink          = "link.made"
	kindTokenAdd      = "token.add"
	kindTokenRemove   = "token.remove"
	kindPasskeyAdd    = "passkey.add"
	kindPasskeyRemove = "passkey.remove"
)

// Defaults of Config.
const (
	DefaultLifetime = 12 * time.Hour
	DefaultIdle     = time.Hour
)

// LinkFor is how long a login link is good.
const LinkFor = 2 * time.Minute

// certificateFor is how long an operator's certificate is good.
const certificateFor = 365 * 24 * time.Hour

// Ledger records what is relevant to security.
type Ledger interface {
	Record(ctx context.Context, kind string, device identity.Device, details any) error
}

// Certifier certifies the keys of operators, and takes that back.
type Certifier interface {
	IssueOperator(ctx context.Context, name string, key crypto.PublicKey, lifetime time.Duration) ([]*x509.Certificate, error)
	RevokeOperator(ctx context.Context, name string, reason int) error
}

// Config has what Accounts works with.
type Config struct {
	Store     Store     // required
	Ledger    Ledger    // required
	Certifier Certifier // required
	Log       *slog.Logger

	// Refused is told whom a login was refused and why, as often as it happens;
	// whoever implements it bounds what is recorded. Required.
	Refused func(ctx context.Context, kind, remote string, err error)

	// Console is where browsers reach the hub: scheme, host and port. Required.
	Console *url.URL
	// Hosts are further names of the hub. Those below the Console's host may use
	// its passkeys too.
	Hosts []string

	Lifetime time.Duration // of a session; default DefaultLifetime
	Idle     time.Duration // a session ends when nothing is asked for so long; default DefaultIdle

	OIDC *OIDC            // provider that vouches for accounts; nil: none
	Now  func() time.Time // default time.Now
}

// Accounts keeps accounts and what opens them. It is safe for concurrent use.
type Accounts struct {
	cfg       Config
	byAddress *ratelimit.Limit // attempts to log in
	byAccount *ratelimit.Limit // likewise, where it is known whose
	badTokens *ratelimit.Limit // tokens that are none, by address
	turn      chan struct{}    // full while somebody changes an account

	web        *webauthn.WebAuthn // nil: this hub can have no passkeys
	ceremonies *pending[ceremony] // by challenge

	provider *provider         // nil: none
	journeys *pending[journey] // by state
}

// New returns the accounts of a hub.
func New(cfg Config) (*Accounts, error) {
	if cfg.Store == nil || cfg.Ledger == nil || cfg.Certifier == nil || cfg.Refused == nil || cfg.Console == nil {
		return nil, errors.New("accounts: Store, Ledger, Certifier, Refused and Console are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Lifetime <= 0 {
		cfg.Lifetime = DefaultLifetime
	}
	if cfg.Idle <= 0 {
		cfg.Idle = DefaultIdle
	}
	web, err := newWebAuthn(cfg)
	if err != nil {
		return nil, fmt.Errorf("passkeys: %w", err)
	}
	return &Accounts{
		cfg: cfg, web: web, ceremonies: newPending[ceremony](), provider: newProvider(cfg), journeys: newPending[journey](),
		byAddress: ratelimit.New(ratelimit.Config{Every: 6 * time.Second, Burst: 20, Keys: 4096}),
		badTokens: ratelimit.New(ratelimit.Config{Every: time.Second, Burst: 60, Keys: 4096}),
		byAccount: ratelimit.New(ratelimit.Config{Every: 30 * time.Second, Burst: 20, Keys: 4096}),
		turn:      make(chan struct{}, 1),
	}, nil
}

// Adopt makes the first account where there is none: that of the first
// operator, whose certificate was issued when the hub was made.
func (a *Accounts) Adopt(ctx context.Context, first string) error {
	all, err := a.cfg.Store.Accounts(ctx)
	if err != nil || len(all) > 0 {
		return err
	}
	return a.add(ctx, administrator(first), "hub")
}

func administrator(name string) operator.Account {
	return operator.Account{Name: name, Role: operator.RoleAdministrator}
}

// Recover sees to it that there is an administrator of all groups with that
// name: for whoever has the hub itself, when nobody gets in any more. It adds
// one, and changes none that is there.
func Recover(ctx context.Context, s Store, l Ledger, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	r, err := s.Account(ctx, name)
	switch {
	case err == nil && Unlimited(r):
		return nil
	case err == nil:
		return fault.New(fault.Conflict, "the account %q is no administrator of all groups, or was revoked: choose another name", name)
	case fault.Of(err) != fault.NotFound:
		return err
	}
	a := &Accounts{cfg: Config{Store: s, Ledger: l, Now: time.Now}}
	if err := a.vacant(ctx, administrator(name)); err != nil {
		return err
	}
	return a.add(ctx, administrator(name), "hub")
}

// record puts an act of whoever asks into the ledger.
func (a *Accounts) record(ctx context.Context, kind string, details map[string]any) error {
	if p := operator.From(ctx); p.Name != "" {
		details["by"], details["via"], details["remote"] = p.Name, p.Via, p.Remote
	}
	if err := a.cfg.Ledger.Record(ctx, kind, "", details); err != nil {
		return fmt.Errorf("record %s: %w", kind, err)
	}
	return nil
}

// refuse tells log and ledger of an attempt that failed, and why.
func (a *Accounts) refuse(ctx context.Context, remote string, err error) {
	a.cfg.Log.WarnContext(ctx, "login refused", "remote", remote, "err", err)
	a.cfg.Refused(ctx, kindRefused, remote, err)
}

// secret is 256 random bits; the store has its digest.
type secret string

func newSecret() secret {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return secret(base64.RawURLEncoding.EncodeToString(b[:]))
}

func (s secret) digest() identity.Digest { return identity.Sum([]byte(s)) }

// String keeps a secret out of logs.
func (secret) String() string { return "[secret]" }

// text returns s without what is no plain text, and cut to n bytes: what
// somebody's browser says of itself goes into pages and records.
func text(s string, n int) string {
	b := make([]byte, 0, min(len(s), n))
	for i := range len(s) {
		if c := s[i]; len(b) < n && c >= ' ' && c <= '~' {
			b = append(b, c)
		}
	}
	return string(b)
}

// checkLabel refuses a name that somebody gives a thing if it is no plain text.
func checkLabel(what, name string) error {
	if name == "" || len(name) > 100 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fault.New(fault.Invalid, "%s needs a name of 1 to 100 bytes that can be printed", what)
	}
	return nil
}

// unknown is the answer to whoever names an account that they may not know of,
// or that does not exist.
func unknown(name string) error { return fault.New(fault.NotFound, "there is no account %.100q", name) }
