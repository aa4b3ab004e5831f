package checks

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"holdfast/audit/csource"
	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

// largeLocal is the size in bytes from which an array on a stack counts as a
// buffer that belongs elsewhere: a thread's stack in ThreadX is often one or two
// kilobytes.
const largeLocal = 512

// ban is a rule against calls of functions in sources.
type ban struct {
	names []string
	says  string // format with caller and function
	good  string // what the reason of a pass says
}

// look finds the calls.
func (b ban) look(c code, r *Ruling) {
	for call := range c.calls() {
		if slices.Contains(b.names, call.Name) {
			r.Found(in(c.source, call), b.says, call.In, call.Name)
		}
	}
	r.Pass("%s", b.good)
}

// in is the place of a call.
func in(src *subject.Source, c site) finding.Location {
	l := finding.AtLine(src.Name, c.Line)
	l.Symbol = c.In
	return l
}

// sourceRules look at one source at a time, which is read once for all of them.
func sourceRules() []Rule {
	all := slices.Concat(sourceRandomRules(), sourceBufferRules(), sourceSchemeRules())
	for i, rule := range all {
		all[i].Judge = func(s *subject.Subject, r *Ruling) { *r = *judgeSources(context.Background(), s, []Rule{rule})[0] }
	}
	return all
}

func sourceRandomRules() []Rule {
	const section = "True random hardware-based entropy source"
	return []Rule{{
		ID: "ENT-RAND-02", Measure: measure.CryptoEntropy, Bullets: []string{"avoid.rand", "take.hardware-entropy"},
		Severity: finding.High, Confidence: finding.Firm, Title: "a source calls rand()",
		Why:     "Its numbers follow from a short seed: whoever sees a few of them, or guesses the seed, knows the keys, nonces and sequence numbers made of them.",
		Section: section, CWE: []string{"CWE-338"}, Fix: "Call the hardware's generator.", Bad: "void f(void) { nonce = rand(); }", Good: "void f(void) { nonce = trng_read(); }",
		look: ban{slices.Concat(weakRandom, seeders), "%s calls %s", "no source calls a generator of the C library"}.look,
	}, {
		ID: "ENT-SEED-01", Measure: measure.CryptoEntropy, Bullets: []string{"take.hardware-entropy", "avoid.own-schemes.predictable-secret"},
		Severity: finding.High, Confidence: finding.Firm, Title: "a generator is seeded with the time",
		Why:     "The time since the start or since 1970 has a few bits that an attacker does not know.",
		Section: section, CWE: []string{"CWE-337"}, Fix: "Seed from the hardware's noise source.", Bad: "void f(void) { srand(time(NULL)); }", Good: "void f(void) { drbg_seed(trng_read()); }",
		look: judgeSeed,
	}}
}

// clocks are what tells the time.
var clocks = []string{"time", "clock", "gettimeofday", "clock_gettime", "HAL_GetTick", "tx_time_get", "xTaskGetTickCount", "k_uptime_get", "k_uptime_get_32", "millis", "micros", "DWT"}

var seeds = regexp.MustCompile(`(?i)^(srand|srandom|srand48|seed48)$|(^|_)(seed|reseed)(_|$)`)

func judgeSeed(c code, r *Ruling) {
	for call := range c.calls() {
		if seeds.MatchString(call.Name) && mentions(call.Args, clocks...) {
			r.Found(in(c.source, call), "%s seeds %s with the time", call.In, call.Name)
		}
	}
	r.Pass("nothing is seeded with the time")
}

// unbounded are the functions that write without a bound.
var unbounded = []string{"strcpy", "strcat", "sprintf", "vsprintf", "gets", "stpcpy", "wcscpy", "wcscat", "strcpy_P", "strcat_P"}

// allocators take memory from a heap.
var allocators = []string{"malloc", "calloc", "realloc", "strdup", "pvPortMalloc", "tx_byte_allocate", "k_malloc", "k_calloc", "heap_caps_malloc", "OSMemGet"}

