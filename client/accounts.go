package client

import (
	"context"
	"net/http"
	"net/url"

	"holdfast/operator"
)

func accountPath(name string) string { return "/v1/accounts/" + url.PathEscape(name) }

// Accounts lists accounts.
func (c *Client) Accounts(ctx context.Context) ([]operator.Account, error) {
	return get[[]operator.Account](ctx, c, "/v1/accounts")
}

// AddAccount adds an account.
func (c *Client) AddAccount(ctx context.Context, a operator.Account) (operator.Account, error) {
	var out operator.Account
	return out, c.call(ctx, http.MethodPost, "/v1/accounts", a, &out)
}

// ChangeAccount gives an account the role, groups and subject of a.
func (c *Client) ChangeAccount(ctx context.Context, a operator.Account) (operator.Account, error) {
	var out operator.Account
	return out, c.call(ctx, http.MethodPut, accountPath(a.Name), a, &out)
}

// RevokeAccount ends an account for good.
func (c *Client) RevokeAccount(ctx context.Context, name, reason string) error {
	return c.call(ctx, http.MethodPost, accountPath(name)+"/revoke", operator.Act{Reason: reason}, nil)
}

// CertifyAccount certifies the key of a request, PEM, for an account.
func (c *Client) CertifyAccount(ctx context.Context, name, csr string) (operator.AccountCertificate, error) {
	var out operator.AccountCertificate
	return out, c.call(ctx, http.MethodPost, accountPath(name)+"/certificate", operator.CertifyAccount{CSR: csr}, &out)
}

// NewLink makes a link that logs in once; an empty account is one's own.
func (c *Client) NewLink(ctx context.Context, account string) (operator.Link, error) {
	var out operator.Link
	return out, c.call(ctx, http.MethodPost, "/v1/logins/link", operator.LinkFor{Account: account}, &out)
}

// Logins lists the sessions of browsers.
func (c *Client) Logins(ctx context.Context) ([]operator.Login, error) {
	return get[[]operator.Login](ctx, c, "/v1/logins")
}

// EndLogin ends a browser's session.
func (c *Client) EndLogin(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/logins/"+url.PathEscape(id), nil, nil)
}

// Tokens lists API tokens.
func (c *Client) Tokens(ctx context.Context) ([]operator.Token, error) {
	return get[[]operator.Token](ctx, c, "/v1/tokens")
}

// AddToken makes an API token.
func (c *Client) AddToken(ctx context.Context, t operator.AddToken) (operator.Token, error) {
	var out operator.Token
	return out, c.call(ctx, http.MethodPost, "/v1/tokens", t, &out)
}

// RemoveToken ends an API token.
func (c *Client) RemoveToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/tokens/"+url.PathEscape(id), nil, nil)
}

// Me says who asks.
func (c *Client) Me(ctx context.Context) (operator.Me, error) {
	return get[operator.Me](ctx, c, "/v1/me")
}
