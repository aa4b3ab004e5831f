package journal_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/hub/journal"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
)

// memory is a ledger in memory.
type memory struct{ records []ledger.Record }

func (m *memory) AppendLedger(_ context.Context, e ledger.Entry) (ledger.Record, error) {
	tip, _ := m.LedgerTip(context.Background())
	r, err := ledger.Next(tip, e)
	if err == nil {
		m.records = append(m.records, r)
	}
	return r, err
}

func (m *memory) LedgerTip(context.Context) (ledger.Tip, error) {
	if len(m.records) == 0 {
		return ledger.Tip{}, nil
	}
	return m.records[len(m.records)-1].Tip(), nil
}

func (m *memory) SearchLedger(_ context.Context, q operator.LedgerQuery) ([]ledger.Record, error) {
	rest := m.records[min(max(int(q.From), 1)-1, len(m.records)):]
	return rest[:min(q.Limit, len(rest))], nil
}

var now = time.Date(2026, 11, 2, 3, 4, 5, 6, time.UTC)

func open(t *testing.T) (*journal.Journal, *memory, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{}
	j, err := journal.New(journal.Config{Store: m, Signer: key, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return j, m, key
}

func TestRecord(t *testing.T) {
	long := strings.Repeat("x", ledger.MaxActor+1)
	for _, tt := range []struct {
		name    string
		details any
		want    ledger.Entry
	}{
		{"nothing", nil, ledger.Entry{}},
		{"all", map[string]any{"by": "operator:a", "reason": "why", "group": "pumps", "n": 1},
			ledger.Entry{Actor: "operator:a", Reason: "why", Group: "pumps", Details: json.RawMessage(`{"n":1}`)}},
		{"group as object", map[string]any{"group": map[string]any{"name": "pumps"}},
			ledger.Entry{Details: json.RawMessage(`{"group":{"name":"pumps"}}`)}},
		{"group with an id", map[string]any{"group": map[string]any{"id": "pumps", "n": 1}},
			ledger.Entry{Group: "pumps", Details: json.RawMessage(`{"group":{"id":"pumps","n":1}}`)}},
		{"group without form", map[string]any{"group": "No Group"}, ledger.Entry{Details: json.RawMessage(`{"group":"No Group"}`)}},
		{"reason of two lines", map[string]any{"reason": "a\nb"}, ledger.Entry{Details: json.RawMessage(`{"reason":"a\nb"}`)}},
		{"long actor", map[string]any{"by": long}, ledger.Entry{Details: json.RawMessage(`{"by":"` + long + `"}`)}},
		{"not UTF-8", map[string]any{"reason": "a\xff"}, ledger.Entry{Reason: "a\ufffd", Details: json.RawMessage(`{}`)}},
	} {
		j, m, _ := open(t)
		if err := j.Record(t.Context(), "device.revoke", "pump-01", tt.details); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		tt.want.Time, tt.want.Kind, tt.want.Device = now, ledger.Revoke, identity.Device("pump-01")
		if d := cmp.Diff(tt.want, m.records[0].Entry); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
	j, m, _ := open(t)
	if err := j.Record(t.Context(), "device.revoke", "pump-01", []int{1}); err == nil || len(m.records) != 0 {
		t.Error("an array was taken for details")
	}
}

// An act of whoever asks says where that one was; what others did, or the hub
// itself, does not.
func TestRecordSaysFromWhereAnActCame(t *testing.T) {
	ctx := operator.With(t.Context(), operator.Principal{Name: "ada", Remote: "192.0.2.7", Via: operator.ViaPasskey})
	for _, tt := range []struct {
		name    string
		details map[string]any
		want    string
	}{
		{"its own", map[string]any{"by": "ada"}, `{"from":"192.0.2.7","via":"passkey"}`},
		{"somebody else's", map[string]any{"by": "bob"}, `{}`},
		{"nobody's", map[string]any{"n": 1}, `{"n":1}`},
		{"one that says it already", map[string]any{"by": "ada", "from": "x", "via": "token"}, `{"from":"x","via":"token"}`},
	} {
		j, m, _ := open(t)
		if err := j.Record(ctx, "device.revoke", "pump-01", tt.details); err != nil {
			t.Fatal(err)
		}
		if got := string(m.records[0].Details); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestHead(t *testing.T) {
	j, m, key := open(t)
	var last ledger.Head
	for i := range 4 {
		h, err := j.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Verify(key.Public()); err != nil || h.Seq != uint64(i) {
			t.Errorf("head %d: %v", h.Seq, err)
		}
		if again, _ := j.Head(t.Context()); !cmp.Equal(h, again) {
			t.Error("a second head of the same ledger")
		}
		last = h
		if err := j.Append(t.Context(), ledger.Entry{Kind: ledger.HubStart}); err != nil {
			t.Fatal(err)
		}
	}
	records, err := j.Records(t.Context(), operator.LedgerQuery{Limit: 10})
	if err != nil || len(records) != 4 {
		t.Fatalf("%v, %v", records, err)
	}
	res, err := ledger.Verify(func(yield func(ledger.Record, error) bool) {
		for _, r := range m.records {
			if !yield(r, nil) {
				return
			}
		}
	}, last)
	if err != nil || res.Anchored != 3 {
		t.Errorf("%v, %v", res, err)
	}
}

// shared is memory for many at a time.
type shared struct {
	mu sync.Mutex
	memory
}

func (s *shared) AppendLedger(ctx context.Context, e ledger.Entry) (ledger.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory.AppendLedger(ctx, e)
}

// LedgerTip lets others go ahead before it returns.
func (s *shared) LedgerTip(context.Context) (ledger.Tip, error) {
	defer runtime.Gosched()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records[len(s.records)-1].Tip(), nil
}

// TestHeadsAskedForAtOnce: whoever sees a later head with fewer records takes
// the hub for a liar.
func TestHeadsAskedForAtOnce(t *testing.T) {
	_, _, key := open(t)
	j, err := journal.New(journal.Config{Store: &shared{}, Signer: key, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	heads := make([][]ledger.Head, 8)
	var group sync.WaitGroup
	for i := range heads {
		group.Go(func() {
			for range 200 {
				err := j.Record(t.Context(), string(ledger.Verdict), "pump-01", nil)
				h, headErr := j.Head(t.Context())
				if err := errors.Join(err, headErr); err != nil {
					t.Error(err)
					return
				}
				heads[i] = append(heads[i], h)
			}
		})
	}
	group.Wait()
	all := slices.SortedFunc(slices.Values(slices.Concat(heads...)), func(a, b ledger.Head) int { return a.Time.Compare(b.Time) })
	for i, h := range all[1:] {
		if h.Time.After(all[i].Time) && h.Seq < all[i].Seq {
			t.Fatalf("%d records at %v, %d at %v", all[i].Seq, all[i].Time, h.Seq, h.Time)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []journal.Config{{}, {Store: &memory{}}, {Store: &memory{}, Signer: p384}} {
		if _, err := journal.New(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}
