package logs_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/logs"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	want := []logs.Record{
		{Seq: 3, Boot: 1, Level: "info", Message: "boots"},
		{Seq: 9, Time: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), Boot: 2, Level: "crash", Message: "panic", Attrs: map[string]string{"cause": "watchdog"}},
	}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(b), `"time"`) != 1 {
		t.Errorf("an unknown time is written: %s", b)
	}
	got, err := logs.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
}

// batch returns a shipment of n records with ascending numbers.
func batch(n int) string {
	records := make([]string, n)
	for i := range records {
		records[i] = fmt.Sprintf(`{"seq":%d,"level":"info","message":"m"}`, i)
	}
	return "[" + strings.Join(records, ",") + "]"
}

func TestParseAcceptsTheLimits(t *testing.T) {
	for name, s := range map[string]string{
		"most records":    batch(logs.MaxRecords),
		"longest message": `[{"seq":0,"message":"` + strings.Repeat("m", logs.MaxMessage) + `"}]`,
		"largest batch":   batch(1) + strings.Repeat(" ", logs.MaxBatch-len(batch(1))),
	} {
		if _, err := logs.Parse([]byte(s)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct{ in, why string }{
		"batch too large":     {batch(1) + strings.Repeat(" ", logs.MaxBatch), "log batch has"},
		"nothing":             {"", "unexpected end"},
		"no records":          {"[]", "has 0 records"},
		"null":                {"null", "has 0 records"},
		"too many records":    {batch(logs.MaxRecords + 1), "has 257 records"},
		"not JSON":            {"[{]", "invalid character"},
		"truncated":           {batch(2)[:40], "unexpected end"},
		"trailing bytes":      {batch(1) + "x", "after top-level value"},
		"not an array":        {`{"seq":1}`, "cannot unmarshal"},
		"negative number":     {`[{"seq":-1}]`, "cannot unmarshal"},
		"number too large":    {`[{"seq":18446744073709551616}]`, "cannot unmarshal"},
		"time that is none":   {`[{"seq":1,"time":"yesterday"}]`, "parsing time"},
		"message too long":    {`[{"seq":1,"message":"` + strings.Repeat("m", logs.MaxMessage+1) + `"}]`, "message has 4097 bytes"},
		"number stands twice": {`[{"seq":1},{"seq":1}]`, "does not follow 1"},
		"numbers descend":     {`[{"seq":2},{"seq":1}]`, "does not follow 2"},
	} {
		rs, err := logs.Parse([]byte(c.in))
		if err == nil || !strings.Contains(err.Error(), c.why) || rs != nil {
			t.Errorf("%s: %d records, error %v, want one with %q", name, len(rs), err, c.why)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(batch(2)))
	f.Add([]byte(`[{"seq":1,"time":"2026-11-22T10:00:00Z","attrs":{"a":"b"}}]`))
	f.Add([]byte("null"))
	f.Add([]byte("[[[[[[[["))
	f.Fuzz(func(t *testing.T, b []byte) {
		rs, err := logs.Parse(b)
		if err != nil {
			return
		}
		if len(b) > logs.MaxBatch || len(rs) == 0 || len(rs) > logs.MaxRecords {
			t.Fatalf("accepted %d bytes with %d records", len(b), len(rs))
		}
		for i, r := range rs {
			if len(r.Message) > logs.MaxMessage || i > 0 && r.Seq <= rs[i-1].Seq {
				t.Errorf("accepted record %d: %+v", i, r)
			}
		}
	})
}
