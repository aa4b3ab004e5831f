package stream

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/iothub"
)

func all([]byte, []byte) bool { return true }

func decodeAll(b []byte) ([]iothub.Message, error) {
	var msgs []iothub.Message
	err := decodeGroup(b, all, func(_ int, m iothub.Message) error {
		msgs = append(msgs, m)
		return nil
	})
	return msgs, err
}

func sample() []iothub.Message {
	at := time.Date(2026, 11, 2, 3, 4, 5, 678, time.UTC)
	return []iothub.Message{
		{Device: "pump-01", Kind: iothub.Telemetry, Time: at, Body: []byte("hello"),
			Properties: map[string]string{"a": "1", "": ""}, System: map[string]string{"$.ct": "text/plain"}},
		{Device: "pump-02", Kind: iothub.Log, Time: at.Add(-1e18)},
	}
}

func encode(msgs []iothub.Message) []byte {
	var b []byte
	for i := range msgs {
		b = appendRecord(b, &msgs[i])
	}
	return b
}

func TestGroupRoundTrip(t *testing.T) {
	got, err := decodeAll(encode(sample()))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sample(), got); d != "" {
		t.Error(d)
	}
}

func TestGroupRefusesWhatIsDamaged(t *testing.T) {
	whole := encode(sample()[:1])
	for n := range len(whole) {
		got, err := decodeAll(whole[:n])
		if n == 1 { // no records at all
			continue
		}
		if !errors.Is(err, errCorrupt) {
			t.Errorf("cut to %d bytes: %v, %v", n, got, err)
		}
	}
	for name, b := range map[string][]byte{
		"version":       {2},
		"record length": {groupVersion, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"empty record":  {groupVersion, 0},
		"device":        {groupVersion, 14, 1, '/', 1, 'x', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"properties":    {groupVersion, 14, 1, 'a', 1, 'x', 0, 0, 0, 0, 0, 0, 0, 0, 200, 1},
	} {
		if _, err := decodeAll(b); !errors.Is(err, errCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSizeIsNoLessThanTheRecord(t *testing.T) {
	for _, m := range sample() {
		if n := len(appendRecord(nil, &m)); n > size(&m)+maxHeader {
			t.Errorf("record has %d bytes, size says %d", n, size(&m))
		}
	}
}

func FuzzGroup(f *testing.F) {
	f.Add(encode(sample()))
	f.Add([]byte{groupVersion, 14, 1, 'a', 1, 'x', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		msgs, err := decodeAll(b)
		if err != nil {
			if !errors.Is(err, errCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again, err := decodeAll(encode(msgs))
		if len(msgs) == 0 {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(msgs, again); d != "" {
			t.Fatal(d)
		}
	})
}
