package audit_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"holdfast/audit/checks"
	"holdfast/audit/subject"
	"holdfast/audit/unpack"
	"holdfast/internal/testkit"
)

// facts is what readelf and nm say of a program.
type facts struct {
	kind                                string // EXEC, DYN, REL
	interp, dynamic, abi                bool
	relro, now, stack, execOn           bool
	rwx, textrel, debug, stripped       bool
	canary, fortified, plain            bool
	buildID                             string
	needed, rpath, undefined, functions []string
}

var (
	buildID  = regexp.MustCompile(`Build ID: ([0-9a-f]+)`)
	brackets = regexp.MustCompile(`\[([^\]]*)\]`)
)

// askReadelf reads the output of readelf, in the way that hardening-check of
// Debian's devscripts does, and of nm.
func askReadelf(t testing.TB, file string) facts {
	t.Helper()
	ask := func(program string, args ...string) string {
		cmd := exec.Command(testkit.Need(t, program), append(args, file)...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %s: %v", program, file, err)
		}
		return string(out)
	}
	var f facts
	for line := range strings.Lines(ask("readelf", "-hldnSW")) {
		w := strings.Fields(line)
		switch {
		case len(w) >= 2 && w[0] == "Type:":
			f.kind = w[1]
		case len(w) > 6 && w[0] == "LOAD":
			f.rwx = f.rwx || strings.Contains(strings.Join(w[6:len(w)-1], ""), "RWE")
		case len(w) > 6 && w[0] == "GNU_STACK":
			f.stack, f.execOn = true, strings.Contains(strings.Join(w[6:len(w)-1], ""), "E")
		case len(w) > 0 && w[0] == "GNU_RELRO":
			f.relro = true
		case len(w) > 0 && w[0] == "INTERP":
			f.interp = true
		case strings.Contains(line, "(BIND_NOW)"), strings.Contains(line, "(FLAGS") && strings.Contains(line, "NOW"):
			f.now = true
		case strings.HasPrefix(line, "Dynamic section at"):
			f.dynamic = true
		case strings.Contains(line, "(NEEDED)"):
			f.needed = append(f.needed, brackets.FindStringSubmatch(line)[1])
		case strings.Contains(line, "(RPATH)"), strings.Contains(line, "(RUNPATH)"):
			f.rpath = append(f.rpath, brackets.FindStringSubmatch(line)[1])
		case strings.Contains(line, "(TEXTREL)"):
			f.textrel = true
		case strings.Contains(line, " .note.ABI-tag "):
			f.abi = true
		case strings.Contains(line, " .debug_info ") || strings.Contains(line, " .zdebug_info "):
			f.debug = true
		}
		if m := buildID.FindStringSubmatch(line); m != nil {
			f.buildID = m[1]
		}
		if strings.Contains(line, "(FLAGS") && strings.Contains(line, "TEXTREL") {
			f.textrel = true
		}
	}
	f.symbols(ask("readelf", "-sW"))
	return f
}

// symbols reads readelf -s.
func (f *facts) symbols(text string) {
	f.stripped = !strings.Contains(text, "'.symtab'")
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) < 8 || !strings.HasSuffix(w[0], ":") {
			continue
		}
		if _, err := strconv.Atoi(strings.TrimSuffix(w[0], ":")); err != nil {
			continue
		}
		name, _, _ := strings.Cut(w[7], "@")
		switch {
		case w[6] == "UND":
			f.undefined = append(f.undefined, name)
		case w[3] == "FUNC":
			f.functions = append(f.functions, name)
		}
	}
	slices.Sort(f.undefined)
	slices.Sort(f.functions)
	f.undefined, f.functions = slices.Compact(f.undefined), slices.Compact(f.functions)
	f.canary = slices.ContainsFunc(slices.Concat(f.undefined, f.functions), func(n string) bool { return strings.HasPrefix(n, "__stack_chk_fail") })
	f.fortified = slices.ContainsFunc(f.undefined, func(n string) bool { return strings.HasPrefix(n, "__") && strings.HasSuffix(n, "_chk") })
}

