package checks

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

// compiled is a unit with the flags it was compiled with, from a command or
// from debug information.
type compiled struct {
	at    finding.Location
	name  string
	flags subject.Flags
	// whole says that the flags are those of a command line. Debug information
	// has those that change the code and no others: not -D, -W and -I.
	whole bool
}

// units returns what was compiled. Of assembler nothing is asked.
func units(s *subject.Subject) []compiled {
	var all []compiled
	for _, c := range s.Commands {
		if c.Source != "" && !assembler(c.Source) {
			all = append(all, compiled{c.Location, subject.Base(c.Source), c.Args, true})
		}
	}
	for _, p := range s.Programs {
		for _, u := range p.Units {
			if u.FlagsKnown && (u.Language == "c" || u.Language == "c++") {
				at := finding.InFile(p.File)
				at.Symbol = subject.Base(u.Name)
				all = append(all, compiled{at, subject.Base(u.Name), u.Flags, false})
			}
		}
	}
	return all
}

func assembler(name string) bool {
	return strings.HasSuffix(name, ".s") || strings.HasSuffix(name, ".S") || strings.HasSuffix(name, ".asm")
}

// flagRule judges every unit by its flags. Commands alone can tell of -D and
// -W: whole says that the rule asks for those.
type flagRule struct {
	whole bool
	// bad says what is wrong with a unit's flags, or "".
	bad  func(subject.Flags) string
	good string
}

func (f flagRule) judge(s *subject.Subject, r *Ruling) {
	all, judged := units(s), 0
	says := map[string][]string{} // units by what is wrong with them
	where := map[string]finding.Location{}
	for _, u := range all {
		if f.whole && !u.whole {
			continue
		}
		judged++
		if bad := f.bad(u.flags); bad != "" {
			if len(says[bad]) == 0 {
				where[bad] = u.at
			}
			says[bad] = append(says[bad], u.name)
		}
	}
	for _, bad := range keys(says) {
		r.Found(where[bad], "%s: %s", bad, few(says[bad]))
	}
	switch {
	case judged > 0:
		r.Pass("%s (%d units)", f.good, judged)
	case !slices.ContainsFunc(s.Programs, func(p *subject.Program) bool { return !goProgram(p) }):
		r.Idle("nothing was compiled of C")
	default:
		r.Unknown("how it was compiled is not known: give compile_commands.json, a build log or debug information")
	}
}

func keys[V any](m map[string]V) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// few names the first of many.
func few(names []string) string {
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) <= 3 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
}

