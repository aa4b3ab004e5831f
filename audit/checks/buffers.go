package checks

import (
	"slices"
	"strings"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

func bufferRules() []Rule {
	return []Rule{{
		ID: "BUF-UNSAFE-02", Measure: measure.MemoryBuffers, Bullets: []string{"avoid.buffer-overflows", "take.check-input"}, Severity: finding.Medium, Confidence: finding.Firm,
		Title: "a program calls a function that writes without a bound", Why: "It writes as long as its input is, whatever the room is: the classic overflow.", Section: "Memory buffer checking",
		CWE: []string{"CWE-120", "CWE-676"}, Fix: "Use a function that is told the size of the room, such as snprintf or memcpy_s.", Bad: "strcpy(name, input);", Good: "snprintf(name, sizeof name, \"%s\", input);",
		Judge: eachProgram(judgeUnbounded),
	}, {
		ID: "BUF-HEAP-02", Measure: measure.MemoryBuffers, Bullets: []string{"avoid.heap"}, Severity: finding.Low, Confidence: finding.Firm,
		Title: "firmware uses dynamic memory", Why: "The heap's layout cannot be foreseen, it breaks into pieces, and its overflows reach the allocator's own pointers.", Section: "Security measures to avoid",
		CWE: []string{"CWE-122"}, Fix: "Allocate statically, or from pools of fixed blocks (tx_block_allocate).", Bad: "p = malloc(64);", Good: "static char p[64];",
		Judge: eachProgram(judgeHeap),
	}, {
		ID: "BUF-FNPTR-02", Measure: measure.MemoryBuffers, Bullets: []string{"avoid.function-pointers-in-packets"}, Severity: finding.Medium, Confidence: finding.Guess,
		Title: "a packet's structure has a function pointer beside data", Why: "An overflow of the packet's data then says what is called.", Section: "Security measures to avoid",
		CWE: []string{"CWE-822"}, Fix: "Keep the pointer outside, and look it up by a number that is checked.", Bad: "struct packet { char data[64]; void (*done)(void); };", Good: "struct packet { char data[64]; int handler; };",
		Judge: eachProgram(judgePacketStructs),
	}, {
		ID: "ALN-CORE-01", Measure: measure.AppAlignment, Severity: finding.High, Confidence: finding.Firm,
		Title: "code for unaligned access is for a core that has none", Why: "The first unaligned access is a fault.", Section: "Make sure memory access alignment is correct",
		CWE: []string{"CWE-704"}, Fix: "Compile everything with -mcpu= of the core, and with -mno-unaligned-access where it faults.", Bad: "core: cortex-m0, CPU_unaligned_access 1", Good: "core: cortex-m0, no CPU_unaligned_access",
		Judge: judgeCore,
	}}
}

func judgeUnbounded(p *subject.Program, r *Ruling) {
	if goProgram(p) && len(p.Needed) == 0 {
		r.Idle("%s is of Go alone", p.File)
		return
	}
	inside := func(caller string) bool { return libraryCode.MatchString(caller) || slices.Contains(unbounded, caller) }
	for _, name := range unbounded {
		tell(p, name, r, inside)
	}
	if why := nameless(p); why != "" && !hosted(p) {
		r.Unknown("%s", why)
		return
	}
	if why := mute(p); why != "" {
		r.Unknown("%s", why)
		return
	}
	r.Pass("no function that writes without a bound is called")
}

// judgeHeap asks firmware alone: programs of an operating system have a heap.
// What the C library takes for itself is not what the firmware takes.
func judgeHeap(p *subject.Program, r *Ruling) {
	if hosted(p) {
		r.Idle("%s runs on an operating system", p.File)
		return
	}
	if why := nameless(p); why != "" {
		r.Unknown("%s", why)
		return
	}
	inside := func(caller string) bool {
		return libraryCode.MatchString(caller) || slices.Contains(allocators, caller)
	}
	for _, name := range append(append([]string{}, allocators...), "_txe_byte_allocate", "_tx_byte_allocate", "_Znwj", "_Znaj", "_Znwm", "_Znam") {
		tell(p, name, r, inside)
	}
	r.Pass("no function of the firmware takes memory from a heap")
}

// judgePacketStructs looks for structures named like packets that hold data and
// a function pointer.
func judgePacketStructs(p *subject.Program, r *Ruling) {
	if len(p.Structs) == 0 && !p.Debug {
		if hosted(p) {
			r.Idle("%s has no debug information, and runs on an operating system", p.File)
			return
		}
		r.Unknown("%s has no debug information: its structures are not known", p.File)
		return
	}
	if checked(p) {
		r.Idle("%s is of a language that checks bounds itself", p.File)
		return
	}
	told := map[string]bool{}
	for _, s := range p.Structs {
		pointer, data := "", false
		for _, m := range s.Members {
			if m.FunctionPointer {
				pointer = m.Name
			}
			data = data || m.Array && !m.FunctionPointer
		}
		if pointer != "" && data && (packetName.MatchString(s.Name) || packetStruct.MatchString(s.Name)) && !told[s.Name] {
			told[s.Name] = true
			at := finding.InFile(p.File)
			at.Symbol = s.Name
			r.Found(at, "structure %s has data and the function pointer %s", s.Name, pointer)
		}
	}
	r.Pass("no structure of a packet has a function pointer beside data")
}

// judgeCore holds what a program was compiled for against its core: ARMv6-M
// and ARMv8-M Baseline fault on every unaligned access.
func judgeCore(s *subject.Subject, r *Ruling) {
	declared := strings.ToLower(s.Declared.Core)
	some := false
	for _, p := range s.Programs {
		arch := p.Attributes["CPU_arch"]
		if p.Arch != subject.ARM || arch == "" {
			continue
		}
		some = true
		unaligned := p.Attributes["CPU_unaligned_access"] == "1"
		strict := arch == "11" || arch == "12" || arch == "16" // v6-M, v6S-M, v8-M.baseline
		switch {
		case unaligned && strict:
			r.Found(finding.InFile(p.File), "unaligned access was compiled for a core that has none")
		case slices.Contains(noUnaligned, declared) && !strict:
			r.Found(finding.InFile(p.File), "the program was compiled for a larger core than %s, which faults on unaligned access", declared)
		default:
			r.Pass("%s is compiled for what its core has", p.File)
		}
	}
	if !some {
		r.Idle("no program says for which core of ARM it was compiled")
	}
}
