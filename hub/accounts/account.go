package accounts

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
)

// The rights that acts here take. What somebody may give depends on what is
// given and is asked beside them.
var (
	// manage is for adding, changing and revoking accounts.
	manage = operator.Right{Role: operator.RoleAdministrator, StepUp: true}
	// open is for making what lets somebody in: a link, a token, a certificate.
	open = operator.Right{Role: operator.RoleViewer, StepUp: true}
)

// covers reports whether p has all that a role for groups may do.
func covers(p operator.Principal, role operator.Role, groups []identity.Group) bool {
	if !p.Role.Includes(role) {
		return false
	}
	return p.Groups == nil || groups != nil && !slices.ContainsFunc(groups, func(g identity.Group) bool { return !p.Sees(g) })
}

// over reports whether p administers an account.
func over(p operator.Principal, r Record) bool {
	return p.Role == operator.RoleAdministrator && covers(p, r.Role, r.Groups)
}

// own reports whether an account is that of p, who has all of it and not only a
// token.
func own(p operator.Principal, account string) bool {
	return p.Name != "" && p.Name == account && p.Via != operator.ViaToken
}

// check says what is wrong with an account that somebody asks for, and brings
// its groups and subject into their one form.
func check(in *operator.Account) error {
	if !slices.Contains(operator.Roles(), in.Role) {
		return fault.New(fault.Invalid, "role %.100q is none of %v", in.Role, operator.Roles())
	}
	var err error
	if in.Groups, err = groups(in.Groups); err != nil {
		return err
	}
	in.Subject, err = parseSubject(in.Subject)
	return err
}

// maxGroups bounds the groups of an account or token.
const maxGroups = 1000

// groups sorts groups and drops those named twice. None at all is an error: it
// would look like all.
func groups(in []identity.Group) ([]identity.Group, error) {
	if in == nil {
		return nil, nil
	}
	if len(in) == 0 || len(in) > maxGroups {
		return nil, fault.New(fault.Invalid, "%d groups: name 1 to %d, or leave them out for all", len(in), maxGroups)
	}
	for _, g := range in {
		if _, err := identity.ParseGroup(string(g)); err != nil {
			return nil, fault.New(fault.Invalid, "%w", err)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(in))), nil
}

// CheckName refuses a name that a certificate could not carry, or that the
// ledger uses for the hub itself.
func CheckName(name string) error {
	if _, err := identity.ParseDevice(name); err != nil || len(name) > 100 {
		return fault.New(fault.Invalid, "account name %.100q: want 1 to 100 letters, digits and -._: beginning with a letter or digit", name)
	}
	if strings.EqualFold(name, "hub") {
		return fault.New(fault.Invalid, "the ledger calls the hub %q: choose another name", name)
	}
	return nil
}

