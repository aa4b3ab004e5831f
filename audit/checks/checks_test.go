package checks_test

import (
	"slices"
	"strings"
	"testing"

	"holdfast/audit/checks"
	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

// run judges a subject by one rule and returns its result and findings.
func run(t *testing.T, s *subject.Subject, id string) (finding.Result, []finding.Finding) {
	t.Helper()
	rule, ok := checks.Find(id)
	if !ok {
		t.Fatalf("there is no rule %s", id)
	}
	findings, results, err := checks.Judge(t.Context(), s, []checks.Rule{rule}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return results[0], findings
}

// program is a program with functions, in which each pair calls.
func program(calls ...[2]string) *subject.Program {
	p := &subject.Program{File: "app.elf", Arch: subject.ARM, Bits: 32}
	var graph []subject.Call
	for i, c := range calls {
		for _, name := range c {
			if name != "" && !p.Has(name) {
				p.Symbols = append(p.Symbols, subject.Symbol{Name: name, Kind: subject.FuncSymbol, Address: uint64(0x1000 + 0x100*len(p.Symbols)), Size: 0x100})
				p.Index()
			}
		}
		graph = append(graph, subject.Call{From: c[0], To: c[1], Site: uint64(0x1000 + i)})
	}
	p.Calls = subject.NewCalls(graph, nil, true)
	return p
}

func withPrograms(all ...*subject.Program) *subject.Subject {
	s := subject.New(nil)
	s.Programs = all
	return s
}

func TestCatalogueIsWhole(t *testing.T) {
	var before string
	for _, r := range checks.All() {
		if r.ID <= before {
			t.Errorf("%s comes after %s, or twice", r.ID, before)
		}
		before = r.ID
		for what, text := range map[string]string{"title": r.Title, "why": r.Why, "section": r.Section, "fix": r.Fix, "bad example": r.Bad, "good example": r.Good} {
			if strings.TrimSpace(text) == "" {
				t.Errorf("%s has no %s", r.ID, what)
			}
		}
		if _, ok := measure.Find(r.Measure); !ok || len(r.Bullets)+len(r.CWE) == 0 || r.Judge == nil {
			t.Errorf("%s: measure %q, bullets %q, weaknesses %q", r.ID, r.Measure, r.Bullets, r.CWE)
		}
		for _, b := range r.Bullets {
			if _, ok := measure.FindItem(b); !ok {
				t.Errorf("%s: there is no bullet %s", r.ID, b)
			}
		}
		if _, err := finding.ParseSeverity(string(r.Severity)); err != nil {
			t.Errorf("%s: %v", r.ID, err)
		}
	}
}

// A rule that decides nothing is unknown, one that breaks too, and neither
// passes.
func TestJudgeNeverPassesByItself(t *testing.T) {
	rules := []checks.Rule{
		{ID: "A", Measure: measure.AppDebug, Judge: func(*subject.Subject, *checks.Ruling) {}},
		{ID: "B", Measure: measure.AppDebug, Judge: func(s *subject.Subject, _ *checks.Ruling) { _ = s.Programs[0] }},
		{ID: "C", Measure: measure.AppDebug, Judge: func(_ *subject.Subject, r *checks.Ruling) { r.Pass("seen"); r.Unknown("and not seen") }},
		{ID: "D", Measure: measure.AppDebug, Judge: func(_ *subject.Subject, r *checks.Ruling) { r.Idle("nothing there") }},
		{ID: "E", Measure: measure.AppDebug, Judge: func(_ *subject.Subject, r *checks.Ruling) { r.Pass("all seen") }},
		{ID: "F", Measure: measure.AppDebug, Severity: finding.Low, Judge: func(_ *subject.Subject, r *checks.Ruling) {
			r.Pass("seen")
			r.Found(finding.InFile("x"), "wrong")
		}},
	}
	_, results, err := checks.Judge(t.Context(), subject.New(nil), rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []measure.Verdict{measure.Unknown, measure.Unknown, measure.Unknown, measure.Unknown, measure.Pass, measure.Fail}
	for i, r := range results {
		if r.Verdict != want[i] {
			t.Errorf("%s: %s, want %s (%s)", r.Rule, r.Verdict, want[i], r.Reason)
		}
	}
	if results[3].Applies {
		t.Error("a rule that has nothing of its kind applies")
	}
	if row := checks.Rows(checks.GroundsOf(rules[:1], results[:1])); row[0].Verdict != measure.Unknown {
		t.Errorf("row: %+v", row[0])
	}
	if row := checks.Rows(checks.GroundsOf(rules, results)); row[0].Verdict != measure.Fail || !strings.HasPrefix(row[0].Reason, "F: ") {
		t.Errorf("row: %+v", row[0])
	}
	if row := checks.Rows(checks.GroundsOf(rules[3:5], results[3:5])); row[0].Verdict != measure.Pass {
		t.Errorf("row: %+v", row[0])
	}
}

func TestBulletsWithoutGroundsAreUnknown(t *testing.T) {
	rows := checks.Bullets(nil)
	if len(rows) != len(measure.Checklist()) {
		t.Fatalf("%d rows", len(rows))
	}
	for _, r := range rows {
		if r.Verdict != measure.Unknown || !r.Applies {
			t.Errorf("%+v", r)
		}
	}
	rows = checks.Bullets([]checks.Grounds{{By: "X", Bullets: []string{"avoid.own-schemes.padding-oracle"}, Verdict: measure.Fail, Applies: true}})
	for _, r := range rows {
		if want := strings.HasPrefix(r.Bullet, "avoid.own-schemes") && !strings.Contains(r.Bullet, "plaintext") && !strings.Contains(r.Bullet, "secret"); (r.Verdict == measure.Fail) != want {
			t.Errorf("%s: %s", r.Bullet, r.Verdict)
		}
	}
}

func TestFingerprintsOutliveAddresses(t *testing.T) {
	prints := func(p *subject.Program) []string {
		_, found := run(t, withPrograms(p), "ENT-RAND-01")
		var all []string
		for _, f := range found {
			all = append(all, f.Fingerprint)
		}
		return all
	}
	before := prints(program([2]string{"main", "rand"}))
	after := prints(program([2]string{"main", "other"}, [2]string{"main", "rand"}))
	if len(before) != 1 || !slices.Equal(before, after) {
		t.Errorf("%q, then %q", before, after)
	}
}

func TestMask(t *testing.T) {
	for secret, want := range map[string]string{"hunter2": "… (7 characters)", "correct horse": "co… (13 characters)", "": "… (0 characters)"} {
		if got := checks.Mask(secret); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestRand(t *testing.T) {
	for _, c := range []struct {
		name    string
		p       *subject.Program
		verdict measure.Verdict
		found   int
	}{
		{"calls rand", program([2]string{"main", "rand"}), measure.Fail, 1},
		{"calls srand", program([2]string{"main", "srand"}, [2]string{"main", "rand"}), measure.Fail, 2},
		{"calls a generator", program([2]string{"main", "trng_read"}), measure.Pass, 0},
		{"has rand and nobody calls it", program([2]string{"rand", "lock"}), measure.Pass, 0},
	} {
		res, found := run(t, withPrograms(c.p), "ENT-RAND-01")
		if res.Verdict != c.verdict || len(found) != c.found {
			t.Errorf("%s: %s with %d findings (%s)", c.name, res.Verdict, len(found), res.Reason)
		}
	}
	mute := program([2]string{"main", "other"})
	mute.Calls = subject.NewCalls(nil, nil, false)
	if res, _ := run(t, withPrograms(mute), "ENT-RAND-01"); res.Verdict != measure.Unknown {
		t.Errorf("a machine that is not read: %+v", res)
	}
	if res, _ := run(t, subject.New(nil), "ENT-RAND-01"); res.Applies {
		t.Errorf("no program: %+v", res)
	}
}
