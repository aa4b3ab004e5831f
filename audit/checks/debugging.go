package checks

import (
	"bytes"
	"regexp"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

func debugRules() []Rule {
	const section = "Disable debugging features"
	rule := func(id string, s finding.Severity, c finding.Confidence, title, why, cwe, fix, bad, good string, judge func(*subject.Program, *Ruling)) Rule {
		return Rule{ID: id, Measure: measure.AppDebug, Bullets: []string{"avoid.debugging"}, Severity: s, Confidence: c, Title: title, Why: why,
			Section: section, CWE: []string{cwe}, Fix: fix, Bad: bad, Good: good, Judge: eachProgram(judge)}
	}
	return []Rule{
		rule("DBG-INFO-01", finding.Low, finding.Certain, "debug information is in what the device loads", "It names every function and variable, and the place of each.", "CWE-489",
			"Strip what is delivered: strip --strip-debug, or objcopy -O binary.", "gcc -g a.c", "gcc -g a.c && strip --strip-debug a.out", judgeDebugInfo),
		rule("DBG-SEMI-01", finding.High, finding.Firm, "semihosting is in the firmware", "Without a debugger the core stops there; with one, its files and console are the firmware's.", "CWE-489",
			"Link with --specs=nosys.specs rather than rdimon.specs, and remove calls of initialise_monitor_handles.", "arm-none-eabi-gcc --specs=rdimon.specs a.c", "arm-none-eabi-gcc --specs=nosys.specs a.c", judgeSemihosting),
		rule("DBG-TRACE-01", finding.Medium, finding.Firm, "a trace of the debugger is written", "Whoever holds a probe reads along.", "CWE-1295",
			"Leave ITM, SWO and RTT out of releases.", "ITM_SendChar(c);", "log_remote(c);", judgeTrace),
		rule("DBG-STUB-01", finding.High, finding.Firm, "a debugger's stub is in the firmware", "It reads and writes all of memory for whoever reaches it.", "CWE-489",
			"Build releases without it.", "gdb_stub_init();", "/* no stub */", judgeStubs),
		rule("DBG-TEST-01", finding.Low, finding.Guess, "test code is in the firmware", "What opens the device for tests opens it for others.", "CWE-489",
			"Build tests apart from releases.", "UnityBegin(\"test.c\");", "/* no tests */", judgeTests),
		rule("DBG-SHELL-01", finding.Medium, finding.Firm, "a command shell is in the firmware", "A shell on a serial line is a door that needs no more than a cable.", "CWE-1191",
			"Leave it out of releases, or demand a login.", "shell_init();", "/* no shell */", judgeShell),
		rule("DBG-LOG-01", finding.Low, finding.Guess, "messages for debugging are in the firmware", "They tell an attacker how the firmware works and what it does just now.", "CWE-532",
			"Build releases with a log level of warnings and errors.", "printf(\"[DEBUG] state %d\", s);", "printf(\"state\");", judgeLogTexts),
		rule("DBG-PRINT-01", finding.High, finding.Guess, "a secret is printed", "Logs are read by more people than keys should be.", "CWE-532",
			"Print neither keys nor passwords.", "puts(psk);", "puts(\"joined\");", judgePrinted),
	}
}

// judgeDebugInfo asks what a device holds: of firmware the loadable part is
// flashed, and debug information is not in it; of a program on an operating
// system it is the file.
func judgeDebugInfo(p *subject.Program, r *Ruling) {
	switch {
	case !linked(p):
		r.Idle("%s is not linked", p.File)
	case p.Debug && hosted(p):
		r.Found(finding.InFile(p.File), "debug information is in the program")
	case p.Debug:
		r.Pass("debug information is in %s and not in what is flashed", p.File)
	default:
		r.Pass("%s has no debug information", p.File)
	}
}

// judgeSemihosting looks for the calls of the debugger's monitor: BKPT 0xAB in
// Thumb, SVC 0x123456 in ARM code.
func judgeSemihosting(p *subject.Program, r *Ruling) {
	const breakpoint, call = 0xbeab, 0xef123456
	if p.Arch != subject.ARM || hosted(p) || !linked(p) {
		r.Idle("no firmware for ARM")
		return
	}
	told := map[string]bool{}
	halfwords(p, func(at uint64, this, next uint16) bool {
		if this != breakpoint && uint32(next)<<16|uint32(this) != call || this != breakpoint && at&3 != 0 {
			return true
		}
		s, ok := p.SymbolAt(at)
		if ok && s.Kind != subject.FuncSymbol || ok && this == breakpoint && !s.Thumb || told[s.Name] {
			return true
		}
		told[s.Name] = true
		r.Found(p.At(at), "%s calls the debugger's monitor", orUnnamed(s.Name))
		return len(told) < mostCallers
	})
	r.Pass("no code calls the debugger's monitor")
}

// reported are names whose use is a finding.
func reported(p *subject.Program, r *Ruling, says string, name *regexp.Regexp) {
	n := 0
	for _, s := range p.Symbols {
		if s.Kind != subject.FuncSymbol || !name.MatchString(s.Name) || !p.Calls.Used(s.Name) && p.Calls.Decoded {
			continue
		}
		if n++; n <= mostCallers {
			r.Found(atSymbol(p, s), says, s.Name)
		}
	}
}

// firmware says of a program that names decide about whether there is
// something to decide, and tells the ruling if not.
func firmware(p *subject.Program, r *Ruling) bool {
	if hosted(p) {
		r.Idle("%s runs on an operating system", p.File)
		return false
	}
	if why := nameless(p); why != "" {
		r.Unknown("%s", why)
		return false
	}
	return true
}

var (
	traceNames = regexp.MustCompile(`^(ITM_SendChar|SEGGER_RTT_(Write|printf|PutChar|Init|ConfigUpBuffer)\w*|SWO_\w+|trace_printf|trace_write|ETM_\w+)$`)
	stubNames  = regexp.MustCompile(`^((z_)?gdb_?stub\w*|esp_gdbstub\w*|z_gdb_main_loop|kgdb_\w+|set_debug_traps|putDebugChar|getDebugChar|remcom\w*|gdb_(init|loop|main|packet\w*))$`)
	testNames  = regexp.MustCompile(`^(Unity(Begin|End|DefaultTestRun)|unity_run\w*|_cmocka_run_group_tests|ztest_run\w*|z_ztest_run\w*|test_hook\w*|\w+_test_hook|fuzz_\w+|LLVMFuzzerTestOneInput|factory_test\w*|backdoor\w*|debug_backdoor\w*)$`)
	shellNames = regexp.MustCompile(`^(shell_(init|start|execute_cmd|thread|backend_\w+)|finsh_\w+|esp_console_(init|run|start_repl)|FreeRTOS_CLIProcessCommand|nr_micro_shell\w*|cli_(init|process|task|run)|letter_shell\w*|shellHandler|shellTask)$`)
)

func judgeTrace(p *subject.Program, r *Ruling) {
	if !firmware(p, r) {
		return
	}
	reported(p, r, "%s writes to the debugger's trace", traceNames)
	if at, ok := constant(p, 0xe000_0000); ok && p.Arch == subject.ARM && len(r.findings) == 0 {
		if _, trace := constant(p, 0xe000_0e80); trace { // ITM_TCR
			r.Found(p.At(at), "%s has the address of the trace's port", orUnnamed(p.At(at).Symbol))
		} else if s, ok := p.SymbolAt(at); ok && s.Kind == subject.FuncSymbol && p.Attributes["CPU_arch_profile"] == "77" {
			r.FoundAs(finding.Low, finding.Guess, p.At(at), "%s has the address of the trace's port", s.Name)
		}
	}
	r.Pass("nothing is written to a debugger's trace")
}

func judgeStubs(p *subject.Program, r *Ruling) {
	if firmware(p, r) {
		reported(p, r, "%s belongs to a debugger's stub", stubNames)
		r.Pass("no function of a debugger's stub is used")
	}
}

func judgeTests(p *subject.Program, r *Ruling) {
	if firmware(p, r) {
		reported(p, r, "%s is for tests", testNames)
		r.Pass("no function for tests is used")
	}
}

func judgeShell(p *subject.Program, r *Ruling) {
	if firmware(p, r) {
		reported(p, r, "%s belongs to a command shell", shellNames)
		r.Pass("no function of a command shell is used")
	}
}

var (
	debugText   = regexp.MustCompile(`^(\x1b\[[0-9;]*m)?\s*(\[(D|DBG|DEBUG|TRACE|VERBOSE)\]|<(dbg|debug|trace)>|(DEBUG|DBG|TRACE)\s?:|D \(%|V \(%)`)
	printedText = regexp.MustCompile(`(?i)\b(pass(word|wd|phrase)|psk|pre[ _-]?shared[ _-]?key|sas[ _-]?key|secret([ _-]?key)?|session[ _-]?key|aes[ _-]?key|access[ _-]?token|api[ _-]?key)\b['"]?( is)?\s{0,2}[:=]\s{0,2}['"\[]?(0x)?%(\.\*)?[-0-9.]*l?[sxX]|\b(private|signing)[ _-]?key( is)?\s{0,2}[:=]\s{0,2}(0x)?%[-0-9.]*l?[xX]`)
)

// judgeLogTexts counts texts that begin as messages for debugging do.
func judgeLogTexts(p *subject.Program, r *Ruling) {
	if hosted(p) || !linked(p) {
		r.Idle("%s runs on an operating system", p.File)
		return
	}
	n := 0
	var first subject.Text
	for t := range p.Strings(8) {
		if debugText.MatchString(t.Value) {
			if n == 0 {
				first = t
			}
			n++
		}
	}
	if n > 0 {
		r.Fact("messages for debugging in "+subject.Base(p.File), "%d", n)
		r.Found(first.Location, "there are messages for debugging, as %.60q", first.Value)
		return
	}
	r.Pass("no text begins as a message for debugging does")
}

// secretWord reports whether bytes have a part of the words that printedText
// looks for: most have not.
func secretWord(b []byte) bool {
	for _, w := range []string{"ey", "EY", "pas", "Pas", "PAS", "psk", "PSK", "ecret", "ECRET", "oken", "OKEN"} {
		if bytes.Contains(b, []byte(w)) {
			return true
		}
	}
	return false
}

// judgePrinted looks for formats that print what they call a key or a password.
func judgePrinted(p *subject.Program, r *Ruling) {
	if !linked(p) {
		r.Idle("%s is not linked", p.File)
		return
	}
	for _, region := range p.Regions() {
		if region.Exec && hosted(p) {
			continue
		}
		from := 0 // texts of Go have no ends: look around each verb
		each(region.Data, "%", func(at int) {
			start := max(from, at-48, bytes.LastIndexByte(region.Data[:at], 0)+1)
			window := region.Data[start:min(at+8, len(region.Data))]
			if !secretWord(window) {
				return
			}
			if m := printedText.Find(window); m != nil {
				r.Found(region.At(start), "a text prints a secret: %.80q", m)
				from = at + 1
			}
		})
	}
	r.Pass("no text prints what it calls a secret")
}
