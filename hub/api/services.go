package api

import (
	"context"
	"time"

	"holdfast/fault"
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

// absent stands where a hub has no such service: each call is refused.
type absent struct{}

var errAbsent = fault.New(fault.Unavailable, "this hub does not do that")

func (absent) Accounts(context.Context) ([]operator.Account, error) { return nil, errAbsent }
func (absent) AddAccount(context.Context, operator.Account) (operator.Account, error) {
	return operator.Account{}, errAbsent
}
func (absent) ChangeAccount(context.Context, string, operator.Account) (operator.Account, error) {
	return operator.Account{}, errAbsent
}
func (absent) RevokeAccount(context.Context, string, string) error { return errAbsent }
func (absent) NewLink(context.Context, string) (operator.Link, error) {
	return operator.Link{}, errAbsent
}
func (absent) Logins(context.Context) ([]operator.Login, error) { return nil, errAbsent }
func (absent) EndLogin(context.Context, string) error           { return errAbsent }
func (absent) AddToken(context.Context, operator.AddToken) (operator.Token, error) {
	return operator.Token{}, errAbsent
}
func (absent) Tokens(context.Context) ([]operator.Token, error) { return nil, errAbsent }
func (absent) RemoveToken(context.Context, string) error        { return errAbsent }
func (absent) CertifyAccount(context.Context, string, string) (string, error) {
	return "", errAbsent
}
func (absent) Page(context.Context, operator.FleetQuery) (operator.FleetPage, error) {
	return operator.FleetPage{}, errAbsent
}
func (absent) CheckPolicy(context.Context, operator.PolicyCheck) (operator.PolicyEffect, error) {
	return operator.PolicyEffect{}, errAbsent
}
func (absent) Certificates(context.Context, identity.Device) ([]operator.Issued, error) {
	return nil, errAbsent
}
func (absent) Sessions(context.Context, identity.Device, int) ([]operator.Session, error) {
	return nil, errAbsent
}
func (absent) Alerts(context.Context, operator.AlertQuery) ([]operator.Alert, error) {
	return nil, errAbsent
}
func (absent) Acknowledge(context.Context, string) (operator.Alert, error) {
	return operator.Alert{}, errAbsent
}
func (absent) Series(context.Context, []string, time.Time, time.Duration) ([]operator.Series, error) {
	return nil, errAbsent
}

// or returns v, or what stands in for it where there is none.
func or[T comparable](v, instead T) T {
	var none T
	if v == none {
		return instead
	}
	return v
}

// whole fills in what a hub does not have.
func (c Config) whole() Config {
	c.Accounts, c.Logins, c.Tokens = or[Accounts](c.Accounts, absent{}), or[Logins](c.Logins, absent{}), or[Tokens](c.Tokens, absent{})
	c.Certifier, c.Overview, c.History = or[Certifier](c.Certifier, absent{}), or[Overview](c.Overview, absent{}), or[History](c.History, absent{})
	c.SessionHistory, c.Alerts, c.Series = or[SessionHistory](c.SessionHistory, absent{}), or[Alerts](c.Alerts, absent{}), or[Series](c.Series, absent{})
	return c
}
