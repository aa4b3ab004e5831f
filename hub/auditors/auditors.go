// Package auditors keeps the keys of auditors and what they have signed: their
// statements about firmware, added by operators or published with a release.
//
// An auditor's key is a role of its own: no key that signs releases, certifies
// or opens anything on this hub can be one. The hub never unpacks firmware. It
// believes an auditor, and only about an image for which the statement says
// that what was judged is what is flashed.
//
// Invariants:
//   - What counts is verified with the keys that are registered now: when an
//     auditor is removed its statements stop counting before the answer.
//   - About one image the newest statement of an auditor counts, by the time
//     that it says.
//   - The ledger has an act before it happens.
package auditors

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/appraise"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/statement"
)

// The limits of what is kept.
const (
	maxAuditors   = 64
	maxStatements = 4096
)

// ahead is how far in the future a statement's time may be: clocks differ.
const ahead = 10 * time.Minute

// Config has what Auditors works with. All but Log and Now is required.
type Config struct {
	Store    Store
	Releases Releases
	Keys     Keys
	Ledger   Ledger
	Log      *slog.Logger
	Now      func() time.Time // default time.Now
}

// Auditors keeps auditors. It is safe for concurrent use.
type Auditors struct {
	cfg      Config
	changing sync.Mutex // one at a time changes what counts
	held     atomic.Pointer[state]
}

