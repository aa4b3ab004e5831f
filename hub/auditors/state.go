package auditors

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/appraise"
	"holdfast/finding"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/statement"
)

// state is what counts. It never changes: a change makes another.
type state struct {
	auditors []operator.Auditor // by name
	keyed    map[string]known   // those that count, by the id of their key
	audits   []audit            // that verify, the newest first
	of       map[identity.Digest][]appraise.Audit
	epoch    identity.Digest
	changed  chan struct{} // closed when another takes its place
}

// audit is a statement that was verified.
type audit struct {
	operator.Audit
	key string // that signed it
}

func newState() *state {
	return &state{keyed: map[string]known{}, of: map[identity.Digest][]appraise.Audit{}, changed: make(chan struct{})}
}

func (s *state) find(id identity.Digest) (operator.Audit, bool) {
	i := slices.IndexFunc(s.audits, func(a audit) bool { return a.ID == id })
	if i < 0 {
		return operator.Audit{}, false
	}
	return s.audits[i].Audit, true
}

func (s *state) publicKeys() []crypto.PublicKey {
	var keys []crypto.PublicKey
	for _, k := range slices.SortedFunc(maps.Values(s.keyed), byName) {
		keys = append(keys, k.key)
	}
	return keys
}

func (a audit) speaksOf(measured identity.Digest) bool {
	return slices.ContainsFunc(a.Images, func(i finding.Image) bool { return i.Measured == measured })
}

// Refresh looks at auditors, statements and releases as they are now. What
// cannot be read is an error, and what counted before goes on to.
func (a *Auditors) Refresh(ctx context.Context) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	return a.refresh(ctx)
}

// refresh is Refresh for who is changing something.
func (a *Auditors) refresh(ctx context.Context) error {
	was, is := a.held.Load(), newState()
	if err := a.loadAuditors(ctx, is); err != nil {
		return fmt.Errorf("load auditors: %w", err)
	}
	if err := a.loadStatements(ctx, was, is); err != nil {
		return fmt.Errorf("load statements: %w", err)
	}
	a.loadReleases(ctx, was, is)
	is.settle()
	if was.epoch == is.epoch {
		is.changed = was.changed
	}
	a.held.Store(is)
	if was.epoch != is.epoch {
		close(was.changed)
	}
	return nil
}

// refreshOrDrop is refresh after something was taken away: what cannot be looked
// at then does not count.
func (a *Auditors) refreshOrDrop(ctx context.Context) error {
	err := a.refresh(ctx)
	if err != nil {
		close(a.held.Swap(newState()).changed)
	}
	return err
}

// loadAuditors reads the auditors. One whose key has got another role since it
// was registered does not count.
func (a *Auditors) loadAuditors(ctx context.Context, is *state) error {
	all, err := a.cfg.Store.Auditors(ctx)
	if err != nil {
		return err
	}
	for _, one := range all {
		key, err := statement.ParseKey([]byte(one.Key))
		if err != nil {
			return fmt.Errorf("%s: %w", one.Name, err)
		}
		role, err := a.cfg.Keys.Role(ctx, one.ID)
		if err != nil {
			return fmt.Errorf("%s: %w", one.Name, err)
		}
		if role != "" {
			one.Trouble = "its key is " + role + " too"
		} else {
			is.keyed[one.ID.String()] = known{one, key}
		}
		is.auditors = append(is.auditors, one)
	}
	return nil
}

// loadStatements takes in what operators added.
func (a *Auditors) loadStatements(ctx context.Context, was, is *state) error {
	all, err := a.cfg.Store.Statements(ctx)
	if err != nil {
		return err
	}
	for _, s := range all {
		one, err := a.take(ctx, was, is, s.ID, func() ([]byte, error) { return s.Envelope, nil })
		if err != nil {
			a.cfg.Log.WarnContext(ctx, "a statement does not count", "statement", s.ID, "err", err)
			continue
		}
		one.By, one.Received, one.Release = s.By, s.Received, ""
		is.audits = append(is.audits, one)
	}
	return nil
}

// loadReleases takes in what releases brought.
func (a *Auditors) loadReleases(ctx context.Context, was, is *state) {
	for _, r := range a.cfg.Releases.Releases(ctx) {
		if r.Audit == nil {
			continue
		}
		if _, ok := is.find(r.Audit.SHA256); ok {
			continue
		}
		one, err := a.take(ctx, was, is, r.Audit.SHA256, func() ([]byte, error) { return a.cfg.Releases.Document(ctx, *r.Audit) })
		if err != nil {
			a.cfg.Log.WarnContext(ctx, "the statement of a release does not count", "release", r.Path(), "err", err)
			continue
		}
		one.By, one.Received, one.Release = "", time.Time{}, title(r)
		is.audits = append(is.audits, one)
	}
}

func title(r release.Release) string { return string(r.Product) + " " + r.Version.String() }

// take verifies a statement with the keys of is. One that was verified before,
// by a key that still counts, is not verified again.
func (a *Auditors) take(ctx context.Context, was, is *state, id identity.Digest, read func() ([]byte, error)) (audit, error) {
	if i := slices.IndexFunc(was.audits, func(x audit) bool { return x.ID == id }); i >= 0 {
		one := was.audits[i]
		if by, ok := is.keyed[one.key]; ok {
			one.Auditor, one.Older = by.Name, false
			return one, nil
		}
	}
	envelope, err := read()
	if err != nil {
		return audit{}, err
	}
	s, who, err := a.open(ctx, is, envelope)
	if err != nil {
		return audit{}, err
	}
	p := s.Predicate
	one := audit{key: who.ID.String(), Audit: operator.Audit{ID: id, Auditor: who.Name, Program: p.Auditor, Rules: p.Rules, Revision: p.Revision,
		Time: p.Time.UTC(), Images: matched(s), Rows: p.Rows, Findings: p.Findings}}
	return one, nil
}

// matched returns the images that a statement is about.
func matched(s *statement.Statement) []finding.Image {
	out := []finding.Image{}
	for _, i := range s.Predicate.Images {
		if i.Matches != "" && i.Measured != (identity.Digest{}) {
			out = append(out, i)
		}
	}
	return out
}

// settle puts the statements in order, and finds out what counts about each
// image.
func (s *state) settle() {
	slices.SortStableFunc(s.audits, func(a, b audit) int {
		return cmp.Or(b.Time.Compare(a.Time), b.Received.Compare(a.Received), cmp.Compare(a.ID.String(), b.ID.String()))
	})
	type about struct {
		key      string
		measured identity.Digest
	}
	spoken := map[about]bool{}
	h := sha256.New()
	for i := range s.audits {
		one := &s.audits[i]
		one.Older = true
		for _, img := range one.Images {
			if at := (about{one.key, img.Measured}); !spoken[at] {
				spoken[at], one.Older = true, false
				s.of[img.Measured] = append(s.of[img.Measured], counted(one.Audit))
				fmt.Fprintf(h, "%s %s %q\n", img.Measured, one.ID, one.Auditor)
			}
		}
	}
	if len(s.of) > 0 {
		h.Sum(s.epoch[:0])
	}
}

// counted is what of a statement is held against devices.
func counted(a operator.Audit) appraise.Audit {
	rows := slices.DeleteFunc(slices.Clone(a.Rows), func(r finding.Row) bool { return !slices.Contains(appraise.AuditedMeasures(), r.Measure) })
	return appraise.Audit{Auditor: a.Auditor, Program: a.Program, Time: a.Time, Rows: rows}
}