// Accounts returns those that whoever asks administers, and their own.
func (a *Accounts) Accounts(ctx context.Context) ([]operator.Account, error) {
	p := operator.From(ctx)
	all, err := a.cfg.Store.Accounts(ctx)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	keys, err := a.cfg.Store.PasskeysOf(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	out := []operator.Account{}
	for _, r := range all {
		if !over(p, r) && r.Name != p.Name {
			continue
		}
		for _, k := range keys {
			if k.Account == r.Name {
				r.Passkeys = append(r.Passkeys, k.Passkey)
			}
		}
		out = append(out, r.Account)
	}
	return out, nil
}

// AddAccount adds an account that has no more than whoever asks.
func (a *Accounts) AddAccount(ctx context.Context, in operator.Account) (operator.Account, error) {
	if err := CheckName(in.Name); err != nil {
		return in, err
	}
	if err := check(&in); err != nil {
		return in, err
	}
	p := operator.From(ctx)
	if err := p.May(manage, a.cfg.Now()); err != nil {
		return in, err
	}
	if !covers(p, in.Role, in.Groups) {
		return in, errMore
	}
	if err := a.vacant(ctx, in); err != nil {
		return in, err
	}
	if err := a.add(ctx, in, p.Name); err != nil {
		return in, err
	}
	r, err := a.cfg.Store.Account(ctx, in.Name)
	return r.Account, err
}

// errMore refuses what would give more than who gives has.
var errMore = fault.New(fault.Denied, "nobody can give more than they have: fewer rights, or fewer groups")

// vacant refuses an account whose name or subject is taken. The store does so
// too, after the ledger has the act.
func (a *Accounts) vacant(ctx context.Context, in operator.Account) error {
	all, err := a.cfg.Store.Accounts(ctx)
	if err != nil {
		return fmt.Errorf("add account: %w", err)
	}
	for _, r := range all {
		switch {
		case strings.EqualFold(r.Name, in.Name) && r.Live():
			return fault.New(fault.Conflict, "there is an account %q", r.Name)
		case strings.EqualFold(r.Name, in.Name):
			return fault.New(fault.Conflict, "the account %q was revoked, and the ledger knows it by that name: choose another", r.Name)
		case in.Subject != "" && r.Subject == in.Subject && r.Live():
			return errSubject
		}
	}
	return nil
}

func (a *Accounts) add(ctx context.Context, in operator.Account, by string) error {
	r := Record{Account: operator.Account{Name: in.Name, Role: in.Role, Groups: in.Groups, Subject: in.Subject, Created: a.cfg.Now().UTC(), By: by},
		Handle: make([]byte, 64)}
	rand.Read(r.Handle)
	err := a.record(ctx, kindAdd, map[string]any{"by": by, "name": in.Name, "role": in.Role, "groups": in.Groups, "subject": in.Subject})
	if err != nil {
		return err
	}
	if err := a.cfg.Store.AddAccount(ctx, r); err != nil {
		return fmt.Errorf("add account %s: %w", in.Name, err)
	}
	return nil
}

// ChangeAccount gives an account another role, other groups or another subject.
func (a *Accounts) ChangeAccount(ctx context.Context, name string, in operator.Account) (operator.Account, error) {
	if err := check(&in); err != nil {
		return in, err
	}
	p := operator.From(ctx)
	details := map[string]any{"name": name, "role": in.Role, "groups": in.Groups, "subject": in.Subject}
	err := a.change(ctx, name, kindChange, details, func(r Record) (Record, error) {
		if !covers(p, in.Role, in.Groups) {
			return r, errMore
		}
		r.Role, r.Groups, r.Subject = in.Role, in.Groups, in.Subject
		return r, nil
	})
	if err != nil {
		return in, err
	}
	r, err := a.cfg.Store.Account(ctx, name)
	return r.Account, err
}

// RevokeAccount ends an account for good, with all that opens it.
func (a *Accounts) RevokeAccount(ctx context.Context, name, reason string) error {
	err := a.change(ctx, name, kindRevoke, map[string]any{"name": name, "reason": reason}, func(r Record) (Record, error) {
		r.Revoked = a.cfg.Now().UTC()
		return r, nil
	})
	if err != nil {
		return err
	}
	if err := a.cfg.Certifier.RevokeOperator(ctx, name, pki.ReasonRetired); err != nil {
		return fmt.Errorf("revoke account %s: %w", name, err)
	}
	return nil
}

// change changes a live account that whoever asks administers, and leaves an
// administrator. One at a time does so: what the ledger has in between is what
// the store then does, and the store's own transaction guards against other
// processes.
func (a *Accounts) change(ctx context.Context, name, kind string, details map[string]any, to func(Record) (Record, error)) error {
	p := operator.From(ctx)
	if err := p.May(manage, a.cfg.Now()); err != nil {
		return err
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	plan := func(r Record, administrators int) (Record, error) {
		if !over(p, r) || !r.Live() {
			return r, unknown(name)
		}
		changed, err := to(r)
		if err != nil {
			return r, err
		}
		if Unlimited(r) && !Unlimited(changed) && administrators == 0 {
			return r, fault.New(fault.Conflict, "%s is the last administrator of all groups: make another one first", name)
		}
		return changed, nil
	}
	if err := a.rehearse(ctx, name, plan); err != nil {
		return err
	}
	if err := a.record(ctx, kind, details); err != nil {
		return err
	}
	if err := a.cfg.Store.ChangeAccount(ctx, name, plan); err != nil {
		return fmt.Errorf("change account %s: %w", name, err)
	}
	return nil
}

// rehearse says whether a change would be refused.
func (a *Accounts) rehearse(ctx context.Context, name string, plan func(Record, int) (Record, error)) error {
	all, err := a.cfg.Store.Accounts(ctx)
	if err != nil {
		return fmt.Errorf("change account: %w", err)
	}
	var it Record
	others := 0
	for _, r := range all {
		switch {
		case r.Name == name:
			it = r
		case Unlimited(r):
			others++
		}
	}
	changed, err := plan(it, others)
	if err != nil || !changed.Live() || changed.Subject == "" {
		return err
	}
	if slices.ContainsFunc(all, func(r Record) bool { return r.Name != name && r.Live() && r.Subject == changed.Subject }) {
		return errSubject
	}
	return nil
}

// errSubject refuses an account that could not be told from another.
var errSubject = fault.New(fault.Conflict, "another account has this subject")

// Unlimited reports whether an account may do everything.
func Unlimited(r Record) bool {
	return r.Live() && r.Role == operator.RoleAdministrator && r.Groups == nil
}
