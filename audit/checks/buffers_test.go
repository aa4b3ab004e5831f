package checks_test

import (
	"testing"

	"holdfast/audit/subject"
	"holdfast/measure"
)

func TestUnboundedInPrograms(t *testing.T) {
	pair(t, "BUF-UNSAFE-02", withPrograms(program([2]string{"main", "strcpy"})), withPrograms(program([2]string{"main", "strncpy"})))
	if _, found := run(t, withPrograms(program([2]string{"main", "strcpy"}, [2]string{"main", "strcpy"}, [2]string{"other", "strcpy"}, [2]string{"strcat", "stpcpy"})), "BUF-UNSAFE-02"); len(found) != 2 {
		t.Errorf("%v", messages(found))
	}
	var many [][2]string
	for i := range 80 {
		many = append(many, [2]string{"f" + string(rune('A'+i)), "strcpy"})
	}
	if _, found := run(t, withPrograms(program(many...)), "BUF-UNSAFE-02"); len(found) != 51 {
		t.Errorf("%d findings", len(found))
	}
}

func TestHeapInPrograms(t *testing.T) {
	pair(t, "BUF-HEAP-02", withPrograms(program([2]string{"main", "malloc"})), withPrograms(program([2]string{"main", "_tx_block_allocate"})))
	inside := program([2]string{"_vfprintf_r", "_malloc_r"}, [2]string{"setvbuf", "malloc"})
	if res, found := run(t, withPrograms(inside), "BUF-HEAP-02"); res.Verdict != measure.Pass {
		t.Errorf("%s %v", res.Verdict, messages(found))
	}
}

func TestPacketStructures(t *testing.T) {
	t.Parallel()
	build := func(member string) *subject.Subject {
		return withPrograms(firmwareFor(t, "struct rx_packet { u8 data[64]; "+member+"; };\nstruct rx_packet packets[4];\nvoid start(void) { for (;;) sink += packets[sink & 3].data[0]; }\n", "-g"))
	}
	pair(t, "BUF-FNPTR-02", build("void (*done)(int)"), build("int done"))
	if res, _ := run(t, withPrograms(firmwareFor(t, bareMain)), "BUF-FNPTR-02"); res.Verdict != measure.Unknown {
		t.Errorf("%+v", res)
	}
}

func TestCore(t *testing.T) {
	t.Parallel()
	m0 := []string{"-mcpu=cortex-m0", "-mno-unaligned-access"}
	good := withPrograms(firmwareFor(t, bareMain, m0...))
	wrong := withPrograms(firmwareFor(t, bareMain))
	good.Declared.Core, wrong.Declared.Core = "cortex-m0", "cortex-m0"
	pair(t, "ALN-CORE-01", wrong, good)
	wrong.Declared.Core = "cortex-m4"
	if res, _ := run(t, wrong, "ALN-CORE-01"); res.Verdict != measure.Pass {
		t.Errorf("%+v", res)
	}
	lies := program([2]string{"main", "f"})
	lies.Attributes = map[string]string{"CPU_arch": "11", "CPU_unaligned_access": "1"}
	if res, _ := run(t, withPrograms(lies), "ALN-CORE-01"); res.Verdict != measure.Fail {
		t.Errorf("%+v", res)
	}
}
