package policy_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/measure"
	"holdfast/posture"
	"holdfast/posture/policy"
)

// TestErrorsSayWhere holds the text, the line and column of what is wrong with
// it, and words of the message.
func TestErrorsSayWhere(t *testing.T) {
	const head = "policy p\n"
	for _, tt := range []struct {
		name, in     string
		line, column int
		want         string
	}{
		{"nothing", "", 1, 1, "policy NAME"},
		{"only a comment", "# hello\n\n", 2, 1, "policy NAME"},
		{"something before the policy", "require app.debug attested\n", 1, 1, "before anything else"},
		{"no name", "policy", 1, 7, "name"},
		{"a bad name", "policy A_B", 1, 8, "name"},
		{"a word behind the name", "policy p 7", 1, 10, "version"},
		{"no number", "policy p version  # none", 1, 25, "number"},
		{"version none", "policy p version 0", 1, 18, "from 1"},
		{"a version that is no number", "policy p version 1x", 1, 18, "1x"},
		{"a version with a sign", "policy p version +1", 1, 18, "+1"},
		{"a version too large", "policy p version 99999999999999999999", 1, 18, "from 1"},
		{"more behind the version", "policy p version 1 2", 1, 20, "belong"},
		{"two policies", head + "policy q", 2, 1, "line 1 already"},
		{"two lifetimes", head + "lifetime full 2h\nlifetime short 1h", 3, 1, "line 2 already"},
		{"no lifetime", head + "lifetime", 2, 9, "full, short or both"},
		{"a lifetime of nothing", head + "lifetime full 0s", 2, 15, "more than nothing"},
		{"a lifetime twice", head + "lifetime full 1h full 2h", 2, 18, "once"},
		{"a lifetime without duration", head + "lifetime full", 2, 14, "duration"},
		{"a negative lifetime", head + "lifetime full -1h", 2, 15, "-1h"},
		{"short more than full", head + "lifetime full 1h short 2h", 2, 1, "short_lifetime"},
		{"beyond reason", head + "lifetime full 1000000h", 2, 15, "at most"},
		{"an unknown statement", head + "demand app.debug", 2, 1, `"demand"`},
		{"a statement in capitals", head + "REQUIRE app.debug attested", 2, 1, `"REQUIRE"`},
		{"no measure", head + "  require", 2, 10, "measure and a grade"},
		{"no grade", head + "require app.debug", 2, 18, "measure and a grade"},
		{"an unknown measure", head + "require app.debugging attested", 2, 9, "did you mean app.debug?"},
		{"an unknown grade", head + "require app.debug sworn", 2, 19, "sworn"},
		{"the grade none", head + "require app.debug none", 2, 19, "none"},
		{"a bad age", head + "require app.debug attested daily", 2, 28, "daily"},
		{"an age without unit", head + "require app.debug attested 25", 2, 28, "25"},
		{"more behind grace", head + "require app.debug attested 1h grace 2h", 2, 37, "2h"},
		{"a measure twice", head + "require app.debug attested\nrequire app.debug claimed", 3, 9, "already required on line 2"},
		{"a condition of nothing", head + "when", 2, 5, "expression"},
		{"a condition without outcome", head + `when true "x"`, 2, 6, "unmet or weak"},
		{"a condition without expression", head + `when unmet "x"`, 2, 5, "expression"},
		{"a condition without reason", head + `when true unmet`, 2, 16, "reason in quotes"},
		{"an empty reason", head + `when true unmet ""`, 2, 5, "reason"},
		{"a reason in other quotes", head + `when true unmet 'x'`, 2, 17, "double quotes"},
		{"a reason that does not end", head + `when true unmet "x`, 2, 17, "double quotes"},
		{"a reason of two lines", head + `when true unmet "x\ny"`, 2, 5, "one line"},
		{"not a condition", head + `when 1 + 1 unmet "x"`, 2, 6, "int"},
		{"an unknown variable", head + `when devise.id == "a" unmet "x"`, 2, 12, "devise"},
		{"an unknown field of a row", head + `when rows["app.debug"].verdit == "fail" unmet "x"`, 2, 23, "verdit"},
		{"an unknown field of the device", head + `when device.name == "a" unmet "x"`, 2, 6, "device"},
		{"a measure that does not exist", head + `when rows["app.debugging"].verdict == "fail" unmet "x"`, 2, 11, "app.debugging"},
		{"a verdict that does not exist", head + `when rows["app.debug"].verdict == "failed" unmet "x"`, 2, 35, "failed"},
		{"the same in a list", head + `when rows["app.debug"].verdict in ["fail", "unkown"] unmet "x"`, 2, 44, "unkown"},
		{"a grade that does not exist", head + `when "sworn" == rows["app.debug"].grade unmet "x"`, 2, 6, "sworn"},
		{"a grade to meet that does not exist", head + `when rows["app.debug"].grade.meets("sworn") unmet "x"`, 2, 36, "sworn"},
		{"an order of grades", head + `when rows["app.debug"].grade < "attested" unmet "x"`, 2, 30, "meets"},
		{"all rows", head + `when size(rows) > 1 unmet "x"`, 2, 11, "name one measure"},
		{"a row by a name put together", head + `when rows["app." + "debug"].verdict == "fail" unmet "x"`, 2, 6, "name one measure"},
		{"a row by a variable", head + `when rows[device.id].verdict == "fail" unmet "x"`, 2, 6, "name one measure"},
		{"a macro", head + `when ["a"].exists(x, x == device.id) unmet "x"`, 2, 18, "exists"},
		{"a comparison of types", head + `when rows["app.debug"].age > 5 unmet "x"`, 2, 28, "overload"},
		{"a syntax error", head + `when device.id == unmet "x"`, 2, 18, "yntax"},
		{"a comment in an expression", head + `when true // || unmet "x"`, 2, 11, "comment"},
		{"a pattern that is none", head + `when device.id.matches("(") unmet "x"`, 2, 6, "missing closing )"},
		{"a pattern too large", head + `when device.id.matches("(a|b){200}") unmet "x"`, 2, 24, "regex"},
		{"a very costly expression", head + `when ` + strings.Repeat(`device.id.matches("`+strings.Repeat("a", 90)+`") || `, 8) + `false unmet "x"`, 2, 6, "cost"},
		{"after letters of many bytes", head + `when device.id == "ölmühle" && devise unmet "x"`, 2, 32, "devise"},
		{"too long", head + strings.Repeat("#", posture.MaxPolicy), 1, 1, "bytes"},
		{"not UTF-8", head + "# \xff", 1, 1, "UTF-8"},
		{"too many conditions", head + strings.Repeat("when true unmet \"x\"\n", posture.MaxConditions+1), posture.MaxConditions + 2, 5, "at most"},
		{"a condition too long", head + `when device.id == "` + strings.Repeat("a", posture.MaxExpression) + `" unmet "x"`, 2, 5, "1024"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := policy.Parse([]byte(tt.in))
			e, ok := errors.AsType[*policy.Error](err)
			if !ok {
				t.Fatalf("error %v, policy %+v; want a place", err, p)
			}
			if e.Line != tt.line || e.Column != tt.column || !strings.Contains(e.Text, tt.want) {
				t.Errorf("%v\nwant line %d, column %d and %q", e, tt.line, tt.column, tt.want)
			}
			if _, err := policy.Format([]byte(tt.in)); err == nil {
				t.Error("it can be formatted")
			}
		})
	}
}

