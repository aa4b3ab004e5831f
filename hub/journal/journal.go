// Package journal is the hub's hand on the ledger: it gives entries their
// time, appends them, and signs heads. Services record through it; the
// operator API reads through it.
package journal

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"

	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
)

// Store keeps the ledger. AppendLedger returns after the record is on disk.
type Store interface {
	AppendLedger(ctx context.Context, e ledger.Entry) (ledger.Record, error)
	LedgerTip(ctx context.Context) (ledger.Tip, error)
	SearchLedger(ctx context.Context, q operator.LedgerQuery) ([]ledger.Record, error)
}

// Config has what a Journal works with.
type Config struct {
	Store  Store         // required
	Signer crypto.Signer // signs heads: ECDSA P-256 or Ed25519; required
	Log    *slog.Logger
	Now    func() time.Time // default time.Now
}

// Journal records what is relevant to security. It is safe for concurrent use.
type Journal struct {
	cfg Config

	mu   sync.Mutex
	head ledger.Head // the last one signed
}

// New returns a journal, once the key can sign.
func New(cfg Config) (*Journal, error) {
	if cfg.Store == nil || cfg.Signer == nil {
		return nil, errors.New("journal: store and signer are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if _, err := ledger.Sign(cfg.Signer, ledger.Tip{}, cfg.Now()); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return &Journal{cfg: cfg}, nil
}

// Append records an entry; a zero time is now. It returns after the record is
// on disk.
func (j *Journal) Append(ctx context.Context, e ledger.Entry) error {
	if e.Time.IsZero() {
		e.Time = j.cfg.Now()
	}
	r, err := j.cfg.Store.AppendLedger(ctx, e)
	if err != nil {
		return err
	}
	j.cfg.Log.DebugContext(ctx, "recorded", "seq", r.Seq, "kind", r.Kind, "device", r.Device)
	return nil
}

// Record records an entry whose details are a value that marshals to a JSON
// object. Its members "by", "reason" and "group", where they are text and fit,
// become the entry's actor, reason and group; of a group that is an object the
// id does. An act of whoever asks in ctx says from where it came, and via what.
func (j *Journal) Record(ctx context.Context, kind string, device identity.Device, details any) error {
	e := ledger.Entry{Kind: ledger.Kind(kind), Device: device}
	if details != nil {
		b, err := json.Marshal(details)
		if err != nil {
			return fmt.Errorf("record %s: %w", kind, err)
		}
		e.Details = b
		lift(&e, operator.From(ctx))
	}
	return j.Append(ctx, e)
}

// lift moves the members of the details that an entry has fields for, and says
// where an act of p came from.
func lift(e *ledger.Entry, p operator.Principal) {
	var members map[string]json.RawMessage
	if json.Unmarshal(e.Details, &members) != nil {
		return // Next says what is wrong with them
	}
	e.Actor = take(members, "by", ledger.MaxActor)
	e.Reason = take(members, "reason", ledger.MaxReason)
	if g, err := identity.ParseGroup(text(members["group"])); err == nil {
		e.Group = g
		delete(members, "group")
	} else if g, err := identity.ParseGroup(idOf(members["group"])); err == nil {
		e.Group = g
	}
	if e.Actor != "" && e.Actor == p.Name {
		from(members, "from", p.Remote)
		from(members, "via", string(p.Via))
	}
	if b, err := json.Marshal(members); err == nil {
		e.Details = b
	}
}

// from adds a member, unless there is one of that name or nothing to say.
func from(members map[string]json.RawMessage, name, value string) {
	if _, ok := members[name]; ok || value == "" {
		return
	}
	if b, err := json.Marshal(value); err == nil {
		members[name] = b
	}
}

// idOf returns the id of a JSON object; empty for all else.
func idOf(b json.RawMessage) string {
	var o struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(b, &o) != nil {
		return ""
	}
	return o.ID
}

// take removes a member and returns its text; one that is no plain text stays,
// and the result is empty.
func take(members map[string]json.RawMessage, name string, limit int) string {
	s := text(members[name])
	if len(s) > limit || strings.ContainsFunc(s, unicode.IsControl) {
		return ""
	}
	if s != "" {
		delete(members, name)
	}
	return s
}

// text returns a JSON string's text; empty for all else.
func text(b json.RawMessage) string {
	var s string
	if json.Unmarshal(b, &s) != nil {
		return ""
	}
	return s
}

// Head returns the signed head of the ledger as it is now. While nothing is
// recorded it is the same one. One at a time reads the ledger and signs: of two
// heads the later never has fewer records, which would look like a ledger that
// was shortened.
func (j *Journal) Head(ctx context.Context) (ledger.Head, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	tip, err := j.cfg.Store.LedgerTip(ctx)
	if err != nil {
		return ledger.Head{}, err
	}
	if j.head.Tip() == tip && j.head.Signature != nil {
		return j.head, nil
	}
	head, err := ledger.Sign(j.cfg.Signer, tip, j.cfg.Now())
	if err != nil {
		return ledger.Head{}, err
	}
	j.head = head
	return head, nil
}

// Records returns what q selects.
func (j *Journal) Records(ctx context.Context, q operator.LedgerQuery) ([]ledger.Record, error) {
	return j.cfg.Store.SearchLedger(ctx, q)
}
