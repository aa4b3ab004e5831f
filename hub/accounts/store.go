package accounts

import (
	"context"
	"errors"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"holdfast/identity"
	"holdfast/operator"
)

// Record is an account as it is kept. Handle names it to passkeys, which show
// nothing else of it.
type Record struct {
	operator.Account
	Handle []byte
}

// Live reports whether the account still opens anything.
func (r Record) Live() bool { return r.Revoked.IsZero() && r.Name != "" }

// Passkey is a passkey of an account, with its public key and counter.
type Passkey struct {
	operator.Passkey
	Account    string
	Credential webauthn.Credential
}

// Link is a login link, by the digest of its secret.
type Link struct {
	Hash    identity.Digest
	Account string
	Expires time.Time
}

// Session is a login of a browser, by the digest of its cookie.
type Session struct {
	operator.Login
	Hash   identity.Digest
	Proved time.Time // when a passkey last proved who it is
	Used   time.Time // when something was last asked, to the minute
	Ended  time.Time // by logout or otherwise before its time
}

// Token is an API token, by the digest of its secret.
type Token struct {
	operator.Token
	Hash identity.Digest
}

// Use says what was used, so that it is known when: an account, and by what
// of it.
type Use struct {
	Account        string
	Session, Token string // IDs; both empty: a certificate
	Time           time.Time
}

// The ways in which a link is not good.
var (
	ErrLinkUnknown = errors.New("no such login link was made")
	ErrLinkUsed    = errors.New("the login link was used before")
	ErrLinkExpired = errors.New("the login link has expired")
)

// Store keeps accounts. What is not there is a fault of kind NotFound; what a
// method without error has written is on stable storage.
type Store interface {
	People
	Passkeys
	Sessions
	Tokens
}

// People keeps the accounts themselves.
type People interface {
	Account(ctx context.Context, name string) (Record, error)
	AccountByHandle(ctx context.Context, handle []byte) (Record, error)
	// AccountBySubject finds the live account that a provider vouches for.
	AccountBySubject(ctx context.Context, subject string) (Record, error)
	Accounts(ctx context.Context) ([]Record, error)
	// AddAccount adds an account whose name, in any case, and subject are new;
	// otherwise fault.Conflict.
	AddAccount(ctx context.Context, r Record) error
	// ChangeAccount replaces an account by what change makes of it, knowing how
	// many other administrators of all groups there are, in one transaction. Its
	// sessions end with that; one that becomes revoked loses its passkeys, tokens
	// and links too.
	ChangeAccount(ctx context.Context, name string, change func(r Record, administrators int) (Record, error)) error
	Used(ctx context.Context, u Use) error
}

// Passkeys keeps passkeys.
type Passkeys interface {
	AddPasskey(ctx context.Context, p Passkey) error
	// PasskeysOf returns the passkeys of an account, or of all where it is empty,
	// the oldest first.
	PasskeysOf(ctx context.Context, account string) ([]Passkey, error)
	// ChangePasskey replaces a passkey by what change makes of it, in one
	// transaction.
	ChangePasskey(ctx context.Context, id string, change func(Passkey) (Passkey, error)) error
	RemovePasskey(ctx context.Context, id string) error
}

// Sessions keeps links and the sessions of browsers.
type Sessions interface {
	AddLink(ctx context.Context, l Link) error
	// SpendLink uses up a link and says whose it is. Otherwise the error is
	// ErrLinkUnknown, ErrLinkUsed or ErrLinkExpired, found in the same steps.
	SpendLink(ctx context.Context, hash identity.Digest, now time.Time) (account string, err error)
	// AddSession adds a session and ends the one it takes the place of, if any.
	AddSession(ctx context.Context, s Session, replaces string) error
	SessionByHash(ctx context.Context, hash identity.Digest) (Session, error)
	// SessionsOf returns the sessions of an account, or of all where it is empty,
	// that have not ended, the newest first.
	SessionsOf(ctx context.Context, account string, now time.Time) ([]Session, error)
	EndSession(ctx context.Context, id string, now time.Time) error
}

// Tokens keeps API tokens.
type Tokens interface {
	AddToken(ctx context.Context, t Token) error
	TokenByHash(ctx context.Context, hash identity.Digest) (Token, error)
	// TokensOf returns the tokens of an account, or of all where it is empty, the
	// newest first.
	TokensOf(ctx context.Context, account string) ([]Token, error)
	RemoveToken(ctx context.Context, id string) error
}