func TestParseReadsAllOfIt(t *testing.T) {
	p, err := policy.Parse([]byte(`
# of the pumps
policy pumps version 7   # since the recall
lifetime short 30m full 12h
require identity.hardware-root attested
	require   firmware.secure-boot attested 24h
require crypto.time observed 1h grace
require app.watchdog claimed grace
when rows["app.debug"].verdict == "fail" && device.id != "a#b unmet" unmet "the debug port is \"open\" # really" # why
when now > timestamp("2027-01-01T00:00:00Z")   weak "of last year"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := posture.Policy{Name: "pumps", Version: 7, FullLifetime: posture.Duration(12 * time.Hour), ShortLifetime: posture.Duration(30 * time.Minute),
		Require: []posture.Requirement{
			{Measure: measure.IdentityHardwareRoot, Grade: measure.Attested},
			{Measure: measure.FirmwareSecureBoot, Grade: measure.Attested, MaxAge: posture.Duration(24 * time.Hour)},
			{Measure: measure.CryptoTime, Grade: measure.Observed, MaxAge: posture.Duration(time.Hour), GraceUnknown: true},
			{Measure: measure.AppWatchdog, Grade: measure.Claimed, GraceUnknown: true},
		},
		Conditions: []posture.Condition{
			{When: `rows["app.debug"].verdict == "fail" && device.id != "a#b unmet"`, Then: posture.Unmet, Reason: `the debug port is "open" # really`},
			{When: `now > timestamp("2027-01-01T00:00:00Z")`, Then: posture.Weak, Reason: "of last year"},
		}}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := policy.Parse(b); err != nil || !back.Equal(p) {
		t.Errorf("its JSON %s reads back as %+v: %v", b, back, err)
	}
	if _, err := policy.Parse([]byte(`{"name":"p","conditions":[{"when":"devise","then":"unmet","reason":"x"}]}`)); err == nil || !strings.Contains(err.Error(), "conditions[0]: when") {
		t.Errorf("a bad condition in JSON: %v", err)
	}
}