func sourceBufferRules() []Rule {
	const buffers = "Memory buffer checking"
	return []Rule{{
		ID: "BUF-UNSAFE-01", Measure: measure.MemoryBuffers, Bullets: []string{"avoid.buffer-overflows", "take.check-input"},
		Severity: finding.Medium, Confidence: finding.Firm, Title: "a function is called that writes without a bound",
		Why:     "It writes as long as its input is, whatever the room is: the classic overflow.",
		Section: buffers, CWE: []string{"CWE-120", "CWE-676"}, Fix: "Use a function that is told the size of the room, such as snprintf or memcpy_s.",
		Bad: "void f(char *d, const char *s) { strcpy(d, s); }", Good: "void f(char *d, const char *s) { snprintf(d, 16, \"%s\", s); }",
		look: ban{unbounded, "%s calls %s", "no source calls a function that writes without a bound"}.look,
	}, {
		ID: "BUF-SCANF-01", Measure: measure.MemoryBuffers, Bullets: []string{"avoid.buffer-overflows", "take.check-input"},
		Severity: finding.Medium, Confidence: finding.Firm, Title: "scanf reads text without a bound",
		Why:     "%s without a width takes all that comes.",
		Section: buffers, CWE: []string{"CWE-120"}, Fix: "Give the width, as %15s for 16 bytes.",
		Bad: "void f(const char *s, char *d) { sscanf(s, \"%s\", d); }", Good: "void f(const char *s, char *d) { sscanf(s, \"%15s\", d); }",
		look: judgeScanf,
	}, {
		ID: "BUF-HEAP-01", Measure: measure.MemoryBuffers, Bullets: []string{"avoid.heap"},
		Severity: finding.Low, Confidence: finding.Firm, Title: "dynamic memory is used",
		Why:     "The heap's layout cannot be foreseen, it breaks into pieces, and its overflows reach the allocator's own pointers.",
		Section: "Security measures to avoid", CWE: []string{"CWE-122"}, Fix: "Allocate statically, or from pools of fixed blocks.",
		Bad: "void f(void) { p = malloc(64); }", Good: "void f(void) { static char p[64]; use(p); }",
		look: ban{allocators, "%s calls %s", "no source takes memory from a heap"}.look,
	}, {
		ID: "STK-ALLOCA-01", Measure: measure.MemoryStack, Bullets: []string{"avoid.buffers-on-stack"},
		Severity: finding.Medium, Confidence: finding.Firm, Title: "memory is taken from the stack at run time",
		Why:     "Its size often comes from outside, and nothing says no.",
		Section: "Enable runtime stack checking", CWE: []string{"CWE-770"}, Fix: "Use a static buffer of the largest size.",
		Bad: "void f(int n) { p = alloca(n); }", Good: "void f(void) { static char p[64]; use(p); }",
		look: ban{[]string{"alloca", "_alloca", "__builtin_alloca"}, "%s calls %s", "no source takes memory from the stack at run time"}.look,
	}, {
		ID: "STK-BUF-01", Measure: measure.MemoryStack, Bullets: []string{"avoid.buffers-on-stack"},
		Severity: finding.Low, Confidence: finding.Firm, Title: "a large buffer is on a stack",
		Why:     "An overflow of it reaches the return address, and it may not fit the thread's stack.",
		Section: "Security measures to avoid", CWE: []string{"CWE-121"}, Fix: "Make it static, or take it from a pool.",
		Bad: "void f(void) { char text[1024]; use(text); }", Good: "void f(void) { static char text[1024]; use(text); }",
		look: judgeLocals(func(l local) bool { return l.Length >= largeLocal && !packet(l) }, "%s has %s with %d elements on its stack", "no source has a large buffer on a stack"),
	}, {
		ID: "STK-PACKET-01", Measure: measure.MemoryStack, Bullets: []string{"avoid.packets-on-stack"},
		Severity: finding.Medium, Confidence: finding.Guess, Title: "a network packet is on a thread's stack",
		Why:     "What comes from the network is what overflows, and on a stack that reaches the return address.",
		Section: "Security measures to avoid", CWE: []string{"CWE-121"}, Fix: "Keep packets in a packet pool or static memory.",
		Bad: "void f(void) { unsigned char packet[128]; read_from(packet); }", Good: "void f(void) { static unsigned char packet[128]; read_from(packet); }",
		look: judgeLocals(packet, "%s has the packet %s with %d elements on its stack", "no source has a packet on a stack"),
	}, {
		ID: "BUF-FNPTR-01", Measure: measure.MemoryBuffers, Bullets: []string{"avoid.function-pointers-in-packets"},
		Severity: finding.Medium, Confidence: finding.Guess, Title: "a packet has a function pointer in it",
		Why:     "An overflow of the packet's data then says what is called.",
		Section: "Security measures to avoid", CWE: []string{"CWE-822"}, Fix: "Keep the pointer outside, and look it up by a number that is checked.",
		Bad: "struct packet { char data[64]; void (*done)(void); };", Good: "struct packet { char data[64]; int handler; };",
		look: judgePackets,
	}}
}

