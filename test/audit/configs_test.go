package audit_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/testkit"
)

// flip is a line of flips.txt.
type flip struct {
	rule, file, what string
	after            string
	ends, both       []string
}

func flips(t testing.TB) []flip {
	t.Helper()
	text, err := os.ReadFile("testdata/config/flips.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []flip
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] == "#" {
			continue
		}
		x := flip{rule: f[0], file: f[1], what: f[2]}
		for i := 3; i+1 < len(f); i += 2 {
			switch f[i] {
			case "after":
				x.after = f[i+1]
			case "ends":
				x.ends = strings.Split(f[i+1], ",")
			case "both":
				x.both = strings.Split(f[i+1], ",")
			default:
				t.Fatalf("flips.txt: %q", line)
			}
		}
		all = append(all, x)
	}
	return all
}

// configPairs differ in one switch of a configuration.
func configPairs(t testing.TB) []pair {
	var all []pair
	for _, f := range flips(t) {
		kind, name, _ := strings.Cut(f.file, "/")
		right := f.text(t, f.after)
		p := pair{on: kind, rules: []string{f.rule}, bad: delta{label: name + " " + f.what, files: map[string]string{name: flipped(t, right, f.what)}}, ends: f.ends, both: f.both}
		if f.after != "" {
			p.good = delta{files: map[string]string{name: right}}
		}
		all = append(all, p)
	}
	return all
}

// text returns the right file, after a change that both sides have.
func (f flip) text(t testing.TB, after string) string {
	b, err := os.ReadFile(filepath.Join("testdata/config", f.file))
	if err != nil {
		t.Fatal(err)
	}
	if after == "" {
		return string(b)
	}
	return flipped(t, string(b), after)
}

// flipped makes the change in a configuration.
func flipped(t testing.TB, text, what string) string {
	kconfig := strings.HasPrefix(strings.TrimLeft(what, "+-"), "CONFIG_")
	name, value, number := strings.Cut(strings.TrimLeft(what, "+-"), "=")
	line := regexp.MustCompile(`(?m)^(#define )?` + name + `\b.*\n`)
	add, off := "#define "+name+"\n", ""
	if kconfig {
		add, off = name+"=y\n", "# "+name+" is not set\n"
	}
	if number {
		add = "#define " + name + " " + value + "\n"
	}
	switch at := line.FindStringIndex(text); {
	case at == nil && what[0] == '+' && kconfig:
		return text + add
	case at == nil && what[0] == '+':
		return strings.Replace(text, "\n#endif", add+"\n#endif", 1)
	case at != nil && what[0] == '-':
		return text[:at[0]] + off + text[at[1]:]
	case at != nil && number:
		return text[:at[0]] + add + text[at[1]:]
	}
	t.Fatalf("%s does not change the file", what)
	return ""
}

// TestCompilerAgreesOnSwitches: what a change does to the configuration is what
// it does to the compiler's macros, and nothing else.
func TestCompilerAgreesOnSwitches(t *testing.T) {
	gcc := testkit.Need(t, "gcc")
	macros := func(text string) []string {
		cmd := exec.Command(gcc, "-E", "-dM", "-x", "c", "-")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		slices.Sort(lines)
		return lines
	}
	rights := map[string][]string{}
	for _, f := range flips(t) {
		if !strings.HasSuffix(f.file, ".h") {
			continue
		}
		right := f.text(t, f.after)
		if rights[right] == nil {
			rights[right] = macros(right)
		}
		var changes []string
		wrong := macros(flipped(t, right, f.what))
		for _, m := range rights[right] {
			if !slices.Contains(wrong, m) {
				changes = append(changes, "-"+strings.Fields(m)[1])
			}
		}
		for _, m := range wrong {
			if !slices.Contains(rights[right], m) {
				changes = append(changes, "+"+strings.Fields(m)[1])
			}
		}
		name, value, number := strings.Cut(strings.TrimLeft(f.what, "+-"), "=")
		want := []string{f.what}
		if number {
			want = []string{"-" + name, "+" + name}
			if !slices.Contains(wrong, fmt.Sprintf("#define %s %s", name, value)) {
				t.Errorf("%s %s: the compiler has another number", f.file, f.what)
			}
		}
		for i, c := range changes {
			changes[i], _, _ = strings.Cut(c, "(")
		}
		if !slices.Equal(changes, want) {
			t.Errorf("%s %s changes %q for the compiler", f.file, f.what, changes)
		}
	}
}