// differs returns the facts that a program was read with otherwise.
func (f facts) differs(p *subject.Program) []string {
	var all []string
	say := func(what string, ours, theirs any) {
		if fmt.Sprint(ours) != fmt.Sprint(theirs) {
			all = append(all, fmt.Sprintf("%s: %v, readelf says %v", what, ours, theirs))
		}
	}
	has := func(kind string, ok func(subject.Segment) bool) bool {
		return slices.ContainsFunc(p.Segments, func(s subject.Segment) bool { return s.Type == kind && ok(s) })
	}
	any := func(subject.Segment) bool { return true }
	say("type", p.Type, map[string]subject.Type{"EXEC": subject.Executable, "DYN": subject.Shared, "REL": subject.Relocatable, "CORE": subject.Core}[f.kind])
	say("loader", p.Interp != "", f.interp)
	say("RELRO", has("GNU_RELRO", any), f.relro)
	say("BIND_NOW", p.Dynamic.Now, f.now)
	say("GNU_STACK", has("GNU_STACK", any), f.stack)
	say("executable stack", has("GNU_STACK", func(s subject.Segment) bool { return s.Exec }), f.execOn)
	say("RWX", has("LOAD", func(s subject.Segment) bool { return s.Write && s.Exec }), f.rwx)
	say("TEXTREL", p.Dynamic.TextRel, f.textrel)
	say("debug information", p.Debug, f.debug)
	say("stripped", p.Stripped, f.stripped)
	say("build id", p.BuildID, f.buildID)
	say("libraries", p.Needed, f.needed)
	say("paths", p.Dynamic.RPath, f.rpath)
	say("undefined symbols", missing(f.undefined, names(p, func(s subject.Symbol) bool { return s.Undefined })), "")
	say("functions", missing(f.functions, names(p, func(s subject.Symbol) bool { return !s.Undefined && s.Kind == subject.FuncSymbol })), "")
	return all
}