// TestFormat holds files against their form; HOLDFAST_REWRITE=1 writes it anew.
func TestFormat(t *testing.T) {
	names, err := filepath.Glob("testdata/*.policy")
	if err != nil || len(names) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, name := range names {
		in, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := policy.Format(in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if os.Getenv("HOLDFAST_REWRITE") == "1" {
			if err := os.WriteFile(name+".golden", []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name + ".golden")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if again, err := policy.Format([]byte(got)); err != nil || again != got {
			t.Errorf("%s: formatted twice it is\n%s\n%v", name, again, err)
		}
		before, err1 := policy.Parse(in)
		after, err2 := policy.Parse([]byte(got))
		if err1 != nil || err2 != nil || !before.Equal(after) {
			t.Errorf("%s: says something else once formatted: %v, %v", name, err1, err2)
		}
	}
}

func TestBuiltinPoliciesPrintAndReadBack(t *testing.T) {
	for _, name := range []string{posture.Standard, posture.Bench, posture.Lenient} {
		p, err := posture.Builtin(name)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := policy.Parse([]byte(policy.Print(p))); err != nil || !back.Equal(p) {
			t.Errorf("%s: %v\n%s", name, err, policy.Print(p))
		}
	}
}

// TestBuiltinConditionsAreWhatTheySay holds the compiled form of each condition
// of the built-in policies against its expression.
func TestBuiltinConditionsAreWhatTheySay(t *testing.T) {
	p, err := posture.Builtin(posture.Standard)
	if err != nil {
		t.Fatal(err)
	}
	said := p
	said.Conditions = slices.Clone(p.Conditions)
	for i := range said.Conditions {
		said.Conditions[i].When += " && true" // not the text that has a form of its own
	}
	if said, err = policy.Bind(said); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for _, id := range []measure.ID{measure.FirmwareSigning, measure.FirmwareDowngrade, measure.FirmwareUpdate, measure.AppDebug} {
		for _, v := range []measure.Verdict{measure.Pass, measure.Fail, measure.Unknown} {
			for _, age := range []time.Duration{-time.Hour, 0, posture.BehindGrace - 1, posture.BehindGrace, posture.BehindGrace + 1, 1e6 * time.Hour} {
				rows := []measure.Row{{Measure: id, Verdict: v, Grade: measure.Attested, Time: now.Add(-age)}}
				a, b := posture.Decide(p, posture.Subject{}, rows, now, false), posture.Decide(said, posture.Subject{}, rows, now, false)
				for i := range a.Outcomes {
					if a.Outcomes[i].Standing != b.Outcomes[i].Standing || a.Outcomes[i].Reason != b.Outcomes[i].Reason {
						t.Errorf("%s %s, %s old: %+v, its expression says %+v", id, v, age, a.Outcomes[i], b.Outcomes[i])
					}
				}
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("policy p version 7\nlifetime full 24h short 1h\nrequire crypto.time observed 1h grace # x\nwhen rows[\"app.debug\"].verdict == 'fail' unmet \"open\" # y\n"))
	f.Add([]byte("policy p\nwhen device.id == r\"\\\" unmet \"x\"\n"))
	f.Add([]byte("policy p\nwhen device.id == '''a'b''' weak \"\\u00e9\"\n"))
	f.Add([]byte(`{"name":"p","conditions":[{"when":"true","then":"weak","reason":"x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := policy.Parse(b)
		if err != nil {
			return
		}
		text := policy.Print(p)
		back, err := policy.Parse([]byte(text))
		if err != nil || !back.Equal(p) {
			t.Fatalf("printed as\n%s\nit reads back as %+v, was %+v: %v", text, back, p, err)
		}
		if again := policy.Print(back); again != text {
			t.Fatalf("printed as\n%s\nthen as\n%s", text, again)
		}
		pretty, err := policy.Format(b)
		if err != nil {
			t.Fatalf("it cannot be formatted: %v", err)
		}
		if back, err := policy.Parse([]byte(pretty)); err != nil || !back.Equal(p) {
			t.Fatalf("formatted as\n%s\nit is %+v, was %+v: %v", pretty, back, p, err)
		}
		posture.Decide(back, posture.Subject{}, nil, time.Unix(0, 0), false)
	})
}
