package process_test

import (
	"strings"
	"testing"
	"time"

	"holdfast/audit/process"
	"holdfast/measure"
)

const revision = "0123abcd"

var now = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		kind   process.Kind
		text   string
		want   measure.Verdict
		reason string
	}{
		{process.Fuzz, `{"kind":"fuzz","revision":"0123abcd","tool":"libFuzzer","targets":[{"name":"mqtt","executions":10,"seconds":1}]}`, measure.Pass, "no crash left"},
		{process.Fuzz, `{"kind":"fuzz","revision":"0123abcd","targets":[{"name":"mqtt","executions":10,"crashes":2}]}`, measure.Fail, "2 crashes"},
		{process.Fuzz, `{"kind":"fuzz","revision":"0123abcd","targets":[{"name":"mqtt"}]}`, measure.Unknown, "never ran"},
		{process.Fuzz, `{"kind":"fuzz","revision":"0123abcd"}`, measure.Unknown, "no target"},
		{process.Fuzz, `{"kind":"fuzz","revision":"other","targets":[{"name":"mqtt","executions":10}]}`, measure.Unknown, "not \"0123abcd\""},
		{process.Fuzz, `{"kind":"fuzz","targets":[{"name":"mqtt","executions":10}]}`, measure.Unknown, "does not name"},
		{process.Fuzz, `{"kind":"review","revision":"0123abcd","reviewers":["a"]}`, measure.Unknown, "evidence of"},
		{process.Fuzz, `{"kind":"fuzz","kind":"fuzz","revision":"0123abcd"}`, measure.Unknown, "malformed"},
		{process.Fuzz, `nonsense`, measure.Unknown, "f.json"},
		{process.Memory, `{"kind":"memory","revision":"0123abcd","tool":"ASan","tests":12}`, measure.Pass, "12 tests"},
		{process.Memory, `{"kind":"memory","revision":"0123abcd","tool":"ASan","tests":12,"errors":1}`, measure.Fail, "1 errors"},
		{process.Memory, `{"kind":"memory","revision":"0123abcd"}`, measure.Unknown, "no test"},
		{process.Review, `{"kind":"review","revision":"0123abcd","reviewers":["one","two"]}`, measure.Pass, "by 2"},
		{process.Review, `{"kind":"review","revision":"0123abcd","reviewers":["one"],"open":1}`, measure.Fail, "not mended"},
		{process.Review, `{"kind":"review","revision":"0123abcd"}`, measure.Unknown, "nobody"},
		{process.Certification, `{"kind":"certification","revision":"0123abcd","scheme":"PSA Certified Level 1"}`, measure.Pass, "PSA"},
		{process.Certification, `{"kind":"certification","revision":"0123abcd","scheme":"S","expires":"2025-01-01T00:00:00Z"}`, measure.Fail, "2025-01-01"},
		{process.Certification, `{"kind":"certification","revision":"0123abcd"}`, measure.Unknown, "scheme"},
		{process.Build, "git 0123abcd\ngcc -c a.c\n", measure.Pass, "2 lines"},
		{process.Build, "git 0123abcd\na.c:1:2: warning: unused\n", measure.Fail, "unused"},
		{process.Build, "gcc -c a.c\ngcc -c b.c\n", measure.Unknown, "does not name"},
		{process.Build, "0123abcd\n", measure.Unknown, "no build"},
		{process.Analysis, `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"CodeQL"}},"versionControlProvenance":[{"revisionId":"0123abcd"}],"results":[{"level":"note"},{"level":"error","suppressions":[{}]}]}]}`, measure.Pass, "CodeQL"},
		{process.Analysis, `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"CodeQL"}},"versionControlProvenance":[{"revisionId":"0123abcd"}],"results":[{}]}]}`, measure.Fail, "1 results"},
		{process.Analysis, `{"version":"2.1.0","runs":[{"versionControlProvenance":[{"revisionId":"0123abcd"}]},{}]}`, measure.Unknown, "does not name"},
		{process.Analysis, `{"version":"2.0.0"}`, measure.Unknown, "want 2.1.0"},
		{process.Analysis, `[]`, measure.Unknown, "SARIF"},
	} {
		g, e := process.Judge(process.Piece{Kind: c.kind, File: "f.json", Data: []byte(c.text)}, revision, now)
		if g.Verdict != c.want || e.Verdict != c.want || !strings.Contains(g.Reason, c.reason) {
			t.Errorf("%s %s: %s (%s), want %s with %q", c.kind, c.text, g.Verdict, g.Reason, c.want, c.reason)
		}
	}
}

func TestEvidenceNeedsARevisionAndASignature(t *testing.T) {
	p := process.Piece{Kind: process.Review, Data: []byte(`{"kind":"review","revision":"","reviewers":["one"]}`)}
	if g, _ := process.Judge(p, "", now); g.Verdict != measure.Unknown {
		t.Errorf("without a revision: %+v", g)
	}
	if g := process.Unsigned(p); g.Verdict != measure.Unknown || len(g.Bullets) == 0 {
		t.Errorf("unsigned: %+v", g)
	}
}

func TestKinds(t *testing.T) {
	for _, k := range process.Kinds() {
		got, err := process.ParseKind(string(k))
		if err != nil || got != k || k.Info() == "" || len(k.Bullets()) == 0 {
			t.Errorf("%s: %v, %v", k, got, err)
		}
		for _, b := range k.Bullets() {
			if _, ok := measure.FindItem(b); !ok {
				t.Errorf("%s: there is no bullet %s", k, b)
			}
		}
	}
	if _, err := process.ParseKind("luck"); err == nil {
		t.Error("took luck for evidence")
	}
}

func FuzzJudge(f *testing.F) {
	f.Add("fuzz", []byte(`{"kind":"fuzz","revision":"r","targets":[{"name":"a","executions":1}]}`))
	f.Add("analysis", []byte(`{"version":"2.1.0","runs":[{"versionControlProvenance":[{"revisionId":"r"}]}]}`))
	f.Add("build", []byte("r\ncc -c a.c\n"))
	f.Fuzz(func(t *testing.T, kind string, b []byte) {
		k, err := process.ParseKind(kind)
		if err != nil {
			return
		}
		if g, _ := process.Judge(process.Piece{Kind: k, Data: b}, "a revision that nobody has", now); g.Verdict == measure.Pass {
			t.Error("passed for another revision")
		}
	})
}