var unboundedText = regexp.MustCompile(`%(\*?)(l?)s|%\[`)

func judgeScanf(c code, r *Ruling) {
	unbound := func(t csource.Token) bool { return t.Kind == csource.String && unboundedText.MatchString(literal(t)) }
	for call := range c.calls() {
		if slices.Contains([]string{"scanf", "sscanf", "fscanf"}, call.Name) && slices.ContainsFunc(call.Args, unbound) {
			r.Found(in(c.source, call), "%s reads text with %s and no width", call.In, call.Name)
		}
	}
	r.Pass("no scanf without a width")
}

var packetName = regexp.MustCompile(`(?i)(^|_)(packet|pkt|frame|datagram|pdu|telegram)(_|s?$|_?buf)`)

// packet tells of arrays that hold what comes from a network, by their names.
func packet(l local) bool {
	return packetName.MatchString(l.Name) || l.Type == "NX_PACKET" || strings.HasSuffix(l.Type, " pbuf")
}

// judgeLocals finds arrays on stacks.
func judgeLocals(bad func(local) bool, says, good string) func(code, *Ruling) {
	return func(c code, r *Ruling) {
		for _, b := range c.bodies {
			for _, l := range b.locals() {
				if bad(l) {
					at := finding.AtLine(c.source.Name, l.Line)
					at.Symbol = b.Name
					r.Found(at, says, b.Name, l.Name, l.Length)
				}
			}
		}
		r.Pass("%s", good)
	}
}

// judgePackets finds structures named like packets that have a member of the
// form "(*name)(".
func judgePackets(c code, r *Ruling) {
	for i, t := range c.tokens {
		if t.Text == "struct" && i+2 < len(c.tokens) && c.tokens[i+2].Text == "{" && packetName.MatchString(c.tokens[i+1].Text) {
			pointers(c.source, c.tokens[i+1].Text, c.tokens[i+2:closing(c.tokens, i+2, "{", "}")], r)
		}
	}
	r.Pass("no packet has a function pointer in it")
}

func pointers(src *subject.Source, name string, members []csource.Token, r *Ruling) {
	for i := range members {
		if i+4 < len(members) && members[i].Text == "(" && members[i+1].Text == "*" && members[i+2].Kind == csource.Ident && members[i+3].Text == ")" && members[i+4].Text == "(" {
			r.Found(finding.AtLine(src.Name, members[i].Line), "struct %s has the function pointer %s in it", name, members[i+2].Text)
		}
	}
}

