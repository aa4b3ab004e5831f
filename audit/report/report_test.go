package report_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"holdfast/audit/checks"
	"holdfast/audit/report"
	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/identity"
	"holdfast/measure"
)

// sample is a report with everything in it that may be.
func sample(t *testing.T) *finding.Report {
	t.Helper()
	_, results, err := checks.Judge(t.Context(), subject.New(nil), checks.All(), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := func(s finding.Severity, at finding.Location, message string) finding.Finding {
		return finding.Finding{Rule: "ENT-RAND-01", Measure: measure.CryptoEntropy, Bullet: "avoid.rand", Severity: s, Confidence: finding.Guess,
			Location: at, Message: message, Fix: "mend it", Fingerprint: strings.Repeat("ab", 16)}
	}
	known, suppressed := f(finding.Low, finding.AtLine("src/a b.c", 12), "in the baseline"), f(finding.Critical, finding.InFile("x\x1b[31m.c"), "suppressed <b>")
	known.Known, suppressed.Suppressed = true, "a reason"
	grounds := checks.GroundsOf(checks.All(), results)
	return &finding.Report{
		Schema: finding.SchemaID, Auditor: "holdfast 1", Rules: checks.Digest(checks.All()), Revision: "0123",
		Inputs:   []finding.Input{{File: "app.elf", Kind: "elf", Size: 3, SHA256: identity.Sum([]byte("a")), Arch: "arm"}},
		Images:   []finding.Image{{File: "app.bin", Measured: identity.Sum([]byte("b")), Matches: "app.elf"}, {File: "b.bin"}},
		Findings: []finding.Finding{f(finding.High, finding.Location{File: "app.elf", Offset: 64, Address: 0x8000, Symbol: "main"}, "<script>alert(1)</script>\x1b[2J"), known, suppressed},
		Results:  results, Rows: checks.Rows(grounds), Bullets: checks.Bullets(grounds),
		Evidence: []finding.Evidence{{Kind: "fuzz", File: "f.json", Verdict: measure.Pass, Reason: "ran"}},
		Troubles: []finding.Trouble{{Location: finding.Location{File: "bad.elf", Offset: 7, Address: -1}, Message: "cut short"}},
	}
}

func write(t *testing.T, f report.Format, r *finding.Report, o report.Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := report.Write(&b, f, r, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// valid holds a JSON text against a schema.
func valid(t *testing.T, schema, text string) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(value); err != nil {
		t.Error(err)
	}
}

func TestJSONIsOfItsSchemaAndWhole(t *testing.T) {
	r := sample(t)
	text := write(t, report.JSON, r, report.Options{})
	valid(t, finding.Schema(), text)
	var back finding.Report
	if err := json.Unmarshal([]byte(text), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, &back); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	empty := &finding.Report{Schema: finding.SchemaID, Rules: r.Rules, Inputs: []finding.Input{}, Findings: []finding.Finding{}, Results: []finding.Result{}, Rows: []finding.Row{}, Bullets: []finding.Row{}}
	valid(t, finding.Schema(), write(t, report.JSON, empty, report.Options{}))
}

func TestSARIFIsOfItsSchema(t *testing.T) {
	schema, err := os.ReadFile("testdata/sarif-schema-2.1.0.json")
	if err != nil {
		t.Fatal(err)
	}
	text := write(t, report.SARIF, sample(t), report.Options{})
	valid(t, string(schema), text)
	for _, want := range []string{`"ruleId": "ENT-RAND-01"`, `"startLine": 12`, `"byteOffset": 64`, `"absoluteAddress": 32768`, `"uri": "src/a%20b.c"`, `"baselineState": "unchanged"`, `"justification": "a reason"`, `"sha-256"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, `"runs": []`) {
		t.Error("no run")
	}
}

func TestTextShowsWhatIsNewAndNothingThatMovesTheCursor(t *testing.T) {
	r := sample(t)
	short, long := write(t, report.Text, r, report.Options{}), write(t, report.Text, r, report.Options{Verbose: true})
	for _, text := range []string{short, long} {
		if strings.Contains(text, "\x1b") {
			t.Errorf("escape sequences: %q", text)
		}
		for _, want := range []string{"ENT-RAND-01", "app.elf @0x8000 (main)", "fix: mend it", "not read: bad.elf+0x7: cut short", "1 in the baseline, 1 suppressed", "image app.bin carries app.elf", "checklist: 0 pass"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
	}
	if strings.Contains(short, "src/a b.c") || !strings.Contains(long, "src/a b.c:12  [a guess, in the baseline]") {
		t.Error("what is known is shown, or never")
	}
	if text := write(t, report.Text, r, report.Options{Color: true}); !strings.Contains(text, "\x1b[31mhigh\x1b[0m") {
		t.Error("no colour")
	}
}

func TestHTMLIsWholeAndEscaped(t *testing.T) {
	text := write(t, report.HTML, sample(t), report.Options{})
	if strings.Contains(text, "<script>") || strings.Contains(text, "\x1b") {
		t.Error("input reached the page as it is")
	}
	for _, item := range measure.Checklist() {
		if !strings.Contains(text, "<small>"+item.ID+"</small>") {
			t.Errorf("no bullet %s", item.ID)
		}
	}
	for _, ref := range []string{"src=", "href=", "url("} {
		if strings.Contains(text, ref) {
			t.Errorf("the page asks for more than itself: %s", ref)
		}
	}
}

func TestParseFormat(t *testing.T) {
	for _, f := range []string{"text", "json", "sarif", "html"} {
		if got, err := report.ParseFormat(f); err != nil || string(got) != f {
			t.Errorf("%s: %v, %v", f, got, err)
		}
	}
	if _, err := report.ParseFormat("pdf"); err == nil {
		t.Error("took pdf")
	}
}
