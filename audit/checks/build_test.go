package checks_test

import (
	"strings"
	"testing"

	"holdfast/audit/checks"
	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

// command is a subject with one command that compiles.
func command(line string) *subject.Subject {
	words := strings.Fields(line)
	s := subject.New(nil)
	s.Commands = []subject.Command{{Location: finding.AtLine("build.log", 1), Compiler: words[0], Args: words[1:], Source: words[len(words)-1]}}
	return s
}

func TestExamplesOfCommands(t *testing.T) {
	for _, id := range []string{"BLD-CANARY-01", "BLD-OPT-01", "BLD-WARN-01", "BLD-WARN-02", "BLD-FORTIFY-01", "ALN-FLAG-01"} {
		rule, ok := checks.Find(id)
		if !ok {
			t.Fatalf("there is no rule %s", id)
		}
		if res, found := run(t, command(rule.Bad), id); res.Verdict != measure.Fail || len(found) != 1 {
			t.Errorf("%s with %q: %s, %d findings", id, rule.Bad, res.Verdict, len(found))
		}
		if res, _ := run(t, command(rule.Good), id); res.Verdict != measure.Pass {
			t.Errorf("%s with %q: %s (%s)", id, rule.Good, res.Verdict, res.Reason)
		}
	}
}

func TestCommands(t *testing.T) {
	for _, c := range []struct {
		rule, line string
		want       measure.Verdict
	}{
		{"BLD-CANARY-01", "cc -fstack-protector-strong -fno-stack-protector -c a.c", measure.Fail},
		{"BLD-CANARY-01", "cc -fstack-protector -c a.c", measure.Fail},
		{"BLD-CANARY-01", "cc -fstack-protector-all -c a.c", measure.Pass},
		{"BLD-CANARY-01", "cc -c start.S", measure.Unknown},
		{"BLD-FORTIFY-01", "arm-none-eabi-gcc -O2 -c a.c", measure.Unknown},
		{"BLD-FORTIFY-01", "gcc -O2 -D_FORTIFY_SOURCE=2 -U_FORTIFY_SOURCE -c a.c", measure.Fail},
		{"BLD-FORTIFY-01", "gcc -O2 -D_FORTIFY_SOURCE=1 -c a.c", measure.Fail},
		{"BLD-SAN-01", "cc -fsanitize=address,undefined -c a.c", measure.Pass},
		{"BLD-SAN-01", "cc -c a.c", measure.Unknown},
		{"ALN-FLAG-01", "cc -mcpu=cortex-m4 -munaligned-access -c a.c", measure.Pass},
		{"ALN-FLAG-01", "cc -c a.c", measure.Unknown},
	} {
		if res, _ := run(t, command(c.line), c.rule); res.Verdict != c.want {
			t.Errorf("%s with %q: %s (%s), want %s", c.rule, c.line, res.Verdict, res.Reason, c.want)
		}
	}
}

// Debug information tells of canaries and not of warnings.
func TestFlagsOfDebugInformation(t *testing.T) {
	p := program([2]string{"main", "f"})
	p.Units = []subject.Unit{{Name: "a.c", Language: "c", Flags: subject.Flags{"-O2", "-fstack-protector-strong"}, FlagsKnown: true}, {Name: "crt0.S", Language: "asm", FlagsKnown: true}}
	s := withPrograms(p)
	if res, _ := run(t, s, "BLD-CANARY-01"); res.Verdict != measure.Pass {
		t.Errorf("%+v", res)
	}
	if res, _ := run(t, s, "BLD-WARN-01"); res.Verdict != measure.Unknown || !res.Applies {
		t.Errorf("%+v", res)
	}
	p.Units[0].FlagsKnown = false
	if res, _ := run(t, s, "BLD-CANARY-01"); res.Verdict != measure.Unknown {
		t.Errorf("without flags: %+v", res)
	}
}

func TestBuildLogs(t *testing.T) {
	for text, want := range map[string]int{
		"cc -Werror -c a.c\ncc -Wno-error=x -c b.c\n":                                 0,
		"a.c:1:2: warning: unused variable\na.c: In function 'f':\nb.c:3:1: error: x": 2,
		"\"a.c\",12  Warning[Pe177]: variable was declared\n":                         1,
		"Warning: L6314W: no section matches\n":                                       1,
		"cp warnings.txt errors/\n":                                                   0,
	} {
		s := subject.New(nil)
		s.Files = []*subject.File{subject.NewFile("build.log", subject.BuildLog, func() ([]byte, error) { return []byte(text), nil })}
		if res, found := run(t, s, "BLD-LOG-01"); len(found) != want || (res.Verdict == measure.Pass) != (want == 0) {
			t.Errorf("%q: %d findings, want %d (%s)", text, len(found), want, res.Verdict)
		}
	}
}
