package accounts

import (
	"context"
	"fmt"
	"net/http"

	"holdfast/fault"
	"holdfast/operator"
)

// errLink is the one answer to every link that is not good.
const errLink = "this login link is not good: it was used, has expired or never was one; make another with 'holdfast login'"

// NewLink makes a one-time login link for an account, that of whoever asks
// where it is empty. Its secret is in the fragment of the URL, which browsers
// send nobody.
func (a *Accounts) NewLink(ctx context.Context, account string) (operator.Link, error) {
	p := operator.From(ctx)
	if account == "" {
		account = p.Name
	}
	r, err := a.mine(ctx, account)
	if err != nil {
		return operator.Link{}, err
	}
	s := newSecret()
	until := a.cfg.Now().Add(LinkFor).UTC()
	if err := a.record(ctx, kindLink, map[string]any{"name": r.Name, "expires": until}); err != nil {
		return operator.Link{}, err
	}
	if err := a.cfg.Store.AddLink(ctx, Link{Hash: s.digest(), Account: r.Name, Expires: until}); err != nil {
		return operator.Link{}, fmt.Errorf("make a login link: %w", err)
	}
	u := a.cfg.Console.JoinPath("login")
	u.Fragment = string(s)
	return operator.Link{URL: u.String(), Expires: until}, nil
}

// mine returns the live account of a name for who makes something that opens
// it: its own, or one that it administers.
func (a *Accounts) mine(ctx context.Context, name string) (Record, error) {
	p := operator.From(ctx)
	if err := p.May(open, a.cfg.Now()); err != nil {
		return Record{}, err
	}
	r, err := a.cfg.Store.Account(ctx, name)
	switch {
	case err != nil && fault.Of(err) != fault.NotFound:
		return r, fmt.Errorf("account %s: %w", name, err)
	case err != nil || !own(p, r.Name) && !over(p, r) || !r.Live():
		return r, unknown(name)
	}
	return r, nil
}

// spendLink logs in by a link's secret.
func (a *Accounts) spendLink(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Secret secret `json:"secret"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	ctx := r.Context()
	name, err := a.cfg.Store.SpendLink(ctx, in.Secret.digest(), a.cfg.Now())
	if err != nil {
		return fault.Hide(fault.Denied, errLink, err)
	}
	account, err := a.cfg.Store.Account(ctx, name)
	if err != nil || !account.Live() {
		return fault.Hide(fault.Denied, errLink, fmt.Errorf("login link of account %q: %w", name, orRevoked(err)))
	}
	if err := a.begin(w, r, account, operator.ViaLink); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
