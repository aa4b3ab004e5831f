package checks

import (
	"regexp"
	"slices"
	"strings"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

// largeFrame is the size in bytes from which a function's frame counts as large
// where nothing tells of its buffers.
const largeFrame = 1024

func stackRules() []Rule {
	const (
		checking = "Enable runtime stack checking"
		avoid    = "Security measures to avoid"
	)
	return []Rule{{
		ID: "STK-CANARY-01", Measure: measure.MemoryStack, Bullets: []string{"take.memory-checking"}, Severity: finding.High, Confidence: finding.Firm,
		Title: "functions with arrays do not check a canary", Why: "An overflow then reaches the return address unnoticed.", Section: checking, CWE: []string{"CWE-121", "CWE-693"},
		Fix: "Compile with -fstack-protector-strong, and provide __stack_chk_fail and __stack_chk_guard.", Bad: "gcc -fno-stack-protector a.c", Good: "gcc -fstack-protector-strong a.c",
		Judge: eachProgram(judgeCanaries),
	}, {
		ID: "STK-GUARD-01", Measure: measure.MemoryStack, Bullets: []string{"take.memory-checking"}, Severity: finding.Medium, Confidence: finding.Firm,
		Title: "the canary is the same on each start", Why: "Who has read the image writes the canary back and goes on.", Section: checking, CWE: []string{"CWE-330", "CWE-693"},
		Fix: "Set __stack_chk_guard from the hardware's noise source, early in the start-up code.", Bad: "uintptr_t __stack_chk_guard = 0xdeadbeef;",
		Good: "uintptr_t __stack_chk_guard; void start(void) { __stack_chk_guard = trng_read(); }", Judge: eachProgram(judgeGuard),
	}, {
		ID: "STK-RTOS-01", Measure: measure.MemoryStack, Bullets: []string{"take.memory-checking"}, Severity: finding.High, Confidence: finding.Firm,
		Title: "the kernel was built without its stack checking", Why: "A thread that outgrows its stack writes into the next one's.", Section: checking, CWE: []string{"CWE-121"},
		Fix: "Build ThreadX with TX_ENABLE_STACK_CHECKING (FreeRTOS: configCHECK_FOR_STACK_OVERFLOW 2) and set a handler.", Bad: "_tx_thread_create alone",
		Good: "_tx_thread_stack_analyze is called too", Judge: eachProgram(judgeKernelStacks),
	}, {
		ID: "STK-LIMIT-01", Measure: measure.MemoryStack, Bullets: []string{"take.memory-checking"}, Severity: finding.Medium, Confidence: finding.Firm,
		Title: "the core's stack limits are not set", Why: "ARMv8-M stops a stack that outgrows its room by itself, when it is told where that ends.", Section: checking, CWE: []string{"CWE-121"},
		Fix: "Set MSPLIM in the start-up code, and build the kernel's port so that it sets PSPLIM for each thread.", Bad: "no MSR MSPLIM", Good: "__set_MSPLIM((uint32_t)&__stack_limit);",
		Judge: eachProgram(judgeLimits),
	}, {
		ID: "STK-BUF-02", Measure: measure.MemoryStack, Bullets: []string{"avoid.buffers-on-stack"}, Severity: finding.Low, Confidence: finding.Firm,
		Title: "a program has a large buffer on a stack", Why: "An overflow of it reaches the return address, and it may not fit the thread's stack.", Section: avoid, CWE: []string{"CWE-121"},
		Fix: "Make it static, or take it from a pool.", Bad: "void f(void) { char text[1024]; use(text); }", Good: "void f(void) { static char text[1024]; use(text); }",
		Judge: eachProgram(judgeFrames),
	}, {
		ID: "STK-PACKET-02", Measure: measure.MemoryStack, Bullets: []string{"avoid.packets-on-stack"}, Severity: finding.Medium, Confidence: finding.Firm,
		Title: "a program has a network packet on a thread's stack", Why: "What comes from the network is what overflows, and on a stack that reaches the return address.", Section: avoid, CWE: []string{"CWE-121"},
		Fix: "Keep packets in a packet pool or static memory.", Bad: "void f(void) { NX_PACKET packet; receive(&packet); }", Good: "void f(void) { NX_PACKET *packet; receive(&packet); }",
		Judge: eachProgram(judgePacketLocals),
	}, {
		ID: "STK-ALLOCA-02", Measure: measure.MemoryStack, Bullets: []string{"avoid.buffers-on-stack"}, Severity: finding.Medium, Confidence: finding.Firm,
		Title: "a function's frame grows at run time", Why: "Its size often comes from outside, and nothing says no.", Section: checking, CWE: []string{"CWE-770", "CWE-121"},
		Fix: "Use a static buffer of the largest size, and compile with -Wvla -Walloca.", Bad: "void f(int n) { char text[n]; use(text); }", Good: "void f(int n) { static char text[64]; use(text); }",
		Judge: eachProgram(judgeDynamicFrames),
	}, {
		ID: "STK-RECUR-01", Measure: measure.MemoryStack, Bullets: []string{"take.memory-checking"}, Severity: finding.Low, Confidence: finding.Firm,
		Title: "functions call themselves", Why: "How deep they go is often said by what comes from outside, and the stack of a thread is small.", Section: checking, CWE: []string{"CWE-674"},
		Fix: "Use a loop, or bound the depth and check it.", Bad: "int f(int n) { return n ? f(n - 1) + g(n) : 0; }", Good: "int f(int n) { int s = 0; while (n) s += g(n--); return s; }",
		Judge: eachProgram(judgeRecursion),
	}}
}

// guarded reports whether a function checks a canary.
func guarded(p *subject.Program, name string) bool {
	return slices.ContainsFunc(p.Calls.From(name), func(c subject.Call) bool {
		return strings.HasPrefix(c.To, "__stack_chk_fail") || c.To == "__stack_smash_handler"
	})
}

// exposed reports whether GCC's -fstack-protector-strong would guard a
// function: it has an array on its stack.
func exposed(f subject.Function) bool {
	return f.Size > 0 && !f.Inlined && slices.ContainsFunc(f.Locals, func(l subject.Local) bool { return l.Array && l.OnStack && !l.Parameter && l.Size > 0 })
}

func judgeCanaries(p *subject.Program, r *Ruling) {
	if checked(p) {
		r.Idle("%s is of a language that checks bounds itself", p.File)
		return
	}
	arrays, bad := 0, []subject.Function{}
	for _, f := range p.Functions {
		if unit := f.Unit; exposed(f) && unit >= 0 && unit < len(p.Units) && p.Units[unit].Language != "asm" && p.Units[unit].Language != "rust" {
			if arrays++; !guarded(p, f.Name) {
				bad = append(bad, f)
			}
		}
	}
	_, any := uses(p, "__stack_chk_fail", "__stack_chk_fail_local", "__stack_smash_handler")
	switch {
	case arrays > 0 && p.Calls.Decoded && (mute(p) != "" || p.Stripped && bare(p)):
		r.Unknown("%s is stripped: whether its functions call what checks canaries has no name", p.File)
	case arrays > 0 && p.Calls.Decoded:
		canaryShare(p, arrays, bad, r)
	case any:
		r.Pass("%s checks canaries", p.File)
	case hosted(p) && linked(p) && !p.Has("__stack_chk_guard"):
		r.FoundAs(finding.Medium, finding.Guess, finding.InFile(p.File), "no function checks a canary")
	case len(p.Functions) > 0:
		r.Idle("no function of %s has an array on its stack", p.File)
	default:
		large := slices.ContainsFunc(p.SortedStacks(), func(n string) bool { return p.Stacks[n].Bytes >= 64 })
		if large && !p.Stripped && linked(p) {
			r.FoundAs(finding.Medium, finding.Guess, finding.InFile(p.File), "no function checks a canary")
			return
		}
		r.Unknown("%s has no debug information: which functions have arrays is not known", p.File)
	}
}

// canaryShare judges by how many of the functions with arrays check.
func canaryShare(p *subject.Program, arrays int, bad []subject.Function, r *Ruling) {
	r.Fact("functions with arrays", "%d", arrays)
	r.Fact("of these without a canary", "%d", len(bad))
	if len(bad) == 0 {
		r.Pass("all %d functions with arrays on their stacks check a canary", arrays)
		return
	}
	for i, f := range bad {
		if i >= mostCallers {
			r.Found(finding.InFile(p.File), "%d more functions have arrays and check no canary", len(bad)-i)
			break
		}
		r.Found(atFunction(p, f), "%s has an array on its stack and checks no canary", f.Name)
	}
}

// atFunction is the place of a function, without its line: that is of a file
// that is not the program.
func atFunction(p *subject.Program, f subject.Function) finding.Location {
	return finding.Location{File: p.File, Offset: p.OffsetOf(f.Address), Address: int64(f.Address), Symbol: f.Name}
}

// judgeGuard looks at the canary that is a variable: what it starts as, and
// whether a function that does not only check it has its address.
func judgeGuard(p *subject.Program, r *Ruling) {
	guard, ok := p.Symbol("__stack_chk_guard")
	if !ok || guard.Undefined || guard.Kind != subject.ObjectSymbol || !linked(p) {
		r.Idle("no program has its own canary")
		return
	}
	if _, reads := uses(p, "__stack_chk_fail"); !reads {
		r.Idle("no function checks the canary")
		return
	}
	setter, known := setsGuard(p, guard)
	section, _ := p.Section(guard.Section)
	value := contents(p, guard)
	fixed := slices.ContainsFunc(value, func(b byte) bool { return b != 0 })
	switch {
	case !section.Write && value != nil:
		r.Found(atSymbol(p, guard), "the canary is a constant")
	case setter == "__stack_chk_init":
		r.FoundAs(finding.Low, finding.Guess, atSymbol(p, guard), "the C library sets the canary, to the same value on each start")
	case setter != "":
		r.Pass("%s sets the canary", setter)
	case !known:
		r.Unknown("who sets the canary of %s cannot be told", p.File)
	case fixed:
		r.Found(atSymbol(p, guard), "the canary has a value in the image and nothing sets another")
	default:
		r.Found(atSymbol(p, guard), "the canary is 0 and nothing sets it")
	}
}

// setsGuard returns a function that has the guard's address and does not check
// it: for the functions that do, the compiler put it there. It may have the
// address of a variable nearby and store at a distance from it. known says that
// the code was searched.
func setsGuard(p *subject.Program, guard subject.Symbol) (setter string, known bool) {
	const reach = 4096 // of a store's offset
	if p.Arch != subject.ARM || p.Stripped || p.Big {
		return "", false
	}
	var found []string
	low := uint32(guard.Address)
	note := func(at uint64, distance uint32) {
		s, ok := p.SymbolAt(at)
		if ok && s.Kind == subject.FuncSymbol && !guarded(p, s.Name) && (distance == 0 || storesAt(p, s, distance)) {
			found = append(found, s.Name)
		}
	}
	halfwords(p, func(at uint64, this, next uint16) bool {
		if word := uint32(next)<<16 | uint32(this); at&3 == 0 && low-word < reach {
			note(at, low-word)
		}
		if value, _, pair := movw(this, next); pair && low&0xffff-uint32(value) < reach {
			note(at, low&0xffff-uint32(value))
		}
		return len(found) < 100
	})
	if len(found) == 0 {
		return "", true
	}
	if i := slices.IndexFunc(found, func(n string) bool { return n != "__stack_chk_init" }); i >= 0 {
		return found[i], true
	}
	return found[0], true
}

// storesAt reports whether a function of Thumb stores a word at an offset from
// a register.
func storesAt(p *subject.Program, s subject.Symbol, offset uint32) bool {
	b := p.Bytes(s.Address, int(min(s.Size, 1<<16)))
	for i := 0; i+3 < len(b); i += 2 {
		this, next := uint32(b[i])|uint32(b[i+1])<<8, uint32(b[i+2])|uint32(b[i+3])<<8
		if this&0xf800 == 0x6000 && this>>6&31*4 == offset || this&0xfff0 == 0xf8c0 && next&0xfff == offset {
			return true
		}
	}
	return false
}

func judgeKernelStacks(p *subject.Program, r *Ruling) {
	if why := nameless(p); why != "" && bare(p) && linked(p) {
		r.Unknown("%s", why)
		return
	}
	_, threadX := uses(p, "_tx_thread_create", "_txe_thread_create", "_tx_initialize_kernel_enter")
	_, freeRTOS := uses(p, "vTaskStartScheduler", "xTaskCreate", "xTaskCreateStatic")
	if threadX {
		if _, checks := uses(p, "_tx_thread_stack_analyze", "_tx_thread_stack_error_handler"); !checks {
			r.Found(finding.InFile(p.File), "ThreadX was built without TX_ENABLE_STACK_CHECKING")
		} else if _, told := uses(p, "_tx_thread_stack_error_notify", "_txe_thread_stack_error_notify"); !told {
			r.FoundAs(finding.Low, finding.Firm, finding.InFile(p.File), "nobody is told when ThreadX finds a stack that overflowed")
		}
	}
	if freeRTOS {
		if _, checks := uses(p, "vApplicationStackOverflowHook"); !checks {
			r.Found(finding.InFile(p.File), "FreeRTOS was built without configCHECK_FOR_STACK_OVERFLOW")
		}
	}
	if !threadX && !freeRTOS {
		r.Idle("no program with ThreadX or FreeRTOS")
		return
	}
	r.Pass("the kernel checks the threads' stacks")
}

// judgeLimits looks for MSR MSPLIM or PSPLIM in programs for ARMv8-M Mainline;
// Baseline has the limits in the secure state alone.
func judgeLimits(p *subject.Program, r *Ruling) {
	const mainline, mainline81 = "17", "21"
	if arch := p.Attributes["CPU_arch"]; !linked(p) || arch != mainline && arch != mainline81 {
		r.Idle("no program for ARMv8-M Mainline")
		return
	}
	if bytesOfCode(p, func(first, second uint16) bool {
		return first&0xffe0 == 0xf380 && (second == 0x880a || second == 0x880b)
	}) {
		r.Pass("%s sets the core's stack limits", p.File)
		return
	}
	r.Found(finding.InFile(p.File), "no code sets MSPLIM or PSPLIM")
}

// judgeFrames goes by the locals of the debug information, and by the sizes of
// frames where there is none: of firmware only, which has small stacks.
func judgeFrames(p *subject.Program, r *Ruling) {
	if goProgram(p) {
		r.Idle("stacks of Go grow")
		return
	}
	for _, f := range p.Functions {
		for _, l := range f.Locals {
			if l.Array && l.OnStack && !l.Parameter && l.Size >= largeLocal && !packetLocal(l) && f.Size > 0 {
				at := atFunction(p, f)
				r.Found(at, "%s has %s of %d bytes on its stack", f.Name, l.Name, l.Size)
			}
		}
	}
	if len(p.Functions) > 0 {
		r.Pass("no function has a large buffer on its stack")
		return
	}
	if hosted(p) {
		r.Unknown("%s has no debug information", p.File)
		return
	}
	for _, name := range p.SortedStacks() {
		if p.Stacks[name].Bytes < largeFrame {
			break
		}
		if s, ok := p.Symbol(name); ok {
			r.FoundAs(finding.Low, finding.Guess, atSymbol(p, s), "%s takes %d bytes of stack", name, p.Stacks[name].Bytes)
		}
	}
	r.Unknown("%s has no debug information: what its functions have on their stacks is not known", p.File)
}

// packetLocal tells of locals that hold what comes from a network.
func packetLocal(l subject.Local) bool {
	return l.Array && packetName.MatchString(l.Name) && l.Size >= 16 && byteArray.MatchString(l.Type) || packetStruct.MatchString(l.Struct)
}

var (
	byteArray    = regexp.MustCompile(`(?i)^(const |volatile )*(unsigned char|char|u?int8_t|uchar|u8_t|u8|byte|ulong|uint32_t|u?int16_t)\[`)
	packetStruct = regexp.MustCompile(`^(NX_PACKET|NX_PACKET_STRUCT|pbuf|net_buf|net_pkt|sk_buff)$`)
)

func judgePacketLocals(p *subject.Program, r *Ruling) {
	if len(p.Functions) == 0 {
		if goProgram(p) || hosted(p) {
			r.Idle("%s has no debug information, and runs on an operating system", p.File)
			return
		}
		r.Unknown("%s has no debug information: what its functions have on their stacks is not known", p.File)
		return
	}
	if checked(p) {
		r.Idle("%s is of a language that checks bounds itself", p.File)
		return
	}
	for _, f := range p.Functions {
		for _, l := range f.Locals {
			if l.OnStack && !l.Parameter && f.Size > 0 && !strings.HasSuffix(l.Type, "*") && packetLocal(l) {
				r.Found(atFunction(p, f), "%s has the packet %s (%s) on its stack", f.Name, l.Name, l.Type)
			}
		}
	}
	r.Pass("no function has a packet on its stack")
}

func judgeDynamicFrames(p *subject.Program, r *Ruling) {
	if checked(p) {
		r.Idle("%s is of a language that has no such frames", p.File)
		return
	}
	takes := takesStack(p)
	for _, f := range p.Functions {
		if f.Size > 0 && !f.Inlined && (takes[f.Name] || p.Stacks[f.Name].Dynamic || slices.ContainsFunc(f.Locals, func(l subject.Local) bool { return unsized(p, l) })) {
			r.Found(atFunction(p, f), "the frame of %s grows at run time", f.Name)
		}
	}
	switch {
	case len(p.Functions) > 0:
		r.Pass("no frame grows at run time")
	default:
		r.Unknown("%s has no debug information: which frames grow is not known", p.File)
	}
}

// takesStack returns the functions whose Thumb code takes a register off the
// stack pointer, as alloca does: SUB.W SP, SP, Rm, and on cores that have no
// such instruction MOV SP, Rm of another register than the frame's (R7).
func takesStack(p *subject.Program) map[string]bool {
	all := map[string]bool{}
	if p.Arch != subject.ARM || p.Big {
		return all
	}
	small := slices.Contains([]string{"11", "12", "16"}, p.Attributes["CPU_arch"]) // v6-M, v6S-M, v8-M.baseline
	halfwords(p, func(at uint64, this, next uint16) bool {
		sub := this == 0xebad && next&0x8f00 == 0x0d00
		mov := small && this&0xff87 == 0x4685 && this>>3&15 < 7
		if sub || mov {
			if f, ok := p.FunctionAt(at); ok {
				all[f.Name] = true
			}
		}
		return true
	})
	return all
}

// unsized tells of arrays whose length nobody knew when they were compiled. A
// declaration of an array that is elsewhere has none either, and a symbol.
func unsized(p *subject.Program, l subject.Local) bool {
	return l.Array && l.Size == 0 && !l.Parameter && strings.HasSuffix(l.Type, "[]") && !p.Has(l.Name)
}

// libraryCode are functions of C libraries and compilers' run-time parts that
// call themselves, or allocate, by design.
var libraryCode = regexp.MustCompile(`^(__?[a-z0-9_]+_r|__?(sfv|sv|sn?|v)?f?i?printf\w*|_?(v|s|f|sn|vs|vf|vsn|as|vas|i)*printf(_r)?|__s(mpr|fmoreglue|wsetup|init|file|get|refill|wbuf|sprint)\w*|_dtoa\w*|_Balloc|__aeabi_\w+|__(u?div|mod|mul)\w*|_Unwind_\w*|__gnu_unwind\w*|__cxa_\w+|_?exit|abort|raise|setvbuf|setlocale|qsort(_r)?|malloc|free|calloc|realloc|__malloc\w*|__libc_\w+|_IO_\w+|__sinit|global_stdio_init\.\w+|std)$`)

func judgeRecursion(p *subject.Program, r *Ruling) {
	if hosted(p) {
		r.Idle("%s runs on an operating system that lets stacks grow", p.File)
		return
	}
	if why := nameless(p); why != "" {
		r.Unknown("%s", why)
		return
	}
	for i, group := range p.Calls.Recursive() {
		if slices.ContainsFunc(group, libraryCode.MatchString) {
			continue
		}
		if i >= mostCallers {
			break
		}
		s, _ := p.Symbol(group[0])
		if len(group) == 1 {
			r.Found(atSymbol(p, s), "%s calls itself", group[0])
		} else {
			r.Found(atSymbol(p, s), "%s call one another", few(slices.Clone(group)))
		}
	}
	r.Pass("no function calls itself, as far as calls are not through pointers")
}
