package update_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/update"
)

var (
	one  = update.Image{Measured: identity.Sum([]byte("one")), Version: mcuboot.Version{Major: 1}, SecurityVersion: 1}
	two  = update.Image{Measured: identity.Sum([]byte("two")), Version: mcuboot.Version{Major: 2}, SecurityVersion: 2}
	rot  = mcuboot.WrongHash
	next = update.Trial{Slot: update.B, Digest: two.Measured, Version: two.Version, SecurityVersion: 2, Seconds: 60}
)

// flash is what the slots hold: an image, or why there is none.
func flash(a, b any) func(update.Slot) (update.Image, error) {
	return func(s update.Slot) (update.Image, error) {
		held := a
		if s == update.B {
			held = b
		}
		if err, bad := held.(error); bad {
			return update.Image{}, err
		}
		return held.(update.Image), nil
	}
}

func TestBoot(t *testing.T) {
	staged := update.Record{}.Stage(update.A, next)
	tried := staged.Consume()
	committed := tried.Commit()
	for _, c := range []struct {
		name     string
		rec      update.Record
		a, b     any
		minimum  uint32
		slot     update.Slot
		trial    bool
		write    bool
		reverted bool
		reason   string
		refused  []update.Slot
	}{
		{name: "no record", a: one, b: two, slot: update.A},
		{name: "active", rec: update.Record{Active: update.B}, a: one, b: two, slot: update.B},
		{name: "damaged active", rec: update.Record{Active: update.B}, a: one, b: rot, slot: update.A, refused: []update.Slot{update.B}},
		{name: "active below the minimum", rec: update.Record{Active: update.A}, a: one, b: two, minimum: 2, slot: update.B, refused: []update.Slot{update.A}},
		{name: "all below the minimum", a: one, b: two, minimum: 3, refused: []update.Slot{update.A, update.B}},
		{name: "all damaged", a: rot, b: rot, refused: []update.Slot{update.A, update.B}},
		{name: "trial", rec: staged, a: one, b: two, slot: update.B, trial: true, write: true},
		{name: "trial of a damaged image", rec: staged, a: one, b: rot, slot: update.A, write: true, reverted: true, reason: "wrong hash", refused: []update.Slot{update.B}},
		{name: "trial of another image", rec: staged, a: one, b: one, slot: update.A, write: true, reverted: true, reason: "another image than was staged", refused: []update.Slot{update.B}},
		{name: "trial below the minimum", rec: staged, a: two, b: two, minimum: 3, write: true, reverted: true, reason: "security counter too low", refused: []update.Slot{update.B, update.A}},
		{name: "trial that was tried", rec: tried, a: one, b: two, slot: update.A, write: true, reverted: true, reason: "the trial was not confirmed"},
		{name: "trial that was tried, and the way back is damaged", rec: tried, a: rot, b: two, slot: update.B, write: true, reverted: true, reason: "the trial was not confirmed", refused: []update.Slot{update.A}},
		{name: "committed and not cleared", rec: committed, a: one, b: two, slot: update.B, write: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := update.Boot(c.rec, flash(c.a, c.b), c.minimum, "watchdog")
			if got.Image.Slot != c.slot || got.Trial != c.trial || got.Write != c.write || got.Reverted != c.reverted {
				t.Errorf("chose %+v", got)
			}
			var refused []update.Slot
			for _, r := range got.Refused {
				refused = append(refused, r.Slot)
			}
			if diff := cmp.Diff(c.refused, refused); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
			last := got.Record.Last
			if c.reverted && (last.Result != update.Reverted || last.Reset != "watchdog" || !strings.HasPrefix(last.Reason, c.reason) || got.Record.Trial != nil) {
				t.Errorf("outcome %+v, want %q", last, c.reason)
			}
			if c.trial && !got.Record.Trying() {
				t.Error("the trial is not consumed")
			}
			if c.rec.Trial != nil && c.rec.Trial.Tried != (c.rec.Trial == tried.Trial || c.rec.Trial == committed.Trial) {
				t.Error("the decision changed its argument")
			}
		})
	}
	if got := update.Boot(committed, flash(one, two), 0, "power-on"); got.Record.Last.Result != update.Committed || got.Record.Trial != nil {
		t.Errorf("a commit that was cut: %+v", got.Record)
	}
}

// full is a record with everything in it.
func full() update.Record {
	r := update.Record{Sequence: 1 << 40, Active: update.A}.Stage(update.A, next).Consume()
	r.Last = update.Outcome{Result: update.Reverted, Version: one.Version, Digest: one.Measured, Reason: strings.Repeat("r", update.MaxReason), Reset: "watchdog"}
	return r
}

