package checks_test

import (
	"testing"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/mcuboot"
	"holdfast/measure"
)

func TestSemihosting(t *testing.T) {
	t.Parallel()
	call := "KEEP void say(const char *s) { __asm__ volatile(\"mov r0, #4\\nmov r1, %0\\nbkpt 0xOP\" :: \"r\"(s) : \"r0\", \"r1\"); }\nvoid start(void) { for (;;) say(\"x\"); }\n"
	with := func(code string) *subject.Subject {
		return withPrograms(firmwareFor(t, replace(call, "OP", code)))
	}
	pair(t, "DBG-SEMI-01", with("ab"), with("01"))
}

func TestTrace(t *testing.T) {
	t.Parallel()
	for id, names := range map[string][2]string{
		"DBG-TRACE-01": {"ITM_SendChar", "log_send"}, "DBG-STUB-01": {"gdb_stub_init", "net_init"},
		"DBG-TEST-01": {"UnityBegin", "unit_begin"}, "DBG-SHELL-01": {"shell_init", "hotshell_size"},
	} {
		pair(t, id, withPrograms(program([2]string{"main", names[0]})), withPrograms(program([2]string{"main", names[1]})))
	}
	port := "void start(void) { if (*(volatile u32 *)0xe0000e80 & 1) *(volatile u8 *)0xe0000000 = 'x'; for (;;) sink++; }\n"
	if _, found := run(t, withPrograms(firmwareFor(t, port)), "DBG-TRACE-01"); len(found) != 1 {
		t.Errorf("%v", messages(found))
	}
}

func TestTexts(t *testing.T) {
	with := func(s string) *subject.Subject { return holds(variable{"message", []byte(s + "\x00")}) }
	plain := with("joined the network")
	pair(t, "DBG-LOG-01", with("[DEBUG] state %d"), plain)
	pair(t, "DBG-PRINT-01", with("wifi password: %s"), plain)
	for _, harmless := range []string{"enter password", "Trying private key: %s", "key %d of %d", "password is %d characters long", "monkey=%s"} {
		if res, found := run(t, with(harmless), "DBG-PRINT-01"); res.Verdict != measure.Pass {
			t.Errorf("%q: %v", harmless, messages(found))
		}
	}
	if res, _ := run(t, with("aes key: %02x%02x"), "DBG-PRINT-01"); res.Verdict != measure.Fail {
		t.Errorf("%+v", res)
	}
}

func TestWatchdogs(t *testing.T) {
	t.Parallel()
	none := withPrograms(firmwareFor(t, bareMain))
	named := withPrograms(firmwareFor(t, "KEEP void HAL_IWDG_Init(int c) { sink = c; }\nKEEP void HAL_IWDG_Refresh(int c) { sink = c; }\nvoid start(void) { HAL_IWDG_Init(1); for (;;) HAL_IWDG_Refresh(1); }\n"))
	byHand := withPrograms(firmwareFor(t, "void start(void) { volatile u32 *k = (volatile u32 *)0x40003000; *k = 0xcccc; for (;;) *k = 0xaaaa; }\n"))
	pair(t, "WDG-ARM-01", none, named)
	pair(t, "WDG-ARM-01", none, byHand)
	unfed := withPrograms(firmwareFor(t, "void start(void) { volatile u32 *k = (volatile u32 *)0x40003000; *k = 0xcccc; for (;;) sink++; }\n"))
	pair(t, "WDG-FEED-01", unfed, byHand)
	tick := program([2]string{"main", "wdt_enable"}, [2]string{"SysTick_Handler", "wdt_feed"})
	thread := program([2]string{"main", "wdt_enable"}, [2]string{"monitor", "wdt_feed"})
	tick.Type, thread.Type = subject.Executable, subject.Executable
	pair(t, "WDG-FEED-01", withPrograms(tick), withPrograms(thread))
	if res, _ := run(t, none, "WDG-FEED-01"); res.Applies {
		t.Errorf("%+v", res)
	}
	stripped := withPrograms(firmwareFor(t, bareMain, "-s"))
	if res, _ := run(t, stripped, "WDG-ARM-01"); res.Verdict != measure.Unknown || !res.Applies {
		t.Errorf("stripped: %+v", res)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	with := func(s, declared string) *subject.Subject {
		out := holds(variable{"version", []byte(s + "\x00")})
		out.Declared.Version = declared
		return out
	}
	pair(t, "VER-TEXT-01", with("pump 1.2.2", "1.2.3"), with("pump 1.2.3", "1.2.3"))
	if res, _ := run(t, with("v1.2.3", ""), "VER-TEXT-01"); res.Verdict != measure.Pass {
		t.Errorf("%+v", res)
	}
	if res, _ := run(t, with("a pump", ""), "VER-TEXT-01"); res.Verdict != measure.Unknown || !res.Applies {
		t.Errorf("%+v", res)
	}
	id, none := withPrograms(firmwareFor(t, bareMain, "-Wl,--build-id")), withPrograms(firmwareFor(t, bareMain, "-Wl,--build-id=none"))
	if res, found := run(t, id, "VER-BUILD-01"); res.Verdict != measure.Pass || len(found) != 0 {
		t.Errorf("%+v", res)
	}
	if res, found := run(t, none, "VER-BUILD-01"); res.Applies || len(found) != 1 || found[0].Severity != finding.Info {
		t.Errorf("%+v %v", res, found)
	}
}

func TestSignedImages(t *testing.T) {
	image := func(counter uint32, sign bool) *subject.Subject {
		b, err := mcuboot.Build([]byte("payload of the test, long enough"), mcuboot.Version{Major: 1}, counter, ecKey(t))
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := mcuboot.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if !sign {
			b = b[:len(b)-60] // into the signature, which is last
		}
		s := subject.New(nil)
		s.Images = []*subject.Image{{File: "app.bin", Format: subject.MCUboot, MCUboot: parsed, Chunks: []subject.Chunk{{Data: b}}}}
		return s
	}
	pair(t, "VER-SIGN-01", image(4, false), image(4, true))
	pair(t, "VER-COUNTER-01", image(0, true), image(4, true))
	other := subject.New(nil)
	other.Images = []*subject.Image{{File: "app.bin", Format: subject.Binary, Chunks: []subject.Chunk{{Data: make([]byte, 100)}}}}
	if res, _ := run(t, other, "VER-SIGN-01"); res.Verdict != measure.Unknown || !res.Applies {
		t.Errorf("%+v", res)
	}
}
