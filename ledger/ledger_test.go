package ledger_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/ledger"
)

var start = time.Date(2026, 11, 2, 3, 4, 5, 6, time.UTC)

func entry(n int) ledger.Entry {
	return ledger.Entry{
		Time: start.Add(time.Duration(n) * time.Second), Kind: ledger.Revoke, Device: "pump-01", Group: "pumps",
		Actor: "operator:first", Reason: fmt.Sprintf("reason %d", n), Details: json.RawMessage(fmt.Sprintf(`{"n": %d, "a": "<ü>"}`, n)),
	}
}

// chain returns n records; change alters entries on the way.
func chain(t testing.TB, n int, change func(int, *ledger.Entry)) []ledger.Record {
	t.Helper()
	var records []ledger.Record
	var tip ledger.Tip
	for i := range n {
		e := entry(i + 1)
		if change != nil {
			change(i+1, &e)
		}
		r, err := ledger.Next(tip, e)
		if err != nil {
			t.Fatal(err)
		}
		records, tip = append(records, r), r.Tip()
	}
	return records
}

func each(records []ledger.Record) iter.Seq2[ledger.Record, error] {
	return func(yield func(ledger.Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func head(r ledger.Record) ledger.Head { return ledger.Head{Seq: r.Seq, Hash: r.Hash} }

func TestVerify(t *testing.T) {
	whole := chain(t, 10, nil)
	rewritten := chain(t, 10, func(n int, e *ledger.Entry) {
		if n == 4 {
			e.Actor = "hub"
		}
	})
	edit := func(f func([]ledger.Record) []ledger.Record) []ledger.Record { return f(slices.Clone(whole)) }
	for _, tt := range []struct {
		name    string
		records []ledger.Record
		heads   []ledger.Head
		err     error
		seq     uint64 // of the error
		want    string // text of the result
	}{
		{"no head", whole, nil, nil, 0, "consistent with itself only"},
		{"empty", nil, nil, nil, 0, "0 records, consistent with itself only"},
		{"head at the end", whole, []ledger.Head{head(whole[9])}, nil, 0, "10 records, all as they were"},
		{"head within", whole, []ledger.Head{head(whole[5])}, nil, 0, "up to 6 as they were"},
		{"heads out of order", whole, []ledger.Head{head(whole[7]), head(whole[2]), {}}, nil, 0, "up to 8 as they were"},
		{"rewritten, no head", rewritten, nil, nil, 0, "consistent with itself only"},
		{"rewritten after the head", rewritten, []ledger.Head{head(whole[2])}, nil, 0, "up to 3 as they were"},

		{"whole chain rewritten", rewritten, []ledger.Head{head(whole[9])}, ledger.ErrRewritten, 10, ""},
		{"rewritten, one good head", rewritten, []ledger.Head{head(whole[2]), head(whole[5])}, ledger.ErrRewritten, 6, ""},
		{"shortened", whole[:7], []ledger.Head{head(whole[9])}, ledger.ErrShortened, 10, ""},
		{"shortened by one", whole[:9], []ledger.Head{head(whole[2]), head(whole[9])}, ledger.ErrShortened, 10, ""},
		{"emptied", nil, []ledger.Head{head(whole[0])}, ledger.ErrShortened, 1, ""},
		{"started anew", chain(t, 2, nil), []ledger.Head{{Seq: 0, Hash: identity.Digest{1}}}, ledger.ErrRewritten, 0, ""},
		{"shortened, no head", whole[:7], nil, nil, 0, "7 records, consistent with itself only"},

		{"first record missing", whole[1:], nil, ledger.ErrBroken, 1, ""},
		{"record missing", edit(func(r []ledger.Record) []ledger.Record { return slices.Delete(r, 4, 5) }), nil, ledger.ErrBroken, 5, ""},
		{"record twice", edit(func(r []ledger.Record) []ledger.Record { return slices.Insert(r, 4, r[3]) }), nil, ledger.ErrBroken, 5, ""},
		{"records swapped", edit(func(r []ledger.Record) []ledger.Record { r[4], r[5] = r[5], r[4]; return r }), nil, ledger.ErrBroken, 5, ""},
		{"record of another chain", edit(func(r []ledger.Record) []ledger.Record { r[6] = rewritten[6]; return r }), nil, ledger.ErrBroken, 7, ""},
		{"record changed, its hash too", edit(func(r []ledger.Record) []ledger.Record { r[3] = rewritten[3]; return r }), nil, ledger.ErrBroken, 5, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, err := ledger.Verify(each(tt.records), tt.heads...)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if c, ok := errors.AsType[*ledger.ChainError](err); ok && c.Seq != tt.seq {
				t.Errorf("error at record %d, want %d", c.Seq, tt.seq)
			}
			if err == nil && !strings.Contains(res.String(), tt.want) {
				t.Errorf("%q, want %q", res, tt.want)
			}
		})
	}
}

// Whatever is changed in a record, its hash notices.
func TestVerifyFindsAChangedRecord(t *testing.T) {
	whole := chain(t, 5, nil)
	for name, change := range map[string]func(*ledger.Record){
		"time":           func(r *ledger.Record) { r.Time = r.Time.Add(1) },
		"kind":           func(r *ledger.Record) { r.Kind = ledger.Restore },
		"device":         func(r *ledger.Record) { r.Device = "pump-02" },
		"no device":      func(r *ledger.Record) { r.Device = "" },
		"group":          func(r *ledger.Record) { r.Group = "other" },
		"actor":          func(r *ledger.Record) { r.Actor = "operator:second" },
		"reason":         func(r *ledger.Record) { r.Reason = "" },
		"details":        func(r *ledger.Record) { r.Details = json.RawMessage(`{"n":4}`) },
		"no details":     func(r *ledger.Record) { r.Details = nil },
		"broken details": func(r *ledger.Record) { r.Details = json.RawMessage(`{`) },
		"text moved":     func(r *ledger.Record) { r.Actor, r.Reason = r.Actor+r.Reason[:1], r.Reason[1:] },
		"field moved":    func(r *ledger.Record) { r.Device, r.Group = identity.Device(r.Group), identity.Group(r.Device) },
		"hash":           func(r *ledger.Record) { r.Hash[0]++ },
		"invalid time":   func(r *ledger.Record) { r.Time = time.Time{} },
	} {
		records := slices.Clone(whole)
		change(&records[2])
		_, err := ledger.Verify(each(records))
		if c, ok := errors.AsType[*ledger.ChainError](err); !ok || c.Seq != 3 || c.Err != ledger.ErrChanged {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Records survive export as JSON, also through tools that reformat it.
func TestReadAfterExport(t *testing.T) {
	whole := chain(t, 5, nil)
	var plain, indented bytes.Buffer
	for _, r := range whole {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&plain, "%s\n\n", b)
		var tree map[string]any // what a script would do
		if err := json.Unmarshal(b, &tree); err != nil {
			t.Fatal(err)
		}
		b, err = json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&indented, "%s\n", b)
	}
	for name, text := range map[string]*bytes.Buffer{"as exported": &plain, "through a script": &indented} {
		var got []ledger.Record
		for r, err := range ledger.Read(bytes.NewReader(text.Bytes())) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		if len(got) != len(whole) {
			t.Errorf("%s: %d records", name, len(got))
		}
		if _, err := ledger.Verify(ledger.Read(text), head(whole[4])); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ledger.Verify(ledger.Read(strings.NewReader("{}\n"))); fault.Of(err) != fault.Invalid {
		t.Errorf("an empty object: %v", err)
	}
}

func TestNextRefuses(t *testing.T) {
	for name, change := range map[string]func(*ledger.Entry){
		"no time":           func(e *ledger.Entry) { e.Time = time.Time{} },
		"time out of range": func(e *ledger.Entry) { e.Time = start.AddDate(400, 0, 0) },
		"no kind":           func(e *ledger.Entry) { e.Kind = "" },
		"kind with space":   func(e *ledger.Entry) { e.Kind = "a b" },
		"kind ends in dot":  func(e *ledger.Entry) { e.Kind = "a." },
		"long kind":         func(e *ledger.Entry) { e.Kind = ledger.Kind(strings.Repeat("a", 65)) },
		"device":            func(e *ledger.Entry) { e.Device = "a/b" },
		"group":             func(e *ledger.Entry) { e.Group = "Pumps" },
		"long actor":        func(e *ledger.Entry) { e.Actor = strings.Repeat("a", ledger.MaxActor+1) },
		"line in reason":    func(e *ledger.Entry) { e.Reason = "a\nb" },
		"not UTF-8":         func(e *ledger.Entry) { e.Reason = "\xff" },
		"long reason":       func(e *ledger.Entry) { e.Reason = strings.Repeat("a", ledger.MaxReason+1) },
		"details not JSON":  func(e *ledger.Entry) { e.Details = json.RawMessage(`{"a"}`) },
		"details an array":  func(e *ledger.Entry) { e.Details = json.RawMessage(`[]`) },
		"a name twice":      func(e *ledger.Entry) { e.Details = json.RawMessage(`{"a":1,"a":2}`) },
		"long details": func(e *ledger.Entry) {
			e.Details = json.RawMessage(`{"a":"` + strings.Repeat("a", ledger.MaxDetails) + `"}`)
		},
	} {
		e := entry(1)
		change(&e)
		if _, err := ledger.Next(ledger.Tip{}, e); fault.Of(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func keys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"P-256": ec, "Ed25519": ed}
}

func TestHead(t *testing.T) {
	for name, key := range keys(t) {
		tip := chain(t, 3, nil)[2].Tip()
		h, err := ledger.Sign(key, tip, start)
		if err != nil {
			t.Fatal(name, err)
		}
		b, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		var got ledger.Head
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(h, got); d != "" || got.Tip() != tip {
			t.Error(name, d)
		}
		if err := got.Verify(key.Public()); err != nil {
			t.Error(name, err)
		}
		for what, change := range map[string]func(*ledger.Head){
			"seq":       func(h *ledger.Head) { h.Seq++ },
			"hash":      func(h *ledger.Head) { h.Hash[0]++ },
			"time":      func(h *ledger.Head) { h.Time = h.Time.Add(time.Second) },
			"key":       func(h *ledger.Head) { h.Key[0]++ },
			"signature": func(h *ledger.Head) { h.Signature = slices.Concat(h.Signature[:8], []byte{1}, h.Signature[8:]) },
			"none":      func(h *ledger.Head) { h.Signature = nil },
		} {
			bad := h
			change(&bad)
			if err := bad.Verify(key.Public()); fault.Of(err) != fault.Integrity {
				t.Errorf("%s, %s changed: %v", name, what, err)
			}
		}
		for _, other := range keys(t) {
			if err := h.Verify(other.Public()); fault.Of(err) != fault.Integrity {
				t.Errorf("%s with another key: %v", name, err)
			}
		}
	}
}

func TestSignRefusesOtherKeys(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Sign(key, ledger.Tip{}, start); err == nil {
		t.Error("P-384 was taken")
	}
}

// The hash of a fixed record: it changes only with the format, and then
// records of old ledgers no longer verify.
func TestHashIsStable(t *testing.T) {
	const want = "35e16f0c498c03bf0b359b9a5ae87ed8b4cf89addc0619d7bee44485c19451fd"
	if got := chain(t, 2, nil)[1].Hash.String(); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, r := range chain(f, 3, nil) {
		b, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ledger.ParseRecord(b)
		if err != nil {
			return
		}
		b, err = json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ledger.ParseRecord(b)
		if err != nil || !again.Time.Equal(r.Time) || again.Hash != r.Hash || again.Reason != r.Reason {
			t.Fatalf("%s: %v", b, err)
		}
		_, _ = ledger.Verify(each([]ledger.Record{r}), head(r))
	})
}

func BenchmarkNext(b *testing.B) {
	e := entry(1)
	for b.Loop() {
		if _, err := ledger.Next(ledger.Tip{}, e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	records := chain(b, 1000, nil)
	for b.Loop() {
		if _, err := ledger.Verify(each(records)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func TestPagesReadsAllFromARecordOn(t *testing.T) {
	for _, total := range []int{0, 1, 999, 1000, 1001, 2500} {
		asked := 0
		read := func(from int64, limit int) ([]ledger.Record, error) {
			asked++
			rs := make([]ledger.Record, min(limit, max(0, total-int(from)+1)))
			for i := range rs {
				rs[i].Seq = uint64(from) + uint64(i)
			}
			return rs, nil
		}
		next := uint64(1)
		for r, err := range ledger.Pages(1, read) {
			if err != nil || r.Seq != next {
				t.Fatalf("of %d: record %d, %v, want %d", total, r.Seq, err, next)
			}
			next++
		}
		if int(next) != total+1 || asked != total/1000+1 {
			t.Errorf("of %d: read up to %d in %d pages", total, next-1, asked)
		}
	}
}

func TestPagesReportsItsReader(t *testing.T) {
	broken := errors.New("broken")
	for _, err := range ledger.Pages(1, func(int64, int) ([]ledger.Record, error) { return nil, broken }) {
		if !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
		return
	}
	t.Error("nothing was said")
}