func buildRules() []Rule {
	const section = "Compiler and linker features"
	return []Rule{{
		ID: "BLD-CANARY-01", Measure: measure.MemoryStack, Bullets: []string{"take.memory-checking"}, Severity: finding.High, Confidence: finding.Certain,
		Title: "compiled without stack canaries", Why: "An overflow then reaches the return address unnoticed.", Section: "Enable runtime stack checking",
		CWE: []string{"CWE-121", "CWE-693"}, Fix: "Compile with -fstack-protector-strong.", Bad: "cc -c a.c", Good: "cc -fstack-protector-strong -c a.c",
		Judge: flagRule{bad: withoutCanary, good: "compiled with -fstack-protector-strong"}.judge,
	}, {
		ID: "BLD-OPT-01", Measure: measure.AppCompiler, Bullets: []string{"avoid.debugging"}, Severity: finding.Low, Confidence: finding.Certain,
		Title: "compiled without optimisation", Why: "It is how one debugs; FORTIFY and many warnings need an optimiser.", Section: section,
		CWE: []string{"CWE-489"}, Fix: "Compile releases with -O2 or -Os.", Bad: "cc -O0 -c a.c", Good: "cc -Os -c a.c",
		Judge: flagRule{bad: func(f subject.Flags) string {
			switch level, said := f.Last("-O"); {
			case !said:
				return "compiled without -O"
			case level == "0" || level == "g":
				return "compiled with -O" + level
			}
			return ""
		}, good: "compiled with optimisation"}.judge,
	}, {
		ID: "BLD-WARN-01", Measure: measure.AppCompiler, Bullets: []string{"take.clean-builds"}, Severity: finding.Low, Confidence: finding.Certain,
		Title: "compiled without all warnings", Why: "What the compiler sees and does not say goes into the product.", Section: section,
		CWE: []string{"CWE-1127"}, Fix: "Compile with -Wall -Wextra -Werror.", Bad: "cc -c a.c", Good: "cc -Wall -Wextra -Werror -c a.c",
		Judge: flagRule{whole: true, bad: withoutWarnings, good: "compiled with -Wall -Wextra -Werror"}.judge,
	}, {
		ID: "BLD-WARN-02", Measure: measure.AppCompiler, Bullets: []string{"take.clean-builds"}, Severity: finding.Medium, Confidence: finding.Certain,
		Title: "warnings are switched off", Why: "What the compiler sees and does not say goes into the product.", Section: section,
		CWE: []string{"CWE-1127"}, Fix: "Remove -w.", Bad: "cc -w -c a.c", Good: "cc -Wall -c a.c",
		Judge: flagRule{whole: true, bad: func(f subject.Flags) string {
			if f.Has("-w") || f.Has("--no_warnings") {
				return "compiled with warnings switched off"
			}
			return ""
		}, good: "no warnings are switched off"}.judge,
	}, {
		ID: "BLD-FORTIFY-01", Measure: measure.AppCompiler, Bullets: []string{"avoid.buffer-overflows"}, Severity: finding.Medium, Confidence: finding.Certain,
		Title: "compiled without FORTIFY", Why: "The C library can check the sizes of what it writes, where the compiler knows them.", Section: section,
		CWE: []string{"CWE-120"}, Fix: "Compile with -D_FORTIFY_SOURCE=3 and optimisation.", Bad: "gcc -O2 -c a.c", Good: "gcc -O2 -D_FORTIFY_SOURCE=3 -c a.c",
		Judge: judgeFortify,
	}, {
		ID: "BLD-LOG-01", Measure: measure.AppCompiler, Bullets: []string{"take.clean-builds"}, Severity: finding.Medium, Confidence: finding.Certain,
		Title: "the build warns", Why: "Each warning is an error that nobody has looked at.", Section: section,
		CWE: []string{"CWE-1127"}, Fix: "Mend what the compiler warns of.", Bad: "a.c:1:2: warning: unused variable 'x'", Good: "cc -c a.c",
		Judge: judgeLogs,
	}, {
		ID: "BLD-SAN-01", Measure: measure.MemoryStack, Bullets: []string{"take.memory-checking"}, Severity: finding.Info, Confidence: finding.Guess,
		Title: "no test build with sanitizers is shown", Why: "Sanitizers find overflows that tests run into and nobody sees.", Section: section,
		CWE: []string{"CWE-119"}, Fix: "Build the tests with -fsanitize=address,undefined and give their commands or log too.", Bad: "cc -c a.c", Good: "cc -fsanitize=address -c a.c",
		Judge: judgeSanitizers,
	}, {
		ID: "ALN-FLAG-01", Measure: measure.AppAlignment, Bullets: nil, Severity: finding.High, Confidence: finding.Certain,
		Title: "compiled for unaligned access on a core that has none", Why: "The first unaligned access is a fault.", Section: "Make sure memory access alignment is correct",
		CWE: []string{"CWE-704"}, Fix: "Compile with -mno-unaligned-access for ARMv6-M and ARMv8-M Baseline.", Bad: "cc -mcpu=cortex-m0 -munaligned-access -c a.c", Good: "cc -mcpu=cortex-m0 -mno-unaligned-access -c a.c",
		Judge: judgeAlignment,
	}}
}

func withoutCanary(f subject.Flags) string {
	strong, _ := f.Switch("f", "stack-protector-strong")
	whole, _ := f.Switch("f", "stack-protector-all")
	basic, said := f.Switch("f", "stack-protector")
	switch {
	case said && !basic:
		return "compiled with -fno-stack-protector"
	case strong || whole || f.Has("--protect_stack_all") || f.Has("--stack_protection"):
		return ""
	case basic:
		return "compiled with -fstack-protector, which guards few functions"
	}
	return "compiled without -fstack-protector-strong"
}