// New returns the auditors of a hub. Nothing counts before Refresh.
func New(cfg Config) (*Auditors, error) {
	if cfg.Store == nil || cfg.Releases == nil || cfg.Keys == nil || cfg.Ledger == nil {
		return nil, errors.New("auditors: store, releases, keys and ledger are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &Auditors{cfg: cfg}
	a.held.Store(newState())
	return a, nil
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// AddAuditor registers an auditor's key on behalf of an operator. A key that has
// another role on this hub is refused: a fault of kind Conflict.
func (a *Auditors) AddAuditor(ctx context.Context, by string, in operator.Auditor) (operator.Auditor, error) {
	if !nameForm.MatchString(in.Name) {
		return in, fault.New(fault.Invalid, "auditor %.64q: want a name of 1 to 64 letters, digits and -._, beginning with a letter or digit", in.Name)
	}
	key, err := statement.ParseKey([]byte(in.Key))
	if err != nil {
		return in, fault.New(fault.Invalid, "%w", err)
	}
	out := operator.Auditor{Name: in.Name, Key: in.Key, By: by, Added: a.cfg.Now().UTC()}
	if out.ID, err = identity.KeyDigest(key); err != nil {
		return in, err
	}
	a.changing.Lock()
	defer a.changing.Unlock()
	if err := a.mayAdd(ctx, out); err != nil {
		return in, fmt.Errorf("add auditor: %w", err)
	}
	details := map[string]any{"by": by, "name": out.Name, "key": out.ID}
	if err := a.cfg.Ledger.Record(ctx, string(ledger.Auditor), "", details); err != nil {
		return in, fmt.Errorf("add auditor: %w", err)
	}
	if err := a.cfg.Store.AddAuditor(ctx, out); err != nil {
		return in, err
	}
	return out, a.refresh(ctx)
}

// mayAdd refuses an auditor whose name or key is taken.
func (a *Auditors) mayAdd(ctx context.Context, one operator.Auditor) error {
	all, err := a.cfg.Store.Auditors(ctx)
	if err != nil {
		return err
	}
	for _, have := range all {
		if have.Name == one.Name || have.ID == one.ID {
			return fault.New(fault.Conflict, "the auditor %s is registered with the key %s", have.Name, have.ID)
		}
	}
	if len(all) >= maxAuditors {
		return fault.New(fault.Conflict, "%d auditors are registered: at most %d are allowed", len(all), maxAuditors)
	}
	role, err := a.cfg.Keys.Role(ctx, one.ID)
	if err != nil {
		return err
	}
	if role != "" {
		return fault.New(fault.Conflict, "the key is %s: an auditor needs one that is used for nothing else", role)
	}
	return a.cfg.Keys.Claim(ctx, one.ID, one.Name)
}

// RemoveAuditor removes an auditor with the statements that it gave; from then
// on nothing that it has signed counts.
func (a *Auditors) RemoveAuditor(ctx context.Context, by, name string) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	all, err := a.cfg.Store.Auditors(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(x operator.Auditor) bool { return x.Name == name })
	if i < 0 {
		return fault.New(fault.NotFound, "there is no auditor %.64q", name)
	}
	details := map[string]any{"by": by, "name": name, "key": all[i].ID}
	if err := a.cfg.Ledger.Record(ctx, string(ledger.DropAuditor), "", details); err != nil {
		return fmt.Errorf("remove auditor: %w", err)
	}
	if err := a.cfg.Store.RemoveAuditor(ctx, name); err != nil {
		return err
	}
	return a.refreshOrDrop(ctx)
}

// List returns the registered auditors by name.
func (a *Auditors) List(context.Context) ([]operator.Auditor, error) {
	return slices.Clone(a.held.Load().auditors), nil
}

// AddAudit takes a statement in on behalf of an operator. The same again changes
// nothing. What nobody registered has signed is a fault of kind Integrity, and so
// is a statement that is about no image.
func (a *Auditors) AddAudit(ctx context.Context, by string, envelope []byte) (operator.Audit, error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	s, who, err := a.open(ctx, a.held.Load(), envelope)
	if err != nil {
		return operator.Audit{}, err
	}
	if len(matched(s)) == 0 {
		return operator.Audit{}, fault.New(fault.Integrity, "the statement is about no image: the auditor has not shown which one carries what was judged ('holdfast audit --image FILE')")
	}
	id := identity.Sum(envelope)
	if one, ok := a.held.Load().find(id); ok && one.Release == "" {
		return one, nil
	}
	if len(a.held.Load().audits) >= maxStatements {
		return operator.Audit{}, fault.New(fault.Conflict, "%d statements are on file: remove some that are not needed", maxStatements)
	}
	var images []identity.Digest
	for _, i := range matched(s) {
		images = append(images, i.Measured)
	}
	details := map[string]any{"by": by, "statement": id, "auditor": who.Name, "images": images[:min(len(images), 16)]}
	if err := a.cfg.Ledger.Record(ctx, string(ledger.Audit), "", details); err != nil {
		return operator.Audit{}, fmt.Errorf("add statement: %w", err)
	}
	kept := Statement{ID: id, Auditor: who.ID, Envelope: envelope, By: by, Received: a.cfg.Now().UTC()}
	if err := a.cfg.Store.AddStatement(ctx, kept); err != nil {
		return operator.Audit{}, err
	}
	if err := a.refresh(ctx); err != nil {
		return operator.Audit{}, err
	}
	one, _ := a.held.Load().find(id)
	return one, nil
}

// RemoveAudit removes a statement that an operator added. One that came with a
// release stays as long as that is published: a fault of kind Conflict.
func (a *Auditors) RemoveAudit(ctx context.Context, by string, id identity.Digest) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	one, ok := a.held.Load().find(id)
	switch {
	case !ok:
		return fault.New(fault.NotFound, "there is no statement %s", id)
	case one.Release != "":
		return fault.New(fault.Conflict, "it came with the release %s, whose signers answer for it", one.Release)
	}
	details := map[string]any{"by": by, "statement": id, "auditor": one.Auditor}
	if err := a.cfg.Ledger.Record(ctx, string(ledger.DropAudit), "", details); err != nil {
		return fmt.Errorf("remove statement: %w", err)
	}
	if err := a.cfg.Store.RemoveStatement(ctx, id); err != nil {
		return err
	}
	return a.refreshOrDrop(ctx)
}

// Audits returns the statements that registered auditors have signed, the newest
// first; those about an image where measured is not zero.
func (a *Auditors) Audits(_ context.Context, measured identity.Digest) ([]operator.Audit, error) {
	out := []operator.Audit{}
	for _, one := range a.held.Load().audits {
		if measured == (identity.Digest{}) || one.speaksOf(measured) {
			out = append(out, one.Audit)
		}
	}
	return out, nil
}

// Audit returns a statement, or a fault of kind NotFound.
func (a *Auditors) Audit(_ context.Context, id identity.Digest) (operator.Audit, error) {
	one, ok := a.held.Load().find(id)
	if !ok {
		return one, fault.New(fault.NotFound, "there is no statement %s", id)
	}
	return one, nil
}

// Of returns what counts about the image that a device measures as digest: the
// newest statement of each auditor. What it returns is never changed.
func (a *Auditors) Of(digest identity.Digest) []appraise.Audit { return a.held.Load().of[digest] }

// Epoch names all that counts: it is another when that is. It is zero where
// nothing does.
func (a *Auditors) Epoch() identity.Digest { return a.held.Load().epoch }

// Changed returns a channel that is closed when something else counts than now.
func (a *Auditors) Changed() <-chan struct{} { return a.held.Load().changed }

// CheckRelease refuses a release whose statement no registered auditor has
// signed, or which is not about its image.
func (a *Auditors) CheckRelease(ctx context.Context, r release.Release, envelope []byte) error {
	s, who, err := a.open(ctx, a.held.Load(), envelope)
	if err != nil {
		return fmt.Errorf("release %s: %w", r.Path(), err)
	}
	if _, ok := s.Image(r.Measured); !ok {
		return fault.New(fault.Integrity, "release %s: the statement of the auditor %s is not about its image, which measures as %s", r.Path(), who.Name, r.Measured)
	}
	return nil
}

// open verifies an envelope with the keys of st. Its refusals are for whoever
// gave it.
func (a *Auditors) open(ctx context.Context, st *state, envelope []byte) (*statement.Statement, operator.Auditor, error) {
	if len(envelope) > statement.MaxSize {
		return nil, operator.Auditor{}, fault.New(fault.Invalid, "the statement has %d bytes: want %d at most", len(envelope), statement.MaxSize)
	}
	signers, err := statement.Signers(envelope)
	switch {
	case err != nil:
		return nil, operator.Auditor{}, fault.New(fault.Invalid, "it is no DSSE envelope: %w", err)
	case len(signers) == 0:
		return nil, operator.Auditor{}, fault.New(fault.Integrity, "the statement is not signed")
	}
	s, id, err := statement.Verify(ctx, envelope, st.publicKeys()...)
	switch {
	case errors.Is(err, statement.ErrNotSigned):
		if one, ok := st.keyed[signers[0]]; ok {
			return nil, operator.Auditor{}, fault.New(fault.Integrity, "the signature of the auditor %s does not verify", one.Name)
		}
		return nil, operator.Auditor{}, fault.New(fault.Integrity, "no registered auditor has signed the statement; it names the key %.64q ('holdfast auditor add')", signers[0])
	case err != nil:
		return nil, operator.Auditor{}, fault.New(fault.Invalid, "%w", err)
	case s.Predicate.Time.After(a.cfg.Now().Add(ahead)):
		return nil, operator.Auditor{}, fault.New(fault.Invalid, "the statement's time, %s, has not come yet", s.Predicate.Time.UTC().Format(time.RFC3339))
	}
	return s, st.keyed[id].Auditor, nil
}

// known is a registered auditor with its key.
type known struct {
	operator.Auditor
	key crypto.PublicKey
}

func byName(a, b known) int { return cmp.Compare(a.Name, b.Name) }
