package checks_test

import (
	"strings"
	"testing"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

// canary is what -fstack-protector needs without a C library.
const canary = "u32 __stack_chk_guard; KEEP void __stack_chk_fail(void) { for (;;) sink++; }\n" +
	"KEEP void seed(void) { *(volatile u32 *)&__stack_chk_guard = *(volatile u32 *)0x50060808; }\n"

const useArray = "KEEP int parse(const u8 *from, int n) { volatile u8 text[40]; for (int i = 0; i < n; i++) text[i] = from[i]; return text[n / 2]; }\n"

func TestCanaries(t *testing.T) {
	t.Parallel()
	source := canary + useArray + "__attribute__((optimize(\"no-stack-protector\"))) void start(void) { seed(); parse((const u8 *)0x100, sink); for (;;) sink++; }\n"
	bad := withPrograms(firmwareFor(t, source, "-g"))
	good := withPrograms(firmwareFor(t, source, "-g", "-fstack-protector-strong"))
	pair(t, "STK-CANARY-01", bad, good, "BLD-CANARY-01")
	if _, found := run(t, bad, "STK-CANARY-01"); len(found) != 1 || found[0].Symbol != "parse" {
		t.Errorf("%v", found)
	}
	stripped := firmwareFor(t, source, "-g", "-fstack-protector-strong")
	stripped.Stripped, stripped.Symbols = true, nil
	stripped.Index()
	if res, _ := run(t, withPrograms(stripped), "STK-CANARY-01"); res.Verdict != measure.Unknown || !res.Applies {
		t.Errorf("stripped, with debug information: %+v", res)
	}
	plain := withPrograms(firmwareFor(t, "KEEP int add(int a) { return a + sink; }\nvoid start(void) { for (;;) add(1); }\n", "-g"))
	if res, _ := run(t, plain, "STK-CANARY-01"); res.Applies {
		t.Errorf("no function has an array: %+v", res)
	}
}

func TestGuardIsSet(t *testing.T) {
	t.Parallel()
	body := useArray + "__attribute__((optimize(\"no-stack-protector\"))) void start(void) { BOOT parse((const u8 *)0x100, sink); for (;;) sink++; }\n"
	flags := []string{"-g", "-fstack-protector-strong"}
	build := func(boot, from, to string) *subject.Subject {
		return withPrograms(firmwareFor(t, strings.Replace(canary, from, to, 1)+strings.Replace(body, "BOOT", boot, 1), flags...))
	}
	good := build("seed();", "", "")
	fixed := build("", "u32 __stack_chk_guard;", "u32 __stack_chk_guard = 0xdeadbeef;")
	// seed is compiled all the same, and used: it counts, even where start does
	// not call it. Without it nothing has the address.
	fixed.Programs[0] = firmwareFor(t, strings.Replace(canary[:strings.Index(canary, "KEEP void seed")], "guard;", "guard = 0xdeadbeef;", 1)+strings.Replace(body, "BOOT", "", 1), flags...)
	pair(t, "STK-GUARD-01", fixed, good)
	zero := withPrograms(firmwareFor(t, canary[:strings.Index(canary, "KEEP void seed")]+strings.Replace(body, "BOOT", "", 1), flags...))
	if _, found := run(t, zero, "STK-GUARD-01"); len(found) != 1 || !strings.Contains(found[0].Message, "is 0") {
		t.Errorf("%v", found)
	}
	constant := strings.Replace(canary[:strings.Index(canary, "KEEP void seed")], "u32 __stack_chk_guard;", "const u32 __stack_chk_guard = 0x1234567;", 1)
	if _, found := run(t, withPrograms(firmwareFor(t, constant+strings.Replace(body, "BOOT", "", 1), flags...)), "STK-GUARD-01"); len(found) != 1 || !strings.Contains(found[0].Message, "constant") {
		t.Errorf("%v", found)
	}
}

func TestKernelStacks(t *testing.T) {
	for _, c := range []struct {
		calls [][2]string
		want  measure.Verdict
		found int
	}{
		{[][2]string{{"main", "_tx_thread_create"}}, measure.Fail, 1},
		{[][2]string{{"main", "_tx_thread_create"}, {"_tx_thread_suspend", "_tx_thread_stack_analyze"}}, measure.Fail, 1}, // nobody is told
		{[][2]string{{"main", "_tx_thread_create"}, {"_tx_thread_suspend", "_tx_thread_stack_analyze"}, {"main", "_tx_thread_stack_error_notify"}}, measure.Pass, 0},
		{[][2]string{{"main", "vTaskStartScheduler"}}, measure.Fail, 1},
		{[][2]string{{"main", "vTaskStartScheduler"}, {"vTaskSwitchContext", "vApplicationStackOverflowHook"}}, measure.Pass, 0},
		{[][2]string{{"main", "other"}}, measure.Unknown, 0},
	} {
		if res, found := run(t, withPrograms(program(c.calls...)), "STK-RTOS-01"); res.Verdict != c.want || len(found) != c.found {
			t.Errorf("%v: %s, %v", c.calls, res.Verdict, messages(found))
		}
	}
	stripped := program([2]string{"main", "_tx_thread_create"})
	stripped.Stripped, stripped.Type = true, subject.Executable
	if res, _ := run(t, withPrograms(stripped), "STK-RTOS-01"); res.Verdict != measure.Unknown || !res.Applies {
		t.Errorf("stripped: %+v", res)
	}
}

func TestStackLimits(t *testing.T) {
	t.Parallel()
	v8 := []string{"-mcpu=cortex-m33"}
	set := "void start(void) { __asm__ volatile(\"msr msplim, %0\" :: \"r\"(0x20000000)); for (;;) sink++; }\n"
	pair(t, "STK-LIMIT-01", withPrograms(firmwareFor(t, bareMain, v8...)), withPrograms(firmwareFor(t, set, v8...)))
}

func TestFrames(t *testing.T) {
	t.Parallel()
	local := "KEEP int f(int n) { QUAL u8 text[1024]; for (int i = 0; i < n; i++) text[i] = sink; return text[n & 7]; }\nvoid start(void) { for (;;) f(sink); }\n"
	with := func(source, qualifier string) *subject.Subject {
		return withPrograms(firmwareFor(t, strings.Replace(source, "QUAL", qualifier, 1), "-g"))
	}
	pair(t, "STK-BUF-02", with(local, "volatile"), with(local, "static volatile"), "STK-CANARY-01")
	packet := "typedef struct NX_PACKET_STRUCT { struct NX_PACKET_STRUCT *next; u8 data[64]; } NX_PACKET;\nKEEP int f(int n) { QUAL NX_PACKET p; p.data[n & 7] = n; return p.data[n & 3]; }\nvoid start(void) { for (;;) f(sink); }\n"
	pair(t, "STK-PACKET-02", with(packet, "volatile"), with(packet, "static volatile"))
	buffer := "KEEP int f(int n) { QUAL u8 rx_packet[64]; rx_packet[n & 7] = n; return rx_packet[n & 3]; }\nvoid start(void) { for (;;) f(sink); }\n"
	pair(t, "STK-PACKET-02", with(buffer, "volatile"), with(buffer, "static volatile"), "STK-CANARY-01")
	grows := "KEEP int f(int n) { volatile u8 text[SIZE]; text[n & 3] = n; return text[n & 7]; }\nvoid start(void) { for (;;) f(sink); }\n"
	bad := withPrograms(firmwareFor(t, strings.Replace(grows, "SIZE", "n", 1), "-g"))
	pair(t, "STK-ALLOCA-02", bad, withPrograms(firmwareFor(t, strings.Replace(grows, "SIZE", "64", 1), "-g")), notAbout(t, bad, "STK-CANARY-01")...)
	block := "KEEP int f(int n) { volatile u8 *text = __builtin_alloca(SIZE); text[n & 3] = n; return text[n & 7]; }\nvoid start(void) { for (;;) f(sink); }\n"
	for _, core := range []string{"-mcpu=cortex-m4", "-mcpu=cortex-m0"} {
		pair(t, "STK-ALLOCA-02", withPrograms(firmwareFor(t, strings.Replace(block, "SIZE", "n", 1), "-g", core)), withPrograms(firmwareFor(t, strings.Replace(block, "SIZE", "64", 1), "-g", core)))
	}
	if res, found := run(t, withPrograms(firmwareFor(t, strings.Replace(local, "QUAL", "volatile", 1))), "STK-PACKET-02"); res.Verdict != measure.Unknown || len(found) != 0 {
		t.Errorf("without debug information: %+v", res)
	}
}

// notAbout returns "not" a rule when it does not fail on a subject: an array of
// variable length is told of as such and not as an array.
func notAbout(t *testing.T, s *subject.Subject, id string) []string {
	if res, _ := run(t, s, id); res.Verdict == measure.Fail {
		return nil
	}
	return []string{"not " + id}
}

func TestRecursion(t *testing.T) {
	t.Parallel()
	bad := "KEEP int f(int n) { int r = n ? f(n - 1) + sink : 0; sink = r; return r; }\nvoid start(void) { for (;;) f(sink); }\n"
	good := "KEEP int f(int n) { int r = n ? sink : 0; sink = r; return r; }\nvoid start(void) { for (;;) f(sink); }\n"
	pair(t, "STK-RECUR-01", withPrograms(firmwareFor(t, bad)), withPrograms(firmwareFor(t, good)))
	circle := program([2]string{"ping", "pong"}, [2]string{"pong", "ping"}, [2]string{"_malloc_r", "_malloc_r"})
	if _, found := run(t, withPrograms(circle), "STK-RECUR-01"); len(found) != 1 || found[0].Severity != finding.Low {
		t.Errorf("%v", messages(found))
	}
}