func withoutWarnings(f subject.Flags) string {
	var missing []string
	for _, w := range []string{"-Wall", "-Wextra", "-Werror"} {
		if !f.Has(w) {
			missing = append(missing, w)
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return "compiled without " + strings.Join(missing, " ")
}

// judgeFortify asks for FORTIFY where there is a C library that has it: not on
// bare metal.
func judgeFortify(s *subject.Subject, r *Ruling) {
	hosted := func(c subject.Command) bool {
		bare, _ := c.Args.Switch("f", "freestanding")
		return !bare && !strings.Contains(c.Compiler, "-none-") && !strings.Contains(c.Compiler, "armcc") && !strings.Contains(c.Compiler, "iccarm") && !c.Args.Has("-nostdlib")
	}
	some := false
	var bad []string
	var at finding.Location
	for _, c := range s.Commands {
		if c.Source == "" || assembler(c.Source) || !hosted(c) {
			continue
		}
		some = true
		if fortified(c.Args) < 2 {
			if len(bad) == 0 {
				at = c.Location
			}
			bad = append(bad, subject.Base(c.Source))
		}
	}
	if len(bad) > 0 {
		r.Found(at, "compiled without FORTIFY: %s", few(bad))
	}
	if !some {
		r.Idle("nothing was compiled for a C library that has it")
		return
	}
	r.Pass("compiled with FORTIFY")
}

// fortified returns the level of _FORTIFY_SOURCE.
func fortified(f subject.Flags) int {
	level := 0
	for _, d := range f.Defines() {
		if d.Name == "_FORTIFY_SOURCE" {
			level, _ = strconv.Atoi(d.Value) // what is no number counts as none
			if d.Undef {
				level = 0
			}
		}
	}
	return level
}

var warned = regexp.MustCompile(`(?i)(^|[^-\w])(warning|error)(\[\w+\])?( [A-Z]\d+)?: `)

// judgeLogs reads the logs of builds.
func judgeLogs(s *subject.Subject, r *Ruling) {
	some := false
	for _, f := range s.Files {
		if f.Kind != subject.BuildLog {
			continue
		}
		some = true
		n, line := 0, 0
		for text := range strings.Lines(f.Text()) {
			if line++; !warned.MatchString(text) {
				continue
			}
			if n++; n <= 50 {
				r.Found(finding.AtLine(f.Name, line), "%.160s", strings.TrimSpace(text))
			}
		}
		r.Fact("warnings", "%d", n)
	}
	if !some {
		r.Idle("no build log")
		return
	}
	r.Pass("the build warns of nothing")
}

func judgeSanitizers(s *subject.Subject, r *Ruling) {
	some := false
	for _, c := range s.Commands {
		some = true
		if kinds, said := c.Args.Last("-fsanitize="); said && (strings.Contains(kinds, "address") || strings.Contains(kinds, "undefined")) {
			r.Pass("%s is compiled with -fsanitize=%.40s", subject.Base(c.Source), kinds)
			return
		}
	}
	if !some {
		r.Idle("no build command")
		return
	}
	r.Unknown("no command builds with sanitizers; the tests' may, and are not here")
}

// noUnaligned are the cores that fault on every unaligned access.
var noUnaligned = []string{"cortex-m0", "cortex-m0plus", "cortex-m0+", "cortex-m1", "cortex-m23", "armv6-m", "armv6s-m", "armv8-m.base", "sc000"}

func judgeAlignment(s *subject.Subject, r *Ruling) {
	some := false
	for _, u := range units(s) {
		core, _ := u.flags.Last("-mcpu=")
		if core == "" {
			core, _ = u.flags.Last("-march=")
		}
		if core == "" {
			core = s.Declared.Core
		}
		core, _, _ = strings.Cut(strings.ToLower(core), "+no")
		if core == "" {
			continue
		}
		some = true
		if on, said := u.flags.Switch("m", "unaligned-access"); said && on && slices.Contains(noUnaligned, core) {
			r.Found(u.at, "%s is compiled with -munaligned-access for %s", u.name, core)
		}
	}
	if !some {
		r.Idle("for which core it was compiled is not known")
		return
	}
	r.Pass("nothing is compiled for an access that its core does not have")
}
