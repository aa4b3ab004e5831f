package checks

import (
	"slices"
	"strings"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

func memoryRules() []Rule {
	const (
		execution = "Protection against execution from RAM"
		features  = "Use all possible compiler and linker security features"
		isolation = "Application memory isolation"
	)
	return []Rule{{
		ID: "MEM-RWX-01", Measure: measure.MemoryNoExecRAM, Bullets: []string{"take.memory-protection-unit"}, Severity: finding.Medium, Confidence: finding.Certain,
		Title: "a segment is writable and executable", Why: "What an attacker writes there can be run.", Section: execution, CWE: []string{"CWE-119", "CWE-1188"},
		Fix: "Give code and data segments of their own in the linker script (PHDRS), and do not silence the linker's warning of RWX segments.",
		Bad: "LOAD RWE", Good: "LOAD R E and LOAD RW", Judge: eachProgram(judgeSegments),
	}, {
		ID: "MEM-SECTION-01", Measure: measure.MemoryNoExecRAM, Bullets: []string{"take.memory-protection-unit"}, Severity: finding.Medium, Confidence: finding.Certain,
		Title: "a section is writable and executable", Why: "What an attacker writes there can be run.", Section: execution, CWE: []string{"CWE-119"},
		Fix: "Keep code that has to run from RAM in a section of its own, and make it read-only by the MPU once it is copied.",
		Bad: `.section .hook,"awx"`, Good: `.section .hook,"ax"`, Judge: eachProgram(judgeSections),
	}, {
		ID: "MEM-STACK-01", Measure: measure.MemoryNoExecRAM, Bullets: []string{"take.memory-protection-unit"}, Severity: finding.High, Confidence: finding.Certain,
		Title: "the stack is executable", Why: "An overflow then brings its own code.", Section: execution, CWE: []string{"CWE-121", "CWE-119"},
		Fix: "Link with -z noexecstack; assembler files need a .note.GNU-stack section, and nested functions must go.",
		Bad: "gcc -z execstack a.c", Good: "gcc -z noexecstack a.c", Judge: eachProgram(judgeStackSegment),
	}, {
		ID: "MEM-RAMCODE-01", Measure: measure.MemoryNoExecRAM, Bullets: []string{"take.memory-protection-unit"}, Severity: finding.Low, Confidence: finding.Firm,
		Title: "code runs from RAM", Why: "RAM that may hold code cannot be closed to code as a whole.", Section: execution, CWE: []string{"CWE-119"},
		Fix: "Run code from flash; where that cannot be (flash drivers), write-protect that part of RAM by the MPU.",
		Bad: `__attribute__((section(".ramfunc"))) void f(void)`, Good: "void f(void)", Judge: eachProgram(judgeRAMCode),
	}, {
		ID: "MEM-RELRO-01", Measure: measure.AppCompiler, Bullets: []string{"avoid.buffer-overflows"}, Severity: finding.Medium, Confidence: finding.Certain,
		Title: "the tables of the loader stay writable", Why: "They say where functions are: whoever writes there is called.", Section: features, CWE: []string{"CWE-123", "CWE-693"},
		Fix: "Link with -z relro -z now.", Bad: "gcc -Wl,-z,norelro a.c", Good: "gcc -Wl,-z,relro,-z,now a.c", Judge: eachProgram(judgeRELRO),
	}, {
		ID: "MEM-PIE-01", Measure: measure.AppCompiler, Bullets: []string{"avoid.buffer-overflows"}, Severity: finding.Medium, Confidence: finding.Certain,
		Title: "a program is always at the same addresses", Why: "An attack needs no leak to know where everything is.", Section: features, CWE: []string{"CWE-693"},
		Fix: "Compile with -fPIE and link with -pie.", Bad: "gcc -no-pie a.c", Good: "gcc -pie -fPIE a.c", Judge: eachProgram(judgePIE),
	}, {
		ID: "MEM-TEXTREL-01", Measure: measure.AppCompiler, Bullets: []string{"avoid.buffer-overflows"}, Severity: finding.Medium, Confidence: finding.Certain,
		Title: "the loader writes into code", Why: "Code has to be writable for it.", Section: features, CWE: []string{"CWE-693"},
		Fix: "Compile everything with -fPIC or -fPIE.", Bad: "gcc -shared -fno-pic a.c", Good: "gcc -shared -fPIC a.c",
		Judge: eachProgram(func(p *subject.Program, r *Ruling) {
			switch {
			case p.Dynamic.TextRel:
				r.Found(finding.InFile(p.File), "relocations write into code")
			case p.Dynamic.Present:
				r.Pass("no relocation writes into code")
			default:
				r.Idle("no program has a loader")
			}
		}),
	}, {
		ID: "MEM-RPATH-01", Measure: measure.AppCompiler, Bullets: []string{"avoid.unneeded-features"}, Severity: finding.Medium, Confidence: finding.Firm,
		Title: "libraries are looked for in a place that others may write to", Why: "Whoever writes there has code in the program.", Section: features, CWE: []string{"CWE-426", "CWE-427"},
		Fix: "Link without -rpath, or with one below a directory that only root writes to.", Bad: "gcc -Wl,-rpath,/tmp/lib a.c", Good: "gcc a.c", Judge: eachProgram(judgeRPath),
	}, {
		ID: "MEM-FORTIFY-01", Measure: measure.AppCompiler, Bullets: []string{"avoid.buffer-overflows", "take.check-input"}, Severity: finding.Low, Confidence: finding.Guess,
		Title: "no function of the C library is fortified", Why: "The C library can check the sizes of what it writes, where the compiler knows them.", Section: features, CWE: []string{"CWE-120"},
		Fix: "Compile with -O2 -D_FORTIFY_SOURCE=3.", Bad: "gcc -O2 -U_FORTIFY_SOURCE a.c", Good: "gcc -O2 -D_FORTIFY_SOURCE=3 a.c", Judge: eachProgram(judgeFortified),
	}, {
		ID: "MEM-CET-01", Measure: measure.AppCompiler, Bullets: []string{"avoid.buffer-overflows"}, Severity: finding.Info, Confidence: finding.Certain,
		Title: "branches are not guarded by the processor", Why: "Marks at the targets of calls keep an attack from jumping where it likes.", Section: features, CWE: []string{"CWE-693"},
		Fix: "Compile everything with -fcf-protection (x86) or -mbranch-protection=standard (AArch64).", Bad: "gcc -fcf-protection=none a.c", Good: "gcc -fcf-protection a.c", Judge: eachProgram(judgeBranches),
	}, {
		ID: "MEM-MPU-01", Measure: measure.MemoryIsolation, Bullets: []string{"take.memory-protection-unit"}, Severity: finding.Medium, Confidence: finding.Guess,
		Title: "nothing sets up the memory protection unit", Why: "Without it all of RAM may be run and each thread writes where it likes.", Section: isolation, CWE: []string{"CWE-653", "CWE-1260"},
		Fix: "Set up the MPU early: RAM not executable, flash read-only, and use ThreadX Modules or a kernel's own isolation for what faces the network.",
		Bad: "int main(void) { tx_kernel_enter(); }", Good: "int main(void) { ARM_MPU_Enable(MPU_CTRL_PRIVDEFENA_Msk); tx_kernel_enter(); }", Judge: eachProgram(judgeMPU),
	}, {
		ID: "MEM-MODULE-01", Measure: measure.MemoryIsolation, Bullets: []string{"take.memory-protection-unit"}, Severity: finding.Info, Confidence: finding.Firm,
		Title: "ThreadX Modules are not used", Why: "Threads of one image may write into each other's memory.", Section: isolation, CWE: []string{"CWE-653"},
		Fix: "Put what faces the network into a module with memory protection.", Bad: "tx_thread_create(...)", Good: "txm_module_manager_start(...)", Judge: eachProgram(judgeModules),
	}, {
		ID: "MEM-MAP-01", Measure: measure.MemoryNoExecRAM, Bullets: []string{"take.memory-protection-unit"}, Severity: finding.Info, Confidence: finding.Guess,
		Title: "the linker script makes RAM executable", Why: "Code may be put there and nobody is told.", Section: execution, CWE: []string{"CWE-119"},
		Fix: "Write RAM (rw) in the MEMORY command.", Bad: "RAM (xrw) : ORIGIN = 0x20000000, LENGTH = 128K", Good: "RAM (rw) : ORIGIN = 0x20000000, LENGTH = 128K", Judge: judgeMapMemory,
	}}
}

func judgeSegments(p *subject.Program, r *Ruling) {
	some := false
	for _, s := range p.Segments {
		if s.Type != "LOAD" || s.MemorySize == 0 {
			continue
		}
		if some = true; s.Write && s.Exec {
			at := finding.InFile(p.File)
			at.Offset, at.Address = int64(s.Offset), int64(s.Address)
			r.Found(at, "a loadable segment is writable and executable")
		}
	}
	if !some {
		r.Idle("%s has no loadable segments", p.File)
		return
	}
	r.Pass("no loadable segment is writable and executable")
}

func judgeSections(p *subject.Program, r *Ruling) {
	some := false
	for _, s := range p.Sections {
		if !s.Alloc || s.Size == 0 {
			continue
		}
		if some = true; s.Write && s.Exec {
			at := finding.InFile(p.File)
			at.Offset, at.Address = int64(s.Offset), int64(s.Address)
			r.Found(at, "section %s is writable and executable", s.Name)
		}
	}
	if !some {
		r.Unknown("%s has no table of sections", p.File)
		return
	}
	r.Pass("no section is writable and executable")
}

// judgeStackSegment reads GNU_STACK, which loaders heed: nobody does on bare
// metal. Go's linker and the kernel agree on a stack without code when it is
// missing only on some machines.
func judgeStackSegment(p *subject.Program, r *Ruling) {
	if !linked(p) || bare(p) {
		r.Idle("no program asks a loader for its stack")
		return
	}
	i := slices.IndexFunc(p.Segments, func(s subject.Segment) bool { return s.Type == "GNU_STACK" })
	switch {
	case i >= 0 && p.Segments[i].Exec:
		r.Found(finding.InFile(p.File), "the stack is asked for as executable")
	case i >= 0:
		r.Pass("the stack is asked for as not executable")
	case strings.Contains(p.Interp, "ld-linux") && (p.Arch == subject.X86 || p.Arch == subject.X8664 || p.Arch == subject.ARM):
		r.FoundAs(finding.Medium, finding.Firm, finding.InFile(p.File), "nothing is said of the stack, so that it is executable")
	default:
		r.Unknown("%s says nothing of the stack", p.File)
	}
}

// judgeRAMCode asks Cortex-M programs alone, whose map of memory is fixed: RAM
// is from 0x20000000 to 0x3fffffff, and from 0x60000000 to 0x9fffffff when it
// is outside of the chip.
func judgeRAMCode(p *subject.Program, r *Ruling) {
	const microcontroller = "77" // 'M'
	if !linked(p) || p.Attributes["CPU_arch_profile"] != microcontroller {
		r.Idle("no program of a processor whose RAM is known")
		return
	}
	if len(p.Sections) == 0 {
		r.Unknown("%s has no table of sections", p.File)
		return
	}
	for _, s := range p.Sections {
		if s.Alloc && s.Exec && s.Size > 0 && s.Address >= 0x2000_0000 && s.Address < 0x4000_0000 {
			at := finding.InFile(p.File)
			at.Offset, at.Address = int64(s.Offset), int64(s.Address)
			r.Found(at, "section %s holds code in RAM", s.Name)
		}
	}
	for _, s := range p.Symbols {
		in, ok := p.Section(s.Section)
		if ok && s.Kind == subject.FuncSymbol && !in.Exec && s.Address >= 0x2000_0000 && s.Address < 0x4000_0000 {
			r.Found(atSymbol(p, s), "%s runs from RAM, in section %s", s.Name, s.Section)
		}
	}
	r.Pass("no code is in RAM")
}

func judgeRELRO(p *subject.Program, r *Ruling) {
	if !linked(p) || !p.Dynamic.Present || goProgram(p) && len(p.Needed) == 0 {
		r.Idle("no program has a loader with such tables")
		return
	}
	relro := slices.ContainsFunc(p.Segments, func(s subject.Segment) bool { return s.Type == "GNU_RELRO" })
	switch {
	case !relro:
		r.Found(finding.InFile(p.File), "the tables of the loader stay writable: no RELRO")
	case !p.Dynamic.Now:
		r.FoundAs(finding.Low, finding.Certain, finding.InFile(p.File), "the table of functions stays writable: RELRO without BIND_NOW")
	default:
		r.Pass("RELRO and BIND_NOW are set")
	}
}

func judgePIE(p *subject.Program, r *Ruling) {
	switch {
	case !linked(p) || bare(p):
		r.Idle("no program that a loader may move")
	case p.Type == subject.Shared:
		r.Pass("%s is position independent", p.File)
	case goProgram(p):
		r.FoundAs(finding.Info, finding.Certain, finding.InFile(p.File), "the program of Go is not position independent")
		r.Pass("%s is of Go: its stacks and arrays are checked, so that less hangs on where they are", p.File)
	default:
		r.Found(finding.InFile(p.File), "the program is not position independent")
	}
}

// owned are directories that only root writes to.
var owned = []string{"/usr/", "/lib/", "/lib64/", "/opt/", "/nix/store/", "/gnu/store/", "$ORIGIN"}

func judgeRPath(p *subject.Program, r *Ruling) {
	if !p.Dynamic.Present {
		r.Idle("no program has a loader")
		return
	}
	for _, path := range p.Dynamic.RPath {
		for dir := range strings.SplitSeq(path, ":") {
			if !slices.ContainsFunc(owned, func(o string) bool { return strings.HasPrefix(dir+"/", o) }) {
				r.Found(finding.InFile(p.File), "libraries are looked for in %q", dir)
			}
		}
	}
	r.Pass("libraries are looked for where only root writes")
}

// fortifiable are functions of the C library that have a checked form.
var fortifiable = []string{"memcpy", "memmove", "memset", "mempcpy", "strcpy", "stpcpy", "strncpy", "strcat", "strncat", "sprintf", "snprintf", "vsprintf", "vsnprintf",
	"printf", "fprintf", "vprintf", "vfprintf", "gets", "fgets", "fread", "read", "pread", "recv", "recvfrom", "getcwd", "realpath", "readlink", "asprintf", "vasprintf", "syslog"}

// judgeFortified asks only programs that are linked against a C library that
// has the checked forms. memcpy and its like are often not replaced, because
// the compiler saw that they fit: with them alone nothing can be said.
func judgeFortified(p *subject.Program, r *Ruling) {
	if !linked(p) || len(p.Needed) == 0 || checked(p) || !slices.ContainsFunc(p.Needed, func(n string) bool { return strings.HasPrefix(n, "libc.so.6") }) {
		r.Idle("no program of C is linked against a library that has the checked forms")
		return
	}
	var plain, safe []string
	for _, name := range fortifiable {
		if s, ok := p.Symbol("__" + name + "_chk"); ok && s.Undefined {
			safe = append(safe, name)
		} else if s, ok := p.Symbol(name); ok && s.Undefined {
			plain = append(plain, name)
		}
	}
	telling := slices.ContainsFunc(plain, func(n string) bool { return strings.Contains(n, "printf") || n == "syslog" })
	switch {
	case len(safe) > 0:
		r.Pass("%d functions are called in their checked form", len(safe))
	case telling:
		r.Found(finding.InFile(p.File), "no function is called in its checked form: %s are not", few(plain))
	case len(plain) > 0:
		r.Unknown("%s calls %s, which the compiler may have seen to fit", p.File, few(plain))
	default:
		r.Idle("no function that has a checked form is called")
	}
}

func judgeBranches(p *subject.Program, r *Ruling) {
	want := map[subject.Arch][]string{subject.X86: {"IBT", "SHSTK"}, subject.X8664: {"IBT", "SHSTK"}, subject.AArch64: {"BTI", "PAC"}}[p.Arch]
	if !linked(p) || len(want) == 0 || goProgram(p) {
		r.Idle("no program of a processor that guards branches")
		return
	}
	var missing []string
	for _, w := range want {
		if !slices.Contains(p.Properties, w) {
			missing = append(missing, w)
		}
	}
	if len(missing) == 0 {
		r.Pass("%s guards branches with %s", p.File, strings.Join(want, " and "))
		return
	}
	r.Found(finding.InFile(p.File), "branches are not guarded by %s", strings.Join(missing, " and "))
	r.Idle("the processor does not guard branches; that is not asked of every product")
}

// mpuSetup are functions that set up memory protection, of vendors and kernels.
var mpuSetup = []string{"HAL_MPU_Enable", "HAL_MPU_ConfigRegion", "ARM_MPU_Enable", "ARM_MPU_SetRegion", "ARM_MPU_Load", "LL_MPU_Enable", "_txm_module_manager_mm_initialize",
	"_txm_module_manager_mm_register_setup", "_txm_module_manager_region_register", "vSetupMPU", "prvSetupMPU", "xPortMPUInit", "vPortStoreTaskMPUSettings", "z_arm_mpu_init",
	"arm_core_mpu_enable", "z_riscv_pmp_init", "MPU_Init", "BOARD_ConfigMPU", "nx_mpu_config", "mpu_hal_init", "tfm_hal_set_up_static_boundaries", "rt_hw_mpu_init"}

// judgeMPU looks for the set-up of the MPU: by known names, or by code that
// has the address of its registers (ARMv7-M and ARMv8-M: 0xe000ed90 on).
func judgeMPU(p *subject.Program, r *Ruling) {
	const microcontroller = "77"
	if !linked(p) || p.Arch != subject.ARM || p.Attributes["CPU_arch_profile"] != microcontroller {
		r.Idle("no program of a processor whose memory protection is known")
		return
	}
	if s, ok := uses(p, mpuSetup...); ok {
		r.Pass("%s calls %s", p.File, s.Name)
		return
	}
	for register := uint32(0xe000_ed90); register <= 0xe000_edb8; register += 4 {
		if at, ok := constant(p, register); ok {
			r.Pass("%s has the address of the unit's registers", p.At(at))
			return
		}
	}
	for base, offset := range map[uint32]uint16{0xe000_ed00: 0x94, 0xe000_e000: 0xd94} {
		if _, ok := constant(p, base); ok && bytesOfCode(p, func(first, second uint16) bool {
			return first&0xfff0 == 0xf8c0 && second&0x0fff == offset // STR.W
		}) {
			r.Pass("%s writes the unit's control register", p.File)
			return
		}
	}
	r.Found(finding.InFile(p.File), "no code sets up the memory protection unit")
}

func judgeModules(p *subject.Program, r *Ruling) {
	if _, threadX := uses(p, "_tx_thread_create", "_txe_thread_create", "_tx_initialize_kernel_enter"); !threadX {
		r.Idle("no program with ThreadX")
		return
	}
	if s, ok := uses(p, "_txm_module_manager_initialize", "_txm_module_manager_start", "txm_module_manager_start"); ok {
		r.Pass("%s uses %s", p.File, s.Name)
		return
	}
	r.Found(finding.InFile(p.File), "ThreadX Modules are not used")
	r.Idle("ThreadX Modules are not used; that is not asked of every product")
}

func judgeMapMemory(s *subject.Subject, r *Ruling) {
	some := false
	for _, m := range s.Maps {
		for _, region := range m.Memory {
			if some = true; strings.ContainsAny(region.Attributes, "wW") && strings.ContainsAny(region.Attributes, "xX") {
				at := finding.InFile(m.File)
				at.Symbol = region.Name
				r.Found(at, "the region %s is both writable and executable (%s)", region.Name, region.Attributes)
			}
		}
	}
	if !some {
		r.Idle("no map with regions of memory")
		return
	}
	if len(r.findings) == 0 {
		r.Pass("no region of memory is both writable and executable")
		return
	}
	r.Idle("the linker script does not decide what the device runs: the segments do")
}
