package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/measure"
	"holdfast/operator"
)

// call runs the command line and returns what it printed to stdout.
func call(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out, talk bytes.Buffer
	root := rootCmd(stdio{In: strings.NewReader(""), Out: &out, Err: &talk})
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestWrongCallsSayWhatIsWrong(t *testing.T) {
	t.Setenv("HOLDFAST_PROFILE", filepath.Join(t.TempDir(), "none.json"))
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"flet", 2, `did you mean "fleet"?`},
		{"fleet lst", 2, `did you mean "list"?`},
		{"fleet nonsense", 2, `unknown command or argument "nonsense"`},
		{"fleet list pumps", 2, `unknown command or argument "pumps"`},
		{"fleet list --grop x", 2, "unknown flag: --grop"},
		{"fleet show", 2, `"holdfast fleet show ID`},
		{"fleet show a b", 2, "2 arguments instead of 1"},
		{"fleet add x", 2, "--group is required: group the device belongs to"},
		{"fleet add x! --group g", 2, `device id "x!"`},
		{"fleet add x --group g! --token", 2, "--group: "},
		{"fleet add x --group g --ek /nowhere", 1, "read the endorsement key"},
		{"fleet revoke x", 2, "--reason is required: why; kept in the ledger"},
		{"fleet accept r --id x", 2, "--group is required"},
		{"fleet refuse r", 2, "--reason is required"},
		{"fleet list", 1, "read operator profile"},
		{"group create g!", 2, "group name"},
		{"group create g --policy ./none.json", 1, "read the policy"},
		{"hub init --root-out x", 2, "--host is required"},
		{"hub init --host h", 2, "--root-out is required"},
		{"hub run --state /nowhere", 1, "'holdfast hub init'"},
		{"hub run --log-level loud", 2, "--log-level"},
		{"board create d", 2, "--slot-a is required"},
		{"board create d --slot-a a --key k", 2, "--tpm-ca is required, except with --no-tpm"},
		{"board tamper d --slot C", 2, "want A or B"},
		{"reference add", 2, "--group is required"},
		{"reference add --group g", 2, "give one of"},
		{"reference add --group g --image a --digest b", 2, "give one of"},
		{"reference add --group g --digest xyz", 2, "--digest: "},
		{"reference remove g xyz", 2, "digest"},
		{"events --since yesterday", 2, "want an age like 10m"},
		{"ledger list --from 0", 2, "counted from 1"},
		{"demo --json", 2, "--json goes with --once"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			out, err := call(t, strings.Fields(tt.args)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) || exitCode(err) != tt.code {
				t.Errorf("exit code %d, error %v; want %d, %q", exitCode(err), err, tt.code, tt.want)
			}
			if out != "" {
				t.Errorf("stdout has %q", out)
			}
		})
	}
}

func TestExitCodesAndHints(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code int
		hint string
	}{
		{nil, 0, ""},
		{errors.New("x"), 1, ""},
		{usagef("x"), 2, "--help"},
		{fmt.Errorf("verify: %w", fault.New(fault.Integrity, "x")), 3, ""},
		{fault.New(fault.Denied, "x"), 1, ""},
		{fmt.Errorf("list: %w", fault.New(fault.Unavailable, "x")), 1, "hub run"},
		{fmt.Errorf("%w in x", errNoProfile), 1, "HOLDFAST_PROFILE"},
		{fmt.Errorf("open: %w", syscall.EADDRINUSE), 1, "--operator"},
		{fmt.Errorf("open: %w", fs.ErrPermission), 1, "another user"},
	} {
		if got := exitCode(tt.err); got != tt.code {
			t.Errorf("%v: exit code %d, want %d", tt.err, got, tt.code)
		}
		if tt.err == nil {
			continue
		}
		if got := hint(tt.err); !strings.Contains(got, tt.hint) || tt.hint == "" && got != "" {
			t.Errorf("%v: hint %q, want %q", tt.err, got, tt.hint)
		}
	}
}

// Every command that does something says how it is called, and every one that
// answers has --json.
func TestEveryCommandHasHelpAndAnExample(t *testing.T) {
	silent := map[string]bool{"holdfast hub run": true, "holdfast board run": true, "holdfast board image": true, "holdfast board tamper": true,
		"holdfast policy fmt": true} // it prints a policy
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.Short == "" {
			t.Errorf("%s has no help", c.CommandPath())
		}
		if c.HasSubCommands() {
			return
		}
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s has no example", c.CommandPath())
		}
		if c.Flags().Lookup("json") == nil && !silent[c.CommandPath()] {
			t.Errorf("%s has no --json", c.CommandPath())
		}
		checkExamples(t, c)
	}
	walk(rootCmd(stdio{}))
}

