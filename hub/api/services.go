package api

import (
	"context"
	"time"

	"holdfast/identity"
	"holdfast/operator"
)

// Who asks is in the context of every call: operator.From.

// Accounts keeps the accounts of operators.
type Accounts interface {
	Accounts(ctx context.Context) ([]operator.Account, error)
	AddAccount(ctx context.Context, a operator.Account) (operator.Account, error)
	ChangeAccount(ctx context.Context, name string, a operator.Account) (operator.Account, error)
	RevokeAccount(ctx context.Context, name, reason string) error
}

// Logins keeps the sessions of browsers and the links that begin them.
type Logins interface {
	NewLink(ctx context.Context, account string) (operator.Link, error)
	Logins(ctx context.Context) ([]operator.Login, error)
	EndLogin(ctx context.Context, id string) error
}

// Tokens keeps API tokens.
type Tokens interface {
	AddToken(ctx context.Context, t operator.AddToken) (operator.Token, error)
	Tokens(ctx context.Context) ([]operator.Token, error)
	RemoveToken(ctx context.Context, id string) error
}

// Certifier certifies operators' keys.
type Certifier interface {
	// CertifyAccount answers a PKCS #10 request in PEM with the certificate and
	// its issuer in PEM.
	CertifyAccount(ctx context.Context, name string, csrPEM string) (pem string, err error)
}

// Overview looks at the whole fleet.
type Overview interface {
	Page(ctx context.Context, q operator.FleetQuery) (operator.FleetPage, error)
	CheckPolicy(ctx context.Context, in operator.PolicyCheck) (operator.PolicyEffect, error)
}

// History knows the certificates that a device was issued.
type History interface {
	Certificates(ctx context.Context, id identity.Device) ([]operator.Issued, error)
}

// SessionHistory knows the connections that a device has and had, the newest first.
type SessionHistory interface {
	Sessions(ctx context.Context, id identity.Device, limit int) ([]operator.Session, error)
}

// Alerts keeps alerts.
type Alerts interface {
	Alerts(ctx context.Context, q operator.AlertQuery) ([]operator.Alert, error)
	Acknowledge(ctx context.Context, id string) (operator.Alert, error)
}

// Series keeps quantities over time; names that are empty mean all.
type Series interface {
	Series(ctx context.Context, names []string, since time.Time, step time.Duration) ([]operator.Series, error)
}