// names returns the names of a program's symbols of a kind, sorted.
func names(p *subject.Program, is func(subject.Symbol) bool) []string {
	var all []string
	for _, s := range p.Symbols {
		if is(s) {
			name, _, _ := strings.Cut(s.Name, "@")
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// missing returns the first names that are in one list and not in the other.
func missing(want, got []string) string {
	var all []string
	for _, n := range want {
		if _, ok := slices.BinarySearch(got, n); !ok && n != "" && n != "<corrupt>" && len(all) < 5 {
			all = append(all, n)
		}
	}
	return strings.Join(all, " ")
}

// flaws are the rules whose verdict the facts decide, and how.
var flaws = map[string]func(facts) bool{
	"MEM-RWX-01":     func(f facts) bool { return f.rwx },
	"MEM-STACK-01":   func(f facts) bool { return hostedBy(f) && (!f.stack || f.execOn) },
	"MEM-RELRO-01":   func(f facts) bool { return f.dynamic && (!f.relro || !f.now) },
	"MEM-PIE-01":     func(f facts) bool { return f.kind == "EXEC" && hostedBy(f) },
	"MEM-TEXTREL-01": func(f facts) bool { return f.textrel },
	"VER-BUILD-01":   func(f facts) bool { return f.buildID == "" },
	"DBG-INFO-01":    func(f facts) bool { return f.debug && hostedBy(f) },
	"ENT-RAND-01": func(f facts) bool {
		return imports(f, "rand", "rand_r", "random", "random_r", "drand48", "erand48", "lrand48", "nrand48", "mrand48", "jrand48", "srand", "srandom", "srand48", "seed48", "initstate")
	},
	"BUF-UNSAFE-02": func(f facts) bool {
		return imports(f, "strcpy", "strcat", "sprintf", "vsprintf", "gets", "stpcpy", "wcscpy", "wcscat")
	},
}

// loose are rules that ask more than hardening-check does, or less, of the same
// facts: how far they agree is told and not demanded. A program without any
// buffer has no canary and needs none, and memcpy is not fortified where the
// compiler saw that it fits.
var loose = map[string]func(facts) bool{
	"STK-CANARY-01":  func(f facts) bool { return hostedBy(f) && !f.canary },
	"MEM-FORTIFY-01": func(f facts) bool { return hostedBy(f) && f.plain && !f.fortified },
}

// own are functions of which imports say nothing in programs that have them
// themselves: C libraries and those that stand before them.
var own = map[string]bool{"ENT-RAND-01": true, "BUF-UNSAFE-02": true}

// decides reports whether the facts say what a rule has to come to.
func (f facts) decides(rule string) bool {
	if !own[rule] {
		return true
	}
	return f.dynamic && !slices.ContainsFunc(f.functions, func(n string) bool { return n == "strcpy" || n == "rand" })
}

// hostedBy reports whether a program runs on an operating system: it asks for a
// loader or a library, or for a version of the kernel.
func hostedBy(f facts) bool { return f.interp || len(f.needed) > 0 || f.abi }

func imports(f facts, functions ...string) bool {
	return slices.ContainsFunc(functions, func(n string) bool { return slices.Contains(f.undefined, n) })
}

// programs lists programs to compare: all below HOLDFAST_PROGRAMS (directories,
// separated by ":"), or a sample of what every Debian has.
func programs(t testing.TB) []string {
	dirs := filepath.SplitList(os.Getenv("HOLDFAST_PROGRAMS"))
	whole := len(dirs) > 0
	if !whole {
		dirs = []string{"/usr/bin", "/usr/sbin", "/usr/lib/x86_64-linux-gnu"}
	}
	const most, largest = 60, 2 << 20 // of the sample
	var all []string
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // what cannot be read is not compared
			}
			if info, err := d.Info(); err == nil && (whole || info.Size() <= largest) && isELF(path) {
				all = append(all, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if step := len(all) / most; !whole && step > 1 {
		var sample []string
		for i := 0; i < len(all); i += step {
			sample = append(sample, all[i])
		}
		return sample
	}
	return all
}

func isELF(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [20]byte
	_, err = f.Read(head[:])
	return err == nil && string(head[:4]) == "\x7fELF" && head[16] != 1 // not objects
}

// TestFactsAreThoseOfReadelf compares every fact that readelf tells of programs
// that others have built, and the verdicts that rest on them.
func TestFactsAreThoseOfReadelf(t *testing.T) {
	testkit.Need(t, "readelf")
	files := programs(t)
	if len(files) < 10 {
		t.Skipf("%d programs here", len(files))
	}
	chk := withChecks(t)
	asked := maps.Clone(flaws)
	maps.Copy(asked, loose)
	rules := slices.DeleteFunc(checks.All(), func(r checks.Rule) bool { return asked[r.ID] == nil })
	scores := map[string]*score{}
	for _, r := range rules {
		scores[r.ID] = &score{}
	}
	var mu sync.Mutex
	var wait sync.WaitGroup
	free := make(chan struct{}, 2)
	for _, file := range files {
		free <- struct{}{}
		wait.Go(func() {
			defer func() { <-free }()
			f := askReadelf(t, file)
			f.plain = slices.ContainsFunc(f.undefined, func(n string) bool { return chk[n] })
			states := compare(t, file, f, rules)
			mu.Lock()
			defer mu.Unlock()
			for id, s := range states {
				if !f.decides(id) {
					continue
				}
				scores[id].add(asked[id](f), s)
			}
		})
	}
	wait.Wait()
	t.Logf("%d programs", len(files))
	for _, r := range rules {
		s := scores[r.ID]
		t.Logf("%-14s %s", r.ID, s)
		if loose[r.ID] == nil && s.missed+s.wrong > 0 {
			t.Errorf("%s: %d missed, %d wrong", r.ID, s.missed, s.wrong)
		}
	}
}

// withChecks returns the functions of the C library that have a checked form.
func withChecks(t testing.TB) map[string]bool {
	t.Helper()
	const library = "/lib/x86_64-linux-gnu/libc.so.6"
	all := map[string]bool{}
	if _, err := os.Stat(library); err != nil {
		return all
	}
	for _, n := range askReadelf(t, library).functions {
		if name, ok := strings.CutSuffix(strings.TrimPrefix(n, "__"), "_chk"); ok {
			all[name] = true
		}
	}
	return all
}

// compare holds a program against its facts and returns what the rules came to.
func compare(t testing.TB, file string, f facts, rules []checks.Rule) map[string]state {
	s, err := unpack.Open(t.Context(), []string{file}, unpack.Options{})
	if err != nil {
		t.Error(err)
		return nil
	}
	defer s.Close()
	if len(s.Programs) != 1 || len(s.Troubles) > 0 {
		t.Errorf("%s: %d programs, troubles %v", file, len(s.Programs), s.Troubles)
		return nil
	}
	for _, d := range f.differs(s.Programs[0]) {
		t.Errorf("%s: %s", file, d)
	}
	findings, results, err := checks.Judge(t.Context(), s, rules, nil)
	if err != nil {
		t.Error(err)
		return nil
	}
	states := map[string]state{}
	for _, r := range results {
		states[r.Rule] = state(r.Verdict)
	}
	for _, x := range findings {
		states[x.Rule] = "fail"
	}
	for id, is := range flaws {
		if want := is(f); f.decides(id) && want != (states[id] == "fail") {
			t.Logf("%s: %s is %s, the facts say %v", file, id, states[id], map[bool]string{true: "fail", false: "not"}[want])
		}
	}
	return states
}

// score counts what a rule came to against the truth.
type score struct{ hit, missed, wrong, right, silent int }

func (s *score) add(flaw bool, is state) {
	switch {
	case flaw && is == "fail":
		s.hit++
	case flaw:
		s.missed++
	case is == "fail":
		s.wrong++
	case is == "pass":
		s.right++
	default:
		s.silent++
	}
}

// String gives the counts, and what they come to.
func (s *score) String() string {
	return fmt.Sprintf("found %d of %d, %d wrongly, passed %d, not decided %d", s.hit, s.hit+s.missed, s.wrong, s.right, s.silent)
}
