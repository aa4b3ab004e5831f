package checks_test

import (
	"strings"
	"testing"

	"holdfast/audit/checks"
	"holdfast/audit/subject"
	"holdfast/measure"
)

// source is a subject with one file of C.
func source(text string) *subject.Subject {
	s := subject.New(nil)
	f := subject.NewFile("app.c", subject.CSource, func() ([]byte, error) { return []byte(text), nil })
	s.Sources = []*subject.Source{{File: f, Language: "c"}}
	return s
}

// ofSources are the rules whose examples are lines of C.
var ofSources = []string{"ENT-RAND-02", "ENT-SEED-01", "BUF-UNSAFE-01", "BUF-SCANF-01", "BUF-HEAP-01", "STK-ALLOCA-01", "STK-BUF-01", "STK-PACKET-01",
	"BUF-FNPTR-01", "CRY-OWN-01", "TLS-VERIFY-01", "KEY-SOURCE-01", "NET-URL-01"}

// The wrong example of each rule turns this rule, and the right one turns none.
func TestExamplesOfSources(t *testing.T) {
	for _, id := range ofSources {
		rule, ok := checks.Find(id)
		if !ok {
			t.Fatalf("there is no rule %s", id)
		}
		if res, found := run(t, source(rule.Bad), id); res.Verdict != measure.Fail || len(found) != 1 || found[0].Line != 1 {
			t.Errorf("%s with %q: %s, %d findings", id, rule.Bad, res.Verdict, len(found))
		}
		for _, other := range ofSources {
			if res, _ := run(t, source(rule.Good), other); res.Verdict != measure.Pass {
				t.Errorf("%s with the right example of %s: %s (%s)", other, id, res.Verdict, res.Reason)
			}
		}
	}
}

func TestSourcesAreReadAsC(t *testing.T) {
	for _, c := range []struct {
		name, text, rule string
		found            int
	}{
		{"a declaration", "int rand(void);\nvoid f(void) { use(); }", "ENT-RAND-02", 0},
		{"a comment", "void f(void) { /* rand() */ }\n// rand()", "ENT-RAND-02", 0},
		{"a text", "void f(void) { puts(\"rand()\"); }", "ENT-RAND-02", 0},
		{"a member", "void f(void) { dev->rand(); dev.rand(); }", "ENT-RAND-02", 0},
		{"two functions", "int a(void) { return rand(); }\nint b(void) { if (rand() > 1) return 2; return 3; }", "ENT-RAND-02", 2},
		{"in extern C", "extern \"C\" {\nint a(void) { return rand(); }\n}", "ENT-RAND-02", 1},
		{"a definition of one's own", "int rand(void) { return trng(); }", "ENT-RAND-02", 0},
		{"seeded with a tick", "void f(void) { srand(HAL_GetTick() ^ 7); }", "ENT-SEED-01", 1},
		{"seeded by another name", "void f(void) { prng_seed(&s, time(0)); }", "ENT-SEED-01", 1},
		{"seeded from noise", "void f(void) { prng_seed(&s, trng()); }", "ENT-SEED-01", 0},
		{"a small buffer", "void f(void) { char b[64]; g(b); }", "STK-BUF-01", 0},
		{"a static buffer", "void f(void) { static char b[4096]; g(b); }", "STK-BUF-01", 0},
		{"a global buffer", "char b[4096];\nvoid f(void) { g(b); }", "STK-BUF-01", 0},
		{"an index", "void f(void) { b[1024] = 1; x = b[2048]; }", "STK-BUF-01", 0},
		{"an array of pointers", "void f(void) { char *b[1024]; g(b); }", "STK-BUF-01", 0},
		{"hexadecimal", "void f(void) { uint8_t b[0x400u]; g(b); }", "STK-BUF-01", 1},
		{"in a block", "void f(void) { if (x) { char b[512]; g(b); } }", "STK-BUF-01", 1},
		{"a frame", "void f(void) { uint8_t rx_frame[64]; g(rx_frame); }", "STK-PACKET-01", 1},
		{"a framework", "void f(void) { uint8_t framework[64]; g(framework); }", "STK-PACKET-01", 0},
		{"in a define", "#define WIFI_PASSWORD \"hunter2hunter2\"\n", "KEY-SOURCE-01", 1},
		{"a placeholder", "#define WIFI_PASSWORD \"your-password\"\nconst char *psk = \"\";", "KEY-SOURCE-01", 0},
		{"a file", "const char *private_key = \"/etc/key.pem\";", "KEY-SOURCE-01", 0},
		{"a message", "void f(void) { log_error(\"password is wrong\"); }", "KEY-SOURCE-01", 0},
		{"in a structure", "struct wifi w = { .password = \"correct horse\" };", "KEY-SOURCE-01", 1},
		{"as an argument", "void f(void) { set_password(user, \"correct horse\"); }", "KEY-SOURCE-01", 1},
		{"a schema", "const char *ns = \"http://www.w3.org/2001/XMLSchema\";", "NET-URL-01", 0},
		{"localhost", "const char *u = \"http://localhost:8080/\";", "NET-URL-01", 0},
		{"in a comment", "// see http://vendor.test/datasheet\n", "NET-URL-01", 0},
		{"an MQTT broker", "const char *u = \"tcp://broker.plant:1883\";", "NET-URL-01", 1},
		{"a checksum", "int checksum(char *p, int n) { int s = 0; for (int i = 0; i < n; i++) s ^= p[i]; return s; }", "CRY-OWN-01", 0},
		{"a library's", "void aes_encrypt(char *p) { for (;;) { mbedtls_aes_crypt_ecb(p); x ^= 1; } }", "CRY-OWN-01", 0},
	} {
		res, found := run(t, source(c.text), c.rule)
		if len(found) != c.found || (res.Verdict == measure.Fail) != (c.found > 0) {
			t.Errorf("%s: %d findings, want %d (%s: %s)", c.name, len(found), c.found, res.Verdict, res.Reason)
		}
		for _, f := range found {
			if strings.Contains(f.Message, "hunter2") || strings.Contains(f.Message, "horse") {
				t.Errorf("%s: the secret is shown: %s", c.name, f.Message)
			}
		}
	}
}

func FuzzSources(f *testing.F) {
	f.Add("void f(void) { strcpy(a, \"b\"); }")
	f.Add("struct packet { void (*x)(int); };")
	f.Add("#define PASSWORD \"x\\\"y\"\n}}}(((")
	f.Fuzz(func(t *testing.T, text string) {
		_, results, err := checks.Judge(t.Context(), source(text), checks.All(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if strings.Contains(r.Reason, "ended on this input") {
				t.Errorf("%s: %s", r.Rule, r.Reason)
			}
		}
	})
}