func sourceSchemeRules() []Rule {
	return []Rule{{
		ID: "CRY-OWN-01", Measure: measure.CryptoAlgorithms, Bullets: []string{"avoid.own-cryptography", "avoid.own-schemes", "avoid.obscurity"},
		Severity: finding.High, Confidence: finding.Guess, Title: "a cipher of one's own",
		Why:     "What is not from a library that many have looked at falls to the first who looks.",
		Section: "Security measures to avoid", CWE: []string{"CWE-327", "CWE-1240"}, Fix: "Use a library's authenticated encryption, or a protocol such as TLS.",
		Bad: "void encrypt(char *p, int n) { for (int i = 0; i < n; i++) p[i] ^= key[i % 16]; }", Good: "void encrypt(char *p, int n) { mbedtls_gcm_crypt_and_tag(p, n); }",
		look: judgeOwnCipher,
	}, {
		ID: "TLS-VERIFY-01", Measure: measure.ProtocolX509, Bullets: []string{"take.x509-policies", "avoid.self-signed"},
		Severity: finding.Critical, Confidence: finding.Firm, Title: "the peer's certificate is not verified",
		Why:     "TLS then hides from everybody but the one who matters.",
		Section: "Use X.509 certificates for TLS authentication", CWE: []string{"CWE-295"}, Fix: "Demand verification, and give the root that the peer's certificate leads to.",
		Bad: "void f(void) { mbedtls_ssl_conf_authmode(&conf, MBEDTLS_SSL_VERIFY_NONE); }", Good: "void f(void) { mbedtls_ssl_conf_authmode(&conf, MBEDTLS_SSL_VERIFY_REQUIRED); }",
		look: judgeVerification,
	}, {
		ID: "KEY-SOURCE-01", Measure: measure.CredentialsRenewable, Bullets: []string{"avoid.hard-coded-credentials"},
		Severity: finding.High, Confidence: finding.Guess, Title: "a password or token stands in a source",
		Why:     "It is the same on every device, it is in the image for everybody to read, and it cannot be changed.",
		Section: "Security measures to avoid", CWE: []string{"CWE-798", "CWE-259"}, Fix: "Have each device its own key, made on the device, and a certificate for it.",
		Bad: "const char *wifi_password = \"correct horse\";", Good: "const char *wifi_password = settings_read(WIFI_PASSWORD);",
		look: judgeCredentials,
	}, {
		ID: "NET-URL-01", Measure: measure.ProtocolTLS, Bullets: []string{"avoid.unneeded-features"},
		Severity: finding.Medium, Confidence: finding.Firm, Title: "a source names a peer without TLS",
		Why:     "What goes there in the clear can be read and changed on the way.",
		Section: "Only use TLS-based MQTT", CWE: []string{"CWE-319"}, Fix: "Use the protocol over TLS: mqtts, https.",
		Bad: "const char *broker = \"mqtt://broker.local:1883\";", Good: "const char *broker = \"mqtts://broker.local:8883\";",
		look: judgeURLs,
	}}
}

var (
	cipherName   = regexp.MustCompile(`(?i)(^|_)(en|de)?(crypt|cipher|scramble|obfuscate)|(^|_)xor_`)
	ownLibraries = regexp.MustCompile(`^(mbedtls_|psa_|nx_crypto|_nx_crypto|wc_|EVP_|AES_|CRYPTO_|crypto_|sodium_|br_|tc_|uECC_|gcry_|HAL_CRYP)`)
)

// judgeOwnCipher finds functions named like ciphers that mix with XOR in a loop
// and call no known library.
func judgeOwnCipher(c code, r *Ruling) {
	for _, b := range c.bodies {
		if !cipherName.MatchString(b.Name) || ownLibraries.MatchString(b.Name) || slices.ContainsFunc(b.calls, func(x site) bool { return ownLibraries.MatchString(x.Name) }) {
			continue
		}
		mixes := slices.ContainsFunc(b.Tokens, func(t csource.Token) bool { return t.Text == "^" || t.Text == "^=" })
		if mixes && mentions(b.Tokens, "for", "while", "do") {
			at := finding.AtLine(c.source.Name, b.Line)
			at.Symbol = b.Name
			r.Found(at, "%s mixes data with XOR in a loop and calls no library", b.Name)
		}
	}
	r.Pass("no function looks like a cipher of one's own")
}

// unverified are the names that switch verification off.
var unverified = []string{"MBEDTLS_SSL_VERIFY_NONE", "MBEDTLS_SSL_VERIFY_OPTIONAL", "SSL_VERIFY_NONE", "WOLFSSL_VERIFY_NONE", "BR_SSL_NO_VERIFY", "TLS_PEER_VERIFY_NONE", "TLS_PEER_VERIFY_OPTIONAL", "setInsecure"}

