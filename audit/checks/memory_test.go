package checks_test

import (
	"testing"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

const hello = "#include <stdio.h>\nint main(int n, char **a) { char t[64]; snprintf(t, sizeof t, \"%s %d\", a[0], n); puts(t); return 0; }\n"

// hard are the flags that leave nothing to wish for.
var hard = []string{"-fPIE", "-pie", "-Wl,-z,relro,-z,now", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-Wl,-z,noexecstack"}

func TestHardeningOfHostedPrograms(t *testing.T) {
	t.Parallel()
	good := withPrograms(hostProgram(t, hello, hard...))
	for _, c := range []struct {
		id    string
		flags []string
	}{
		{"MEM-PIE-01", []string{"-no-pie", "-fno-PIE"}},
		{"MEM-RELRO-01", []string{"-Wl,-z,norelro"}},
		{"MEM-STACK-01", []string{"-Wl,-z,execstack"}},
		{"MEM-FORTIFY-01", []string{"-U_FORTIFY_SOURCE"}},
		{"MEM-RPATH-01", []string{"-Wl,-rpath,/tmp/lib"}},
		{"STK-CANARY-01", []string{"-fno-stack-protector"}},
		{"DBG-INFO-01", []string{"-g"}},
	} {
		bad := withPrograms(hostProgram(t, hello, append(append([]string{}, hard...), c.flags...)...))
		pair(t, c.id, bad, good)
	}
	lazy := withPrograms(hostProgram(t, hello, "-Wl,-z,relro,-z,lazy"))
	if _, found := run(t, lazy, "MEM-RELRO-01"); len(found) != 1 || found[0].Severity != finding.Low {
		t.Errorf("RELRO without BIND_NOW: %v", found)
	}
}

const bareMain = "void start(void) { for (;;) sink++; }\n"

func TestSegmentsOfFirmware(t *testing.T) {
	t.Parallel()
	good := withPrograms(firmwareFor(t, bareMain))
	pair(t, "MEM-SECTION-01", withPrograms(firmwareFor(t, "__asm__(\".section .hook,\\\"awx\\\",%progbits\\n.word 0\\n.text\");"+bareMain)), good, "MEM-RWX-01")
	pair(t, "MEM-RWX-01", withPrograms(firmwareFor(t, bareMain, "-Wl,-N")), good, "MEM-SECTION-01")
	ram := "__attribute__((section(\".ram\"))) KEEP void fast(void) { sink++; }\n" + bareMain
	pair(t, "MEM-RAMCODE-01", withPrograms(firmwareFor(t, ram, "-Wl,--section-start=.ram=0x20001000")), withPrograms(firmwareFor(t, ram, "-Wl,--section-start=.ram=0x00100000")))
}

func TestMPU(t *testing.T) {
	t.Parallel()
	register := "void start(void) { *(volatile u32 *)0xe000ed94 = 5; for (;;) sink++; }\n"
	other := "void start(void) { *(volatile u32 *)0xe000ed14 = 5; for (;;) sink++; }\n"
	pair(t, "MEM-MPU-01", withPrograms(firmwareFor(t, other)), withPrograms(firmwareFor(t, register)))
	block := "struct scb { u32 a[37]; u32 mpu; }; KEEP void set(struct scb *s) { s->a[2] = 1; s->mpu = 5; }\nvoid start(void) { set((struct scb *)0xe000ed00); for (;;) sink++; }\n"
	call := "KEEP void HAL_MPU_Enable(u32 c) { sink = c; }\nvoid start(void) { HAL_MPU_Enable(4); for (;;) sink++; }\n"
	pure := []string{"-mslow-flash-data"} // numbers by MOVW and MOVT
	for _, p := range []*subject.Program{firmwareFor(t, block), firmwareFor(t, call), firmwareFor(t, register, pure...)} {
		if res, found := run(t, withPrograms(p), "MEM-MPU-01"); res.Verdict != measure.Pass {
			t.Errorf("%s (%s) %v", res.Verdict, res.Reason, found)
		}
	}
}

func TestMapsMemory(t *testing.T) {
	s := subject.New(nil)
	s.Maps = []*subject.Map{{File: "app.map", Memory: []subject.MapMemory{{Name: "RAM", Attributes: "xrw"}, {Name: "FLASH", Attributes: "xr"}}}}
	if res, found := run(t, s, "MEM-MAP-01"); len(found) != 1 || res.Applies || found[0].Severity != finding.Info {
		t.Errorf("%+v %v", res, found)
	}
	s.Maps[0].Memory[0].Attributes = "rw"
	if res, found := run(t, s, "MEM-MAP-01"); len(found) != 0 || res.Verdict != measure.Pass {
		t.Errorf("%+v %v", res, found)
	}
}

// What is not asked of a program does not fail it, nor pass it.
func TestHardeningDoesNotApply(t *testing.T) {
	t.Parallel()
	s := withPrograms(firmwareFor(t, bareMain))
	for _, id := range []string{"MEM-STACK-01", "MEM-RELRO-01", "MEM-PIE-01", "MEM-TEXTREL-01", "MEM-RPATH-01", "MEM-FORTIFY-01", "MEM-CET-01", "MEM-MODULE-01", "STK-LIMIT-01", "STK-RTOS-01"} {
		if res, found := run(t, s, id); res.Applies || len(found) != 0 {
			t.Errorf("%s: %+v %v", id, res, found)
		}
	}
}

func TestRandInMaps(t *testing.T) {
	with := func(object string) *subject.Subject {
		s := subject.New(nil)
		s.Maps = []*subject.Map{{File: "app.map", Members: []subject.MapMember{{Archive: "/lib/libc.a", Object: object, For: "main.o", Symbol: "x"}}}}
		return s
	}
	for _, bad := range []string{"rand.o", "libc_a-rand.o", "lib_a-rand.o", "srand.o", "random.o"} {
		pair(t, "ENT-MAP-01", with(bad), with("strand.o"))
	}
}

// Objects that were never linked have their variables in sections.
func TestVariablesOfObjects(t *testing.T) {
	t.Parallel()
	p := firmwareFor(t, "const u8 aes_key[16] = {0x2b,0x7e,0x15,0x16,0x28,0xae,0xd2,0xa6,0xab,0xf7,0x15,0x88,0x09,0xcf,0x4f,0x3c};\n"+bareMain, "-c")
	if res, found := run(t, withPrograms(p), "KEY-BLOB-01"); res.Verdict != measure.Fail || len(found) != 1 {
		t.Errorf("%+v %v", res, found)
	}
}
