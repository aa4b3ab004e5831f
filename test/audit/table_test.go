package audit_test

import (
	"slices"
	"sync"
	"testing"
)

// choices are made once: they have keys and certificates in them.
var choices struct {
	once sync.Once
	all  []pair
}

// pairs are the choices.
func pairs(t testing.TB) []pair {
	t.Helper()
	choices.once.Do(func() { choices.all = allPairs(t) })
	return choices.all
}

func allPairs(t testing.TB) []pair {
	return slices.Concat(firmwarePairs(), hostPairs(), commandPairs(), sourcePairs(), configPairs(t),
		keyPairs(t), certificatePairs(t), algorithmPairs(), tlsPairs(), networkPairs(), imagePairs(t))
}

// firmwarePairs differ in a macro that the application is compiled with, a
// flag, or a literal of the linker script.
func firmwarePairs() []pair {
	one := func(rule string, bad delta, ends ...string) pair {
		return pair{on: "m4", rules: []string{rule}, bad: bad, ends: ends}
	}
	return []pair{
		one("ENT-RAND-01", with("-DCALL_RAND")),
		one("ENT-RAND-01", with("-DCALL_SRAND")),
		one("BUF-UNSAFE-02", with("-DCALL_STRCPY")),
		one("BUF-HEAP-02", with("-DCALL_MALLOC")),
		one("BUF-FNPTR-02", with("-DPOINTER_IN_PACKET")),
		one("STK-CANARY-01", with("-DUNGUARDED")),
		one("STK-GUARD-01", with("-DFIXED_GUARD")),
		one("STK-RTOS-01", with("-DWITHOUT_STACK_CHECKING")),
		one("STK-BUF-02", with("-DLARGE_LOCAL")),
		one("STK-PACKET-02", with("-DPACKET_LOCAL")),
		one("STK-ALLOCA-02", with("-DVARIABLE_ARRAY")),
		one("STK-RECUR-01", with("-DCALL_ITSELF")),
		one("MEM-RWX-01", change("firmware.ld", "data PT_LOAD FLAGS(6)", "data PT_LOAD FLAGS(7)")),
		one("MEM-SECTION-01", with("-DSECTION_OF_BOTH")),
		one("MEM-RAMCODE-01", with("-DCODE_IN_RAM")),
		one("MEM-MPU-01", with("-DWITHOUT_MPU")),
		one("MEM-MODULE-01", with("-DWITHOUT_MODULES")),
		one("MEM-MAP-01", change("firmware.ld", "RAM (rw)", "RAM (xrw)")),
		one("DBG-SEMI-01", with("-DSEMIHOSTING")),
		one("DBG-TRACE-01", with("-DTRACE")),
		one("DBG-STUB-01", with("-DGDB_STUB")),
		one("DBG-TEST-01", with("-DTEST_CODE")),
		one("DBG-SHELL-01", with("-DSHELL")),
		one("DBG-LOG-01", with("-DDEBUG_MESSAGES")),
		one("DBG-PRINT-01", with("-DPRINT_SECRET")),
		one("WDG-ARM-01", with("-DWITHOUT_WATCHDOG"), "WDG-FEED-01"),
		one("WDG-FEED-01", with("-DFEED_FROM_INTERRUPT")),
		one("VER-BUILD-01", with("-Wl,--build-id=none")),
		one("VER-TEXT-01", change("app.c", "pump 1.4.2", "pump 1.4.1")),
		{on: "map", rules: []string{"ENT-MAP-01"}, bad: with("-DCALL_RAND")},
		{on: "go", rules: []string{"GO-BOUNDS-01"}, bad: with("-gcflags=-B")},
		{on: "m33", rules: []string{"STK-LIMIT-01"}, bad: with("-DWITHOUT_STACK_LIMIT")},
		{on: "m0", rules: []string{"ALN-CORE-01"}, bad: delta{drop: []string{"-mcpu=cortex-m0"}, flags: []string{"-mcpu=cortex-m4"}}},
	}
}