func judgeVerification(c code, r *Ruling) {
	for call := range c.calls() {
		if slices.Contains(unverified, call.Name) {
			r.Found(in(c.source, call), "%s calls %s", call.In, call.Name)
		}
		for _, t := range call.Args {
			if t.Kind == csource.Ident && slices.Contains(unverified, t.Text) {
				r.Found(in(c.source, call), "%s gives %s to %s", call.In, t.Text, call.Name)
			}
		}
	}
	r.Pass("nothing switches the verification of peers off")
}

var (
	secretName = regexp.MustCompile(`(?i)(^|_)(password|passwd|passphrase|pwd|psk|secret|api_?key|access_?key|auth_?token|sas_?key|private_?key)(_|$)|[a-z](Password|Passwd|Secret|ApiKey|AccessKey|Psk)$`)
	harmless   = regexp.MustCompile(`(?i)^(|%.*|<.*>|\$\{.*\}|.{1,3}|password|passwd|secret|psk|key|none|null|todo|your.*|enter.*|change.?me|example.*|x+|\*+|/.*|.*\.(pem|crt|key|der|txt)|[a-z_]+[:=] ?%s.*)$`)
)

// judgeCredentials finds strings that are given to a name of a secret.
func judgeCredentials(c code, r *Ruling) {
	if c.source.Language == "asm" {
		return
	}
	src := c.source
	asked := map[string]bool{} // names come often
	secret := func(name string) bool {
		is, ok := asked[name]
		if !ok {
			is = secretName.MatchString(name)
			asked[name] = is
		}
		return is
	}
	name, at := "", 0 // the last name of this statement
	for _, t := range c.all {
		switch {
		case t.Kind == csource.Directive:
			if n, value, ok := definition(t.Text); ok && secretName.MatchString(n) && !harmless.MatchString(value) {
				r.Found(finding.AtLine(src.Name, t.Line), "%s is %s", n, Mask(value))
			}
			name = ""
		case t.Kind == csource.Ident && secret(t.Text):
			name, at = t.Text, t.Line
		case t.Kind == csource.String && name != "" && t.Line-at <= 2:
			if value := literal(t); !harmless.MatchString(value) {
				r.Found(finding.AtLine(src.Name, t.Line), "%s is %s", name, Mask(value))
			}
			name = ""
		case !slices.Contains([]string{"=", "[", "]", "*", "{", ",", "(", "."}, t.Text) && t.Kind != csource.Number && t.Kind != csource.Ident:
			name = ""
		}
	}
	r.Pass("no name of a secret is given a text")
}

var define = regexp.MustCompile(`^#\s*define\s+(\w+)\s+"((?:[^"\\]|\\.)*)"`)

// definition reads "#define NAME "text"".
func definition(line string) (name, value string, ok bool) {
	m := define.FindStringSubmatch(line)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

var (
	plainURL = regexp.MustCompile(`(?i)\b(mqtt|http|ftp|telnet|tcp|ws|coap|ldap|tftp)://([^\s"'/:<>%]+)`)
	spoken   = regexp.MustCompile(`(?i)^(localhost|127\.|\[::1|www\.w3\.org|schemas\.|json-schema\.org|www\.apache\.org|xml|purl\.org|tools\.ietf|.*\.example$|example\.|www\.gnu\.org)`)
)

// judgeURLs finds addresses of protocols without TLS in the texts of sources.
func judgeURLs(c code, r *Ruling) {
	for _, t := range c.all {
		if t.Kind != csource.String && t.Kind != csource.Directive {
			continue
		}
		for _, m := range plainURL.FindAllStringSubmatch(t.Text, 3) {
			if !spoken.MatchString(m[2]) {
				r.Found(finding.AtLine(c.source.Name, t.Line), "%s is spoken with %s", strings.ToLower(m[1]), fmt.Sprintf("%.60s", m[2]))
			}
		}
	}
	r.Pass("no source names a peer without TLS")
}
