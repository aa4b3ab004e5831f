package twins_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/fault"
	"holdfast/hub/store"
	"holdfast/hub/twins"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
)

// bench is Twins on a real store, with everything else around them.
type bench struct {
	*twins.Twins
	db *store.Store

	mu       sync.Mutex
	told     []string
	recorded []string
	away     bool
}

func (b *bench) Exists(_ context.Context, d identity.Device) error {
	if !strings.HasPrefix(string(d), "d") {
		return fault.New(fault.NotFound, "no device")
	}
	return nil
}

func (b *bench) Record(_ context.Context, kind string, d identity.Device, details any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, err := json.Marshal(details)
	b.recorded = append(b.recorded, fmt.Sprint(kind, " ", d, " ", string(text)))
	return err
}

func (b *bench) Desired(_ context.Context, d identity.Device, version int64, patch []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, fmt.Sprint(d, " ", version, " ", string(patch)))
	if b.away {
		return errors.New("the bus is down")
	}
	return nil
}

func newBench(t testing.TB) *bench {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	b := &bench{db: db}
	b.Twins, err = twins.New(twins.Config{Store: db.Twins(), Registry: b, Sessions: b, Ledger: b, Stored: func() {}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask asks as a device does and returns the topic and the body of the answer.
func (b *bench) ask(t testing.TB, r iothub.Request, body string) string {
	t.Helper()
	topic, answer, err := b.Answer(t.Context(), "d", r, []byte(body))
	if err != nil {
		return fmt.Sprint(int(iothub.CodeOf(err)), " ", fault.Public(err))
	}
	return topic.String() + " " + string(answer)
}

func set(tags, desired string) operator.SetTwin {
	var s operator.SetTwin
	if tags != "" {
		s.Tags = json.RawMessage(tags)
	}
	if desired != "" {
		s.Desired = json.RawMessage(desired)
	}
	return s
}

func TestDeviceReadsAndReports(t *testing.T) {
	b := newBench(t)
	if _, err := b.SetTwin(t.Context(), "tester", "d", set(`{"secret":1}`, `{"interval":5}`), false, ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ask        iothub.Request
		body, want string
	}{
		{iothub.ReportedPatch{RequestID: "1"}, `{"a":{"b":1},"c":2}`, `$iothub/twin/res/204/?$rid=1&$version=2 `},
		{iothub.ReportedPatch{RequestID: "2"}, `{"a":{"b":null,"d":1.50},"c":null}`, `$iothub/twin/res/204/?$rid=2&$version=3 `},
		{iothub.ReportedPatch{RequestID: "3"}, `{"a.b":1}`, `400004 reported: name "a.b" has '.', which is not allowed`},
		{iothub.ReportedPatch{RequestID: "4"}, `{`, `400012 reported: unexpected EOF after offset 1`},
		{iothub.TwinGet{RequestID: "5"}, ` `, `$iothub/twin/res/200/?$rid=5 {"desired":{"interval":5,"$version":2},"reported":{"a":{"d":1.50},"$version":3}}`},
	} {
		if got := b.ask(t, c.ask, c.body); got != c.want {
			t.Errorf("%T %s:\n got %s\nwant %s", c.ask, c.body, got, c.want)
		}
	}
}

func TestOperatorChanges(t *testing.T) {
	b := newBench(t)
	tw, err := b.SetTwin(t.Context(), "tester", "d", set(`{"site":"A"}`, `{"x":1,"y":{"z":2}}`), false, "*")
	if err != nil {
		t.Fatal(err)
	}
	old := tw.ETag
	if tw, err = b.SetTwin(t.Context(), "tester", "d", set(``, `{"y":null}`), false, tw.ETag); err != nil {
		t.Fatal(err)
	}
	if string(tw.Tags) != `{"site":"A"}` || string(tw.Desired) != `{"x":1,"$version":3}` || string(tw.Reported) != `{"$version":1}` {
		t.Errorf("twin %s %s %s", tw.Tags, tw.Desired, tw.Reported)
	}
	if _, err := b.SetTwin(t.Context(), "tester", "d", set(``, `{"y":1}`), false, old); iothub.CodeOf(err) != iothub.CodePrecondition {
		t.Errorf("old ETag: %v", err)
	}
	b.ask(t, iothub.ReportedPatch{RequestID: "1"}, `{"busy":true}`)
	if _, err := b.SetTwin(t.Context(), "tester", "d", set(`{"t":1}`, ``), true, tw.ETag); err != nil {
		t.Errorf("after a report: %v", err)
	}
	want := []string{`d 2 {"x":1,"y":{"z":2},"$version":2}`, `d 3 {"y":null,"$version":3}`}
	if fmt.Sprint(b.told) != fmt.Sprint(want) {
		t.Errorf("told %q, want %q", b.told, want)
	}
	if len(b.recorded) != 3 || !strings.Contains(b.recorded[1], `"by":"tester"`) || strings.Contains(b.recorded[0], "site") {
		t.Errorf("recorded %q", b.recorded)
	}
	es, err := b.db.Outbox().Events(t.Context(), 10)
	if err != nil || len(es) != 5 {
		t.Fatalf("%d events, %v", len(es), err)
	}
	for i, body := range []string{`{"tags":{"site":"A"}}`, `{"properties":{"desired":{"x":1,"y":{"z":2}}}}`, `{"properties":{"desired":{"y":null}}}`,
		`{"properties":{"reported":{"busy":true}}}`, `{"tags":{"t":1}}`} {
		if string(es[i].Message.Body) != body || es[i].Message.Kind != iothub.TwinChange || es[i].Message.Device != "d" {
			t.Errorf("event %d: %s, want %s", i, es[i].Message.Body, body)
		}
	}
	if es[4].Message.Properties["opType"] != "replaceTwin" {
		t.Errorf("replaced: %v", es[4].Message.Properties)
	}
}

func TestOperatorChangesThatAreRefused(t *testing.T) {
	b := newBench(t)
	big := `{"a":["` + strings.Repeat(strings.Repeat("x", 4000)+`","`, 3) + `"]}`
	for name, c := range map[string]struct {
		device identity.Device
		in     operator.SetTwin
		code   iothub.Code
	}{
		"nothing":      {"d", set(``, ``), iothub.CodeArgument},
		"unknown":      {"x", set(`{}`, ``), iothub.CodeDeviceNotFound},
		"null":         {"d", set(``, `null`), iothub.CodeDeserialize},
		"name":         {"d", set(``, `{"$a":1}`), iothub.CodeArgument},
		"large tags":   {"d", set(big, ``), iothub.CodeTooLarge},
		"one of two":   {"d", set(big, `{"a":1}`), iothub.CodeTooLarge},
		"other of two": {"d", set(`{"a":1}`, `[]`), iothub.CodeDeserialize},
	} {
		if _, err := b.SetTwin(t.Context(), "tester", c.device, c.in, false, ""); iothub.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Twin(t.Context(), "x"); fault.Of(err) != fault.NotFound {
		t.Errorf("twin of an unknown device: %v", err)
	}
	if tw, err := b.Twin(t.Context(), "d"); err != nil || string(tw.Desired) != `{"$version":1}` || len(b.told)+len(b.recorded) > 0 {
		t.Errorf("twin %s, %v, told %q, recorded %q", tw.Desired, err, b.told, b.recorded)
	}
}

func TestChangeHoldsThoughTheDeviceIsNotTold(t *testing.T) {
	b := newBench(t)
	b.away = true
	if tw, err := b.SetTwin(t.Context(), "tester", "d", set(``, `{"a":1}`), false, ""); err != nil || string(tw.Desired) != `{"a":1,"$version":2}` {
		t.Errorf("%s, %v", tw.Desired, err)
	}
}

func TestDeviceIsToldInOrder(t *testing.T) {
	b := newBench(t)
	const n = 50
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := b.SetTwin(t.Context(), "tester", "d", set(``, fmt.Sprintf(`{"v":%d}`, i)), false, ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, told := range b.told {
		if !strings.HasPrefix(told, fmt.Sprintf("d %d ", i+2)) {
			t.Fatalf("told %q as number %d", told, i)
		}
	}
	if len(b.told) != n {
		t.Errorf("told %d times", len(b.told))
	}
}

// BenchmarkReport is patches of reported properties by many devices at once,
// each on disk before it is answered.
func BenchmarkReport(b *testing.B) {
	w := newBench(b)
	var next sync.Mutex
	n := 0
	b.SetParallelism(64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		next.Lock()
		n++
		d := identity.Device(fmt.Sprintf("d%d", n))
		next.Unlock()
		for i := 0; pb.Next(); i++ {
			if _, _, err := w.Answer(b.Context(), d, iothub.ReportedPatch{RequestID: "1"}, fmt.Appendf(nil, `{"n":%d,"at":{"x":1.5}}`, i)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