// checkExamples parses the flags of a command's examples.
func checkExamples(t *testing.T, c *cobra.Command) {
	t.Helper()
	for _, line := range strings.Split(c.Example, "\n") {
		words := strings.Fields(strings.SplitN(line, ">", 2)[0])
		found, rest, err := rootCmd(stdio{}).Find(words[1:])
		if err != nil || found.CommandPath() != c.CommandPath() {
			t.Errorf("example %q is of another command: %v", line, err)
			continue
		}
		if err := found.ParseFlags(rest); err != nil {
			t.Errorf("example %q: %v", line, err)
		}
	}
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"":                          {},
		"10m":                       now.Add(-10 * time.Minute),
		"0s":                        now,
		"2026-01-31T12:00:00Z":      time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
		"2026-01-31T13:00:00+01:00": time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
	} {
		if got, err := parseSince(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"yesterday", "-10m", "10", "2026-01-31", "2026-01-31 12:00:00"} {
		if _, err := parseSince(in, now); exitCode(err) != 2 {
			t.Errorf("%q: error %v, want wrong usage", in, err)
		}
	}
}

func TestEventLineIsOnePlainLine(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 5000, time.UTC)
	head := "2026-11-20T12:00:00.000005Z pump-01 telemetry "
	for _, tt := range []struct {
		name string
		e    operator.Event
		want string
	}{
		{"text", operator.Event{Body: `{"t":"20 °C"}`}, `{"t":"20 °C"}`},
		{"bytes", operator.Event{Base64: []byte{0xff, 0}}, "2 bytes"},
		{"nothing", operator.Event{}, ""},
		{"lines", operator.Event{Body: "a\nb\tc"}, `a\nb\tc`},
		{"escape sequences", operator.Event{Body: "\x1b[2J\u009b31m\x7f"}, `\x1b[2J\u009b31m\x7f`},
		{"right to left", operator.Event{Body: "a\u202eb"}, `a\u202eb`},
		{"properties", operator.Event{Body: "x", Properties: map[string]string{"b": "\x1b", "a": "1\n"}}, `"a"="1\n" "b"="\x1b" x`},
	} {
		tt.e.Device, tt.e.Kind, tt.e.Time = "pump-01", "telemetry", at
		if got := eventLine(tt.e); got != head+tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, head+tt.want)
		}
	}
}

func TestRecordLineQuotesWhatOthersSaid(t *testing.T) {
	r := ledger.Record{Seq: 7, Entry: ledger.Entry{Time: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), Kind: "session.refused",
		Device: "pump-01", Reason: "a \"b\"\n", Details: json.RawMessage("{\"x\":\"\u009b\"}")}}
	want := `7 2026-11-20T12:00:00Z session.refused device="pump-01" reason="a \"b\"\n" {\"x\":\"\u009b\"}`
	if got := recordLine(r); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestFirstReason(t *testing.T) {
	for in, want := range map[string]string{"": "", "a: b": "a: b", "a; b": "a (and 1 more)", "a; b; c": "a (and 2 more)"} {
		if got := firstReason(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestDeviceSheet(t *testing.T) {
	var out bytes.Buffer
	d := operator.Device{ID: "pump-01", Group: "pumps", Status: "quarantined", Reason: "bad\x1b[0m",
		Certificate: &operator.Certificate{NotAfter: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), Lifetime: 86400},
		Posture: []measure.Row{
			{Measure: measure.AppDebug, Verdict: measure.Pass, Grade: measure.Attested, Time: time.Now().Add(-time.Hour), Reason: "closed"},
			{Measure: measure.AppCompiler, Verdict: measure.Unknown, Grade: measure.None, Time: time.Now(), Reason: "no audit"},
		}}
	if err := show(&out, false, nil, func(w writer) { deviceSheet(w, d) }); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{`reason bad\x1b[0m`, "certificate 24h0m0s, until 2026-11-21T12:00:00Z", "app.debug pass attested 1h0m0s closed", "app.compiler unknown none - no audit"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
	if p, f, u := tally(d.Posture); p != 1 || f != 0 || u != 1 {
		t.Errorf("tally %d %d %d", p, f, u)
	}
}

func TestReadPolicyTakesANameOrAFile(t *testing.T) {
	const text = `{"name":"pumps","version":1,"require":[]}`
	file := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var named, read operator.SetGroup
	if err := readPolicy(&named, "bench"); err != nil || named.PolicyName != "bench" || named.Policy != nil {
		t.Errorf("%+v, %v", named, err)
	}
	if err := readPolicy(&read, file); err != nil || read.PolicyName != "" || string(read.Policy) != text {
		t.Errorf("%+v, %v", read, err)
	}
}

func TestReferenceOfABootROMIsItsDigest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rom")
	if err := os.WriteFile(file, []byte("boot ROM"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := operator.Reference{PCR: 9}
	if err := measureFile(&r, "", file, ""); err != nil || r.Kind != "boot-rom" || r.PCR != 0 || r.Digest != identity.Sum([]byte("boot ROM")) {
		t.Errorf("%+v, %v", r, err)
	}
	if err := measureFile(&r, file, "", ""); err == nil {
		t.Error("a file that is no image was measured as one")
	}
}

// A hub is made once, with everything where the answer says.
func TestHubInit(t *testing.T) {
	dir := t.TempDir()
	args := []string{"hub", "init", "--state", filepath.Join(dir, "hub"), "--host", "localhost", "--root-out", filepath.Join(dir, "root.key"), "--json"}
	out, err := call(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	var made madeHub
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{made.Root, made.RootKey, made.Profile} {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}
	if _, err := call(t, args...); err == nil || !strings.Contains(err.Error(), "holds a hub already") {
		t.Errorf("a second time: %v", err)
	}
}