// hostPairs are of a program of an operating system.
func hostPairs() []pair {
	one := func(rule string, bad delta, ends ...string) pair {
		return pair{on: "host", rules: []string{rule}, bad: bad, ends: ends}
	}
	return []pair{
		one("MEM-STACK-01", with("-Wl,-z,execstack")),
		one("MEM-RELRO-01", with("-Wl,-z,norelro")),
		one("MEM-RELRO-01", with("-Wl,-z,lazy")),
		one("MEM-PIE-01", with("-no-pie")),
		one("MEM-TEXTREL-01", with("-DTEXT")),
		one("MEM-RPATH-01", with("-Wl,-rpath,/tmp/lib")),
		one("MEM-FORTIFY-01", with("-U_FORTIFY_SOURCE")),
		one("MEM-CET-01", delta{drop: []string{"-Wl,-z,ibt,-z,shstk"}}),
		one("STK-CANARY-01", with("-fno-stack-protector")),
		{on: "host", rules: []string{"DBG-INFO-01"}, good: with("-g", "-Wl,--strip-debug"), bad: delta{drop: []string{"-Wl,--strip-debug"}},
			ends: []string{"ALN-FLAG-01", "BLD-CANARY-01", "BLD-OPT-01", "STK-ALLOCA-02", "STK-BUF-02", "STK-PACKET-02", "BUF-FNPTR-02"}}, // it tells other rules what they lacked
		one("BUF-UNSAFE-02", with("-DCALL_STRCPY")),
	}
}

// commandPairs differ in the flags of one command, which was run.
func commandPairs() []pair {
	arm := func(rule string, bad delta, ends ...string) pair {
		return pair{on: "command", rules: []string{rule}, bad: bad, ends: ends}
	}
	return []pair{
		arm("BLD-CANARY-01", delta{drop: []string{"-fstack-protector-strong"}}),
		arm("BLD-CANARY-01", with("-fno-stack-protector")),
		arm("BLD-OPT-01", with("-O0")),
		arm("BLD-OPT-01", delta{drop: []string{"-Os"}}),
		arm("BLD-WARN-01", delta{drop: []string{"-Wextra"}}),
		arm("BLD-WARN-02", with("-w")),
		arm("BLD-LOG-01", delta{flags: []string{"-Wno-error", "-Wstack-protector", "-Wframe-larger-than=8"}}),
		{on: "host-command", rules: []string{"BLD-FORTIFY-01"}, bad: delta{drop: []string{"-D_FORTIFY_SOURCE=2"}}},
		{on: "host-command", rules: []string{"BLD-FORTIFY-01"}, bad: with("-U_FORTIFY_SOURCE")},
		{on: "command", rules: []string{"ALN-FLAG-01", "BLD-LOG-01"}, good: with("-mcpu=cortex-m0", "-Wno-error"), bad: with("-munaligned-access")}, // GCC warns of it too
		{on: "producer", rules: []string{"BLD-CANARY-01"}, bad: delta{drop: []string{"-fstack-protector-strong"}}},
		{on: "producer", rules: []string{"BLD-OPT-01"}, bad: with("-O0")},
	}
}

// sourcePairs differ in a statement of a source.
func sourcePairs() []pair {
	one := func(rule, old, new string) pair {
		return pair{on: "source", rules: []string{rule}, bad: change("app.c", old, new)}
	}
	return []pair{
		one("ENT-RAND-02", "*to = trng_read()", "*to = rand()"),
		one("ENT-SEED-01", "drbg_seed(trng_read())", "drbg_seed(tx_time_get())"),
		one("BUF-UNSAFE-01", `snprintf(to, 16, "%s", from)`, "strcpy(to, from)"),
		one("BUF-SCANF-01", "%15s", "%s"),
		one("BUF-HEAP-01", "static char p[64];", "char *p = malloc(64);"),
		one("STK-ALLOCA-01", "static char q[64];", "char *q = __builtin_alloca(n);"),
		one("STK-BUF-01", "static char text[1024]", "char text[1024]"),
		one("STK-PACKET-01", "static unsigned char packet[128]", "unsigned char packet[128]"),
		one("BUF-FNPTR-01", "int handler;", "int (*handler)(int);"),
		one("CRY-OWN-01", "mbedtls_gcm_crypt_and_tag(p, n);", "for (int i = 0; i < n; i++) p[i] ^= 0x5a;"),
		one("TLS-VERIFY-01", "MBEDTLS_SSL_VERIFY_REQUIRED", "MBEDTLS_SSL_VERIFY_NONE"),
		one("TLS-VERIFY-01", "MBEDTLS_SSL_VERIFY_REQUIRED", "MBEDTLS_SSL_VERIFY_OPTIONAL"),
		one("KEY-SOURCE-01", "wifi_password[64];", `wifi_password[64] = "correct horse";`),
		one("NET-URL-01", "mqtts://broker.plant.local:8883", "mqtt://broker.plant.local:1883"),
	}
}