func TestRecordSurvivesItsForm(t *testing.T) {
	for _, r := range []update.Record{{}, {Sequence: 1, Active: update.B}, full(), full().Commit().Clear(), full().Revert("x", "y"), full().Unstage()} {
		b := r.Marshal()
		if len(b) > update.MaxRecord {
			t.Errorf("a record of %d bytes", len(b))
		}
		got, err := update.ParseRecord(append(b, 0xff, 0xff))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	text, err := json.Marshal(full())
	var back update.Record
	if err := errors.Join(err, json.Unmarshal(text, &back)); err != nil || !cmp.Equal(back, full()) {
		t.Errorf("JSON %s, %v", text, err)
	}
	if err := json.Unmarshal([]byte(`{"last":{"result":"lucky"}}`), &back); err == nil {
		t.Error("took a result that there is not")
	}
	long := update.Record{Last: update.Outcome{Reason: strings.Repeat("é", 200)}}
	got, err := update.ParseRecord(long.Marshal())
	if err != nil || got.Last.Reason != strings.Repeat("?", update.MaxReason) {
		t.Errorf("a long reason became %q, %v", got.Last.Reason, err)
	}
}

// seal makes the checksum of a changed record right.
func seal(b []byte) []byte {
	body := b[:len(b)-32]
	sum := identity.Sum(body)
	return append(body[:len(body):len(body)], sum[:]...)
}

func TestParseRecordRefuses(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"nothing":                             func([]byte) []byte { return nil },
		"erased flash":                        func(b []byte) []byte { return bytes.Repeat([]byte{0xff}, 512) },
		"another magic":                       func(b []byte) []byte { b[0] = 'X'; return seal(b) },
		"another format":                      func(b []byte) []byte { b[4] = 2; return seal(b) },
		"a flipped bit":                       func(b []byte) []byte { b[20] ^= 1; return b },
		"truncated":                           func(b []byte) []byte { return b[:len(b)-1] },
		"a length too short":                  func(b []byte) []byte { b[6], b[7] = 10, 0; return b },
		"a length too long":                   func(b []byte) []byte { b[6], b[7] = 0xff, 0xff; return b },
		"a slot C":                            func(b []byte) []byte { b[16] = 'C'; return seal(b) },
		"unknown flags":                       func(b []byte) []byte { b[17] |= 0x80; return seal(b) },
		"tried, no trial":                     func(b []byte) []byte { b[17] = 2; return seal(b) },
		"text that is longer than the record": func(b []byte) []byte { b[73] = 0xff; return seal(b) },
		"text that is shorter":                func(b []byte) []byte { b[73]--; return seal(b) },
		"reserved bytes":                      func(b []byte) []byte { b[18] = 1; return seal(b) },
	} {
		if r, err := update.ParseRecord(change(full().Marshal())); !errors.Is(err, update.ErrNoRecord) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add(full().Marshal())
	f.Add(update.Record{}.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := update.ParseRecord(b)
		if err != nil {
			r, err = update.ParseRecord(seal(append(b, make([]byte, 32)...))) // past the checksum
		}
		if err != nil {
			return
		}
		if again, err := update.ParseRecord(r.Marshal()); err != nil || !cmp.Equal(r, again) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}

// memory is a place for a record that can fail.
type memory struct {
	copies [2][]byte
	broken [2]bool
}

func (m *memory) ReadCopy(i int) ([]byte, error) { return m.copies[i], nil }

func (m *memory) WriteCopy(i int, b []byte) error {
	if m.broken[i] {
		m.copies[i] = b[:len(b)/2]
		return errors.New("worn out")
	}
	m.copies[i] = bytes.Clone(b)
	return nil
}

func TestSaveKeepsTwoCopies(t *testing.T) {
	m := &memory{}
	if r := update.Load(m); !cmp.Equal(r, update.Record{}) {
		t.Errorf("loaded %+v from nothing", r)
	}
	r := update.Record{}
	var err error
	for want := uint64(1); want < 4; want++ {
		if r, err = update.Save(m, r.Stage(update.A, next)); err != nil || r.Sequence != want || !cmp.Equal(update.Load(m), r) {
			t.Fatalf("saved %+v, %v", r, err)
		}
	}
	for i := range m.copies { // either copy alone will do
		broken := &memory{copies: m.copies}
		broken.copies[i] = []byte("rot")
		if !cmp.Equal(update.Load(broken), r) {
			t.Errorf("copy %d was needed", i)
		}
	}
	m.broken = [2]bool{true, true}
	if _, err := update.Save(m, r.Consume()); err == nil {
		t.Error("saved on worn out flash")
	}
	if got := update.Load(m); !cmp.Equal(got, r) {
		t.Errorf("a save that failed left %+v", got)
	}
}
