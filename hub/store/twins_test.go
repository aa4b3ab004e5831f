package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/hub/messages"
	"holdfast/hub/store"
	"holdfast/iothub"
	"holdfast/twin"
)

func open(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// report merges a patch into the reported properties.
func report(patch twin.Object) func(twin.Twin) (twin.Twin, []iothub.Message, error) {
	return func(tw twin.Twin) (twin.Twin, []iothub.Message, error) {
		tw, err := tw.Apply(twin.Change{Section: twin.Reported, Patch: patch})
		return tw, []iothub.Message{{Device: "d", Kind: iothub.TwinChange, Body: []byte(patch.String())}}, err
	}
}

func TestTwinIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := open(t, path)
	tw, err := s.Twins().Twin(t.Context(), "d")
	if diff := cmp.Diff(twin.New(), tw); diff != "" || err != nil {
		t.Fatalf("twin that nobody wrote: %v\n%s", err, diff)
	}
	patch, err := twin.Parse([]byte(`{"n":4503599627370495,"f":1.10,"a":[null,{"x":"ä"}],"gone":null}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Twins().Change(t.Context(), "d", report(patch)); err != nil {
		t.Fatal(err)
	}
	s.Close()

	s = open(t, path)
	tw, err = s.Twins().Twin(t.Context(), "d")
	const want = `{"desired":{"$version":1},"reported":{"a":[null,{"x":"ä"}],"f":1.10,"n":4503599627370495,"$version":2}}`
	if got := string(tw.Document()); got != want || err != nil {
		t.Errorf("twin %s, %v\nwant %s", got, err, want)
	}
	es, err := s.Outbox().Events(t.Context(), 10)
	if err != nil || len(es) != 1 || string(es[0].Message.Body) != patch.String() {
		t.Errorf("outbox %v, %v", es, err)
	}
	if err := s.Outbox().Drop(t.Context(), es[0].Number); err != nil {
		t.Fatal(err)
	}
	if es, err = s.Outbox().Events(t.Context(), 10); err != nil || len(es) != 0 {
		t.Errorf("outbox after drop %v, %v", es, err)
	}
}

func TestTwinChangeThatFailsWritesNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	no := errors.New("no")
	err := s.Twins().Change(t.Context(), "d", func(tw twin.Twin) (twin.Twin, []iothub.Message, error) {
		tw.Desired.Version = 9
		return tw, []iothub.Message{{Device: "d"}}, no
	})
	if !errors.Is(err, no) {
		t.Errorf("error %v, want %v", err, no)
	}
	tw, err := s.Twins().Twin(t.Context(), "d")
	if tw.Desired.Version != 1 || err != nil {
		t.Errorf("version %d, %v", tw.Desired.Version, err)
	}
	if es, _ := s.Outbox().Events(t.Context(), 1); len(es) > 0 {
		t.Errorf("outbox %v", es)
	}
}

func TestTwinChangesTogetherAreAllMade(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	no := errors.New("no")
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			change := report(twin.Object{fmt.Sprintf("k%d", i): "x"})
			if i%10 == 9 { // one that fails takes no other with it
				change = func(tw twin.Twin) (twin.Twin, []iothub.Message, error) { return tw, nil, no }
			}
			if err := s.Twins().Change(t.Context(), "d", change); (i%10 == 9) != errors.Is(err, no) {
				t.Errorf("change %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	tw, err := s.Twins().Twin(t.Context(), "d")
	if len(tw.Reported.Values) != 90 || tw.Reported.Version != 91 || err != nil {
		t.Errorf("%d properties, version %d, %v", len(tw.Reported.Values), tw.Reported.Version, err)
	}
	if es, _ := s.Outbox().Events(t.Context(), 1000); len(es) != 90 {
		t.Errorf("%d events", len(es))
	}
}

// Events of no change wait like those of one.
func TestOutboxKeeps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := open(t, path)
	now := time.Now().UTC()
	ms := []iothub.Message{iothub.NewConnected("d", iothub.Connection{Session: "1"}, now), iothub.NewMissing(3, now, now, now)}
	if err := s.Outbox().Keep(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	s.Close()
	es, err := open(t, path).Outbox().Events(t.Context(), 10)
	if err != nil || len(es) != 2 {
		t.Fatalf("%v, %v", es, err)
	}
	if diff := cmp.Diff(ms, []iothub.Message{es[0].Message, es[1].Message}); diff != "" {
		t.Error(diff)
	}
}

func TestMessages(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	now := time.Now().UTC()
	add := func(id string, life time.Duration) int64 {
		t.Helper()
		n, err := s.Messages().Add(t.Context(), messages.Message{Device: "d", ID: id, Enqueued: now, Expires: now.Add(life), Properties: map[string]string{"k": "v"}, Body: []byte{0, 1}}, 3)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	a, b, c := add("a", time.Hour), add("b", -time.Hour), add("c", time.Hour)
	if _, err := s.Messages().Add(t.Context(), messages.Message{Device: "d"}, 3); iothub.CodeOf(err) != iothub.CodeQueueFull {
		t.Errorf("fourth of three: %v", err)
	}
	if err := s.Messages().Sent(t.Context(), []messages.Sent{{Number: a, Packet: 7}, {Number: c}}); err != nil {
		t.Fatal(err)
	}
	q, err := s.Messages().Queue(t.Context(), "d")
	if err != nil || len(q) != 3 || q[0].Number != a || q[1].Number != b || q[2].Number != c {
		t.Fatalf("queue %v, %v", q, err)
	}
	want := messages.Message{Number: a, Device: "d", ID: "a", Enqueued: now, Expires: now.Add(time.Hour), Deliveries: 1, Packet: 7, Properties: map[string]string{"k": "v"}, Body: []byte{0, 1}}
	if diff := cmp.Diff(want, q[0]); diff != "" {
		t.Error(diff)
	}
	old, err := s.Messages().Expired(t.Context(), now, 10)
	if err != nil || len(old) != 1 || old[0].Number != b {
		t.Errorf("expired %v, %v", old, err)
	}
	for _, there := range []bool{true, false} {
		was, err := s.Messages().Remove(t.Context(), b, []iothub.Message{{Device: "d", Kind: iothub.Feedback}})
		if was != there || err != nil {
			t.Errorf("remove: %v, %v, want %v", was, err, there)
		}
	}
	if es, _ := s.Outbox().Events(t.Context(), 10); len(es) != 1 {
		t.Errorf("removed once, %d events", len(es))
	}
	if other, err := s.Messages().Queue(t.Context(), "other"); len(other) != 0 || err != nil {
		t.Errorf("queue of another device %v, %v", other, err)
	}
}
