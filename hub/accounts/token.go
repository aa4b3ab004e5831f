package accounts

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"holdfast/fault"
	"holdfast/operator"
)

// tokenPrefix lets people and scanners of repositories tell what a token is.
const tokenPrefix = "hft_"

// newToken makes a token's secret: the prefix and 256 bits in base32.
func newToken() secret {
	var b [32]byte
	rand.Read(b[:])
	return secret(tokenPrefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])))
}

// The bounds of a token.
const (
	minTokenTTL = time.Minute
	maxTokenTTL = 366 * 24 * time.Hour
	maxTokens   = 100 // of an account
)

// AddToken makes an API token of the account of whoever asks. It can do no more
// than they, and needs a fresh proof: it outlives the session.
func (a *Accounts) AddToken(ctx context.Context, in operator.AddToken) (operator.Token, error) {
	p, now := operator.From(ctx), a.cfg.Now().UTC()
	acc := operator.Account{Name: p.Name, Role: in.Role, Groups: in.Groups}
	if err := check(&acc); err != nil {
		return operator.Token{}, err
	}
	ttl := time.Duration(in.TTL) * time.Second
	if err := checkLabel("a token", in.Name); err != nil {
		return operator.Token{}, err
	}
	if ttl < minTokenTTL || ttl > maxTokenTTL {
		return operator.Token{}, fault.New(fault.Invalid, "a token is good for %s to %s", minTokenTTL, maxTokenTTL)
	}
	if acc.Groups == nil {
		acc.Groups = p.Groups
	}
	if _, err := a.mine(ctx, p.Name); err != nil {
		return operator.Token{}, err
	}
	if !covers(p, acc.Role, acc.Groups) {
		return operator.Token{}, errMore
	}
	has, err := a.cfg.Store.TokensOf(ctx, p.Name)
	if err != nil {
		return operator.Token{}, fmt.Errorf("add token: %w", err)
	}
	if len(has) >= maxTokens {
		return operator.Token{}, fault.New(fault.Conflict, "%s has %d tokens: remove some", p.Name, len(has))
	}
	s := newToken()
	t := operator.Token{ID: strings.ToLower(rand.Text()), Name: in.Name, Account: p.Name, Role: acc.Role, Groups: acc.Groups, Created: now, Expires: now.Add(ttl)}
	err = a.record(ctx, kindTokenAdd, map[string]any{"id": t.ID, "name": t.Name, "role": t.Role, "groups": t.Groups, "expires": t.Expires})
	if err != nil {
		return operator.Token{}, err
	}
	if err := a.cfg.Store.AddToken(ctx, Token{Token: t, Hash: s.digest()}); err != nil {
		return operator.Token{}, fmt.Errorf("add token: %w", err)
	}
	t.Secret = string(s)
	return t, nil
}

// Tokens returns the tokens of whoever asks, and of those that they administer.
func (a *Accounts) Tokens(ctx context.Context) ([]operator.Token, error) {
	tokens, err := a.cfg.Store.TokensOf(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	sees, err := a.sees(ctx)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	out := []operator.Token{}
	for _, t := range tokens {
		if sees[t.Account] {
			out = append(out, t.Token)
		}
	}
	return out, nil
}

// RemoveToken removes a token: from then on it opens nothing.
func (a *Accounts) RemoveToken(ctx context.Context, id string) error {
	tokens, err := a.Tokens(ctx)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if t.ID != id || !a.mayEnd(ctx, t.Account, t.ID) {
			continue
		}
		if err := a.record(ctx, kindTokenRemove, map[string]any{"id": t.ID, "name": t.Name, "account": t.Account}); err != nil {
			return err
		}
		if err := a.cfg.Store.RemoveToken(ctx, id); err != nil {
			return fmt.Errorf("remove token: %w", err)
		}
		return nil
	}
	return fault.New(fault.NotFound, "there is no token %.100q", id)
}
