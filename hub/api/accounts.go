package api

import (
	"cmp"
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/operator"
)

func (a *api) registerMe(h huma.API) {
	serve(a, h, op("show-me", http.MethodGet, "/v1/me", "Show who asks"),
		func(ctx context.Context, _ *struct{}) (operator.Me, error) {
			p := operator.From(ctx)
			me := operator.Me{Name: p.Name, Role: p.Role, Groups: p.Groups, Via: p.Via, Remote: p.Remote, Proved: p.Proved, Until: p.Until}
			if p.Via != operator.ViaToken && !p.Proved.IsZero() {
				me.StepUp = p.Proved.Add(operator.StepUpFor)
			}
			return me, nil
		})
}

func (a *api) registerAccounts(h huma.API) {
	serve(a, h, op("list-accounts", http.MethodGet, "/v1/accounts", "List accounts"),
		func(ctx context.Context, _ *struct{}) ([]operator.Account, error) { return a.Accounts.Accounts(ctx) })
	type add struct {
		Body operator.Account
	}
	serve(a, h, op("add-account", http.MethodPost, "/v1/accounts", "Add an account"),
		func(ctx context.Context, in *add) (operator.Account, error) {
			return a.Accounts.AddAccount(ctx, in.Body)
		})
	type change struct {
		Name string `path:"name" maxLength:"100" doc:"name of the account"`
		Body operator.Account
	}
	serve(a, h, op("change-account", http.MethodPut, "/v1/accounts/{name}", "Change an account's role, groups or subject"),
		func(ctx context.Context, in *change) (operator.Account, error) {
			return a.Accounts.ChangeAccount(ctx, in.Name, in.Body)
		})
	type revoke struct {
		Name string `path:"name" maxLength:"100" doc:"name of the account"`
		Body operator.Act
	}
	act(a, h, op("revoke-account", http.MethodPost, "/v1/accounts/{name}/revoke", "Revoke an account and all of its credentials"),
		func(ctx context.Context, in *revoke) error {
			return a.Accounts.RevokeAccount(ctx, in.Name, in.Body.Reason)
		})
	type certify struct {
		Name string `path:"name" maxLength:"100" doc:"name of the account"`
		Body operator.CertifyAccount
	}
	serve(a, h, op("certify-account", http.MethodPost, "/v1/accounts/{name}/certificate", "Certify an operator's key"),
		func(ctx context.Context, in *certify) (operator.AccountCertificate, error) {
			pem, err := a.Certifier.CertifyAccount(ctx, in.Name, in.Body.CSR)
			return operator.AccountCertificate{PEM: pem}, err
		})
}

// withID names a login or token in a path.
type withID struct {
	ID string `path:"id" maxLength:"128" doc:"its id"`
}

func (a *api) registerLogins(h huma.API) {
	serve(a, h, op("list-logins", http.MethodGet, "/v1/logins", "List browsers' sessions"),
		func(ctx context.Context, _ *struct{}) ([]operator.Login, error) { return a.Logins.Logins(ctx) })
	act(a, h, op("end-login", http.MethodDelete, "/v1/logins/{id}", "End a browser's session"),
		func(ctx context.Context, in *withID) error { return a.Logins.EndLogin(ctx, in.ID) })
	type link struct {
		Body operator.LinkFor
	}
	serve(a, h, op("new-link", http.MethodPost, "/v1/logins/link", "Make a link that logs in once"),
		func(ctx context.Context, in *link) (operator.Link, error) {
			return a.Logins.NewLink(ctx, cmp.Or(in.Body.Account, operator.From(ctx).Name))
		})
}

func (a *api) registerTokens(h huma.API) {
	serve(a, h, op("list-tokens", http.MethodGet, "/v1/tokens", "List API tokens"),
		func(ctx context.Context, _ *struct{}) ([]operator.Token, error) { return a.Tokens.Tokens(ctx) })
	type add struct {
		Body operator.AddToken
	}
	serve(a, h, op("add-token", http.MethodPost, "/v1/tokens", "Make an API token; its secret is answered this once"),
		func(ctx context.Context, in *add) (operator.Token, error) { return a.Tokens.AddToken(ctx, in.Body) })
	act(a, h, op("remove-token", http.MethodDelete, "/v1/tokens/{id}", "End an API token"),
		func(ctx context.Context, in *withID) error { return a.Tokens.RemoveToken(ctx, in.ID) })
}
