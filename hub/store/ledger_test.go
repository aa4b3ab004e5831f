package store_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/fault"
	"holdfast/hub/store"
	"holdfast/ledger"
)

func openAt(t testing.TB, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func ledgerEntry(n int) ledger.Entry {
	return ledger.Entry{
		Time: time.Date(2026, 11, 2, 0, 0, n, 1, time.UTC), Kind: ledger.Revoke, Device: "pump-01", Group: "pumps",
		Actor: "operator:first", Reason: fmt.Sprint("reason ", n), Details: json.RawMessage(`{"a":1}`),
	}
}

// verifyStored checks the ledger in a store against heads kept elsewhere.
func verifyStored(t testing.TB, s *store.Store, heads ...ledger.Head) (ledger.Result, error) {
	t.Helper()
	records, err := s.LedgerRecords(t.Context(), 1, 1000)
	if err != nil {
		return ledger.Result{}, err
	}
	return ledger.Verify(func(yield func(ledger.Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}, heads...)
}

func TestLedger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	s := openAt(t, path)
	if tip, err := s.LedgerTip(t.Context()); err != nil || tip != (ledger.Tip{}) {
		t.Fatalf("empty: %v, %v", tip, err)
	}
	var want []ledger.Record
	for i := range 10 {
		e := ledgerEntry(i)
		if i == 5 {
			e = ledger.Entry{Time: e.Time, Kind: ledger.HubStart} // all else is optional
		}
		r, err := s.AppendLedger(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, r)
	}
	if _, err := s.AppendLedger(t.Context(), ledger.Entry{}); fault.Of(err) != fault.Invalid {
		t.Errorf("an empty entry: %v", err)
	}
	s.Close()
	s = openAt(t, path)
	got, err := s.LedgerRecords(t.Context(), 1, 100)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got, err = s.LedgerRecords(t.Context(), 4, 3); err != nil || len(got) != 3 || got[0].Seq != 4 {
		t.Errorf("from 4: %v, %v", got, err)
	}
	if tip, err := s.LedgerTip(t.Context()); err != nil || tip != want[9].Tip() {
		t.Errorf("tip %v, %v", tip, err)
	}
	if res, err := verifyStored(t, s); err != nil || res.Tip.Seq != 10 {
		t.Errorf("%v, %v", res, err)
	}
}

func TestLedgerKeepsItsChainUnderConcurrency(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "hub.db"))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				if _, err := s.AppendLedger(t.Context(), ledgerEntry(10*i+j)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if res, err := verifyStored(t, s); err != nil || res.Tip.Seq != 80 {
		t.Errorf("%v, %v", res, err)
	}
}

// Somebody who may write the database changes it behind the hub's back.
func TestLedgerFindsTampering(t *testing.T) {
	for name, tt := range map[string]struct {
		sql  string
		want error
	}{
		"changed":   {`UPDATE ledger SET reason = 'another' WHERE seq = 3`, ledger.ErrChanged},
		"deleted":   {`DELETE FROM ledger WHERE seq = 3`, ledger.ErrBroken},
		"shortened": {`DELETE FROM ledger WHERE seq > 3`, ledger.ErrShortened},
		"emptied":   {`DELETE FROM ledger`, ledger.ErrShortened},
		"hash cut":  {`UPDATE ledger SET hash = x'00' WHERE seq = 3`, nil},
	} {
		path := filepath.Join(t.TempDir(), "hub.db")
		s := openAt(t, path)
		var last ledger.Record
		for i := range 5 {
			var err error
			if last, err = s.AppendLedger(t.Context(), ledgerEntry(i)); err != nil {
				t.Fatal(err)
			}
		}
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), tt.sql); err != nil {
			t.Fatal(err)
		}
		db.Close()
		_, err = verifyStored(t, s, ledger.Head{Seq: last.Seq, Hash: last.Hash})
		if tt.want != nil && !errors.Is(err, tt.want) || err == nil {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// A chain rewritten from an old record on is consistent with itself, and is
// found against a head kept elsewhere.
func TestLedgerFindsARewrittenChain(t *testing.T) {
	honest := openAt(t, filepath.Join(t.TempDir(), "hub.db"))
	forged := openAt(t, filepath.Join(t.TempDir(), "hub.db"))
	var last ledger.Record
	for i := range 5 {
		e := ledgerEntry(i)
		var err error
		if last, err = honest.AppendLedger(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			e.Actor = "operator:second"
		}
		if _, err := forged.AppendLedger(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := verifyStored(t, forged); err != nil {
		t.Errorf("without a head: %v", err)
	}
	if _, err := verifyStored(t, forged, ledger.Head{Seq: last.Seq, Hash: last.Hash}); !errors.Is(err, ledger.ErrRewritten) {
		t.Errorf("with a head: %v", err)
	}
}

func BenchmarkAppendLedger(b *testing.B) {
	s := openAt(b, filepath.Join(b.TempDir(), "hub.db"))
	took := make([]time.Duration, 0, 1<<16)
	for i := 0; b.Loop(); i++ {
		at := time.Now()
		if _, err := s.AppendLedger(b.Context(), ledgerEntry(i)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(at))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}
