package checks

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

// mostPerArea bounds the findings of one rule in one file or section.
const mostPerArea = 50

func secretRules() []Rule {
	const (
		section = "Security measures to avoid"
		why     = "It is the same on every device, it is in the image for everybody to read, and it cannot be changed."
		fix     = "Make a key on each device, in hardware where it has some, and give the device a certificate for it."
	)
	rule := func(id string, s finding.Severity, c finding.Confidence, title, cwe, bad, good string, judge func(*subject.Subject, *Ruling)) Rule {
		return Rule{ID: id, Measure: measure.CredentialsRenewable, Bullets: []string{"avoid.hard-coded-credentials"}, Severity: s, Confidence: c, Title: title, Why: why,
			Section: section, CWE: []string{cwe, "CWE-798"}, Fix: fix, Bad: bad, Good: good, Judge: judge}
	}
	return []Rule{
		rule("KEY-PEM-01", finding.Critical, finding.Certain, "a private key in PEM is in the input", "CWE-321", "-----BEGIN EC PRIVATE KEY-----", "-----BEGIN PUBLIC KEY-----", search(pemKeys, "no private key in PEM")),
		rule("KEY-DER-01", finding.Critical, finding.Certain, "a private key in DER is in the input", "CWE-321", "30 77 02 01 01 04 20 ... (SEC 1)", "30 59 30 13 06 07 ... (a public key)", search(derKeys, "no private key in DER")),
		rule("KEY-RAW-01", finding.Critical, finding.Firm, "a private key is in the program as plain numbers", "CWE-321", "const uint8_t device_private_key[32] = {...};", "const uint8_t device_public_key[64] = {...};", eachProgram(judgeRawKeys)),
		rule("KEY-BLOB-01", finding.High, finding.Guess, "a variable that is named like a key has a key's worth of random bytes", "CWE-321", "const uint8_t aes_key[16] = {0x2b, 0x7e, ...};", "uint8_t aes_key[16]; /* from the key store */", eachProgram(judgeKeyBlobs)),
		rule("KEY-CLOUD-01", finding.Critical, finding.Firm, "a connection string or shared access key is in the input", "CWE-522", "HostName=h;DeviceId=d;SharedAccessKey=...", "HostName=h;DeviceId=d;x509=true", search(cloudKeys, "no connection string with a key")),
		rule("KEY-TOKEN-01", finding.High, finding.Firm, "a token or access key of a service is in the input", "CWE-522", "AKIA...", "a token that is asked for at run time", search(tokens, "no token of a known form")),
		rule("KEY-TEXT-01", finding.High, finding.Guess, "a password is in the program", "CWE-259", `const char wifi_password[] = "correct horse";`, "char wifi_password[64]; /* from provisioning */", judgePasswords),
	}
}

// hit is something that was found in an area.
type hit struct {
	at       int // in the area
	says     string
	severity finding.Severity // "": the rule's
}

// search makes a rule of a function that finds things in bytes.
func search(find func(area, func(hit)), good string) func(*subject.Subject, *Ruling) {
	return func(s *subject.Subject, r *Ruling) {
		some := areas(s, func(a area) {
			n := 0
			find(a, func(h hit) {
				if n++; n > mostPerArea {
					return
				}
				severity := h.severity
				if severity == "" {
					severity = r.rule.Severity
				}
				r.FoundAs(severity, r.rule.Confidence, a.at(h.at), "%s", h.says)
			})
		})
		if !some {
			r.Idle("nothing to search")
			return
		}
		r.Pass("%s", good)
	}
}

// each calls f with the place of every mark in the bytes.
func each(b []byte, mark string, f func(at int)) {
	m := []byte(mark)
	for from := 0; ; {
		i := bytes.Index(b[from:], m)
		if i < 0 {
			return
		}
		f(from + i)
		from += i + len(m)
	}
}

// maxPEM is the longest block of PEM that is looked at, in bytes.
const maxPEM = 32 << 10

// block is a block of PEM as it stands in files, in string tables and in
// sources, where each line is a literal of C.
type block struct {
	at   int
	kind string // "EC PRIVATE KEY"
	der  []byte // nil: what stands there is not base64, or encrypted
	// locked says that the block says that it is encrypted.
	locked bool
}

func blocks(b []byte, f func(block)) {
	each(b, "-----BEGIN ", func(at int) {
		rest := b[at:min(at+maxPEM, len(b))]
		kind, body, ok := bytes.Cut(rest[len("-----BEGIN "):], []byte("-----"))
		if !ok || len(kind) > 40 {
			return
		}
		end := bytes.Index(body, []byte("-----"))
		if end < 0 || !bytes.HasPrefix(body[end:], []byte("-----END ")) {
			return
		}
		bl := block{at: at, kind: string(kind), locked: bytes.Contains(body[:end], []byte("ENCRYPTED"))}
		if der, err := base64.StdEncoding.DecodeString(plain(body[:end])); err == nil && len(der) > 0 {
			bl.der = der
		}
		f(bl)
	})
}

// plain leaves the alphabet of base64: literals of C have quotes, line ends as
// \n, and comments around it.
func plain(b []byte) string {
	text := strings.NewReplacer(`\r`, "", `\n`, "", `\`, "").Replace(string(b))
	return strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '=' {
			return c
		}
		return -1
	}, text)
}

// pemKeys finds private keys in PEM. A block whose body is not a key (the text
// of a parser, an example in a comment) is none.
func pemKeys(a area, found func(hit)) {
	blocks(a.Data, func(b block) {
		if !strings.HasSuffix(b.kind, "PRIVATE KEY") {
			return
		}
		switch {
		case b.locked || b.kind == "ENCRYPTED PRIVATE KEY":
			if len(b.der) > 64 || b.locked {
				found(hit{b.at, "an encrypted private key in PEM", finding.Medium})
			}
		case b.kind == "OPENSSH PRIVATE KEY" && bytes.HasPrefix(b.der, []byte("openssh-key-v1\x00")):
			found(hit{b.at, "a private key of OpenSSH", ""})
		case b.der != nil:
			if k, ok := keyAt(b.der); ok {
				found(hit{b.at, "a private key in PEM: " + k.kind, ""})
			}
		}
	})
}

var (
	sharedKey = regexp.MustCompile(`^(?:SharedAccessKey|AccountKey|SharedSecretKey)=([A-Za-z0-9+/]{27,}={0,2})`)
	sharedSig = regexp.MustCompile(`^SharedAccessSignature s[a-z]=[^\s"&]{3,}&`)
	signature = regexp.MustCompile(`[?&]sig=[A-Za-z0-9%+/]{30,}`)
)

// cloudKeys finds the connection strings and signatures of Azure's services.
func cloudKeys(a area, found func(hit)) {
	for _, mark := range []string{"SharedAccessKey=", "AccountKey=", "SharedSecretKey="} {
		each(a.Data, mark, func(at int) {
			if m := sharedKey.FindSubmatch(a.Data[at:min(at+256, len(a.Data))]); m != nil && varied(m[1]) {
				found(hit{at, strings.TrimSuffix(mark, "=") + " is " + Mask(string(m[1])), ""})
			}
		})
	}
	each(a.Data, "SharedAccessSignature ", func(at int) {
		text := a.Data[at:min(at+1024, len(a.Data))]
		if sharedSig.Match(text) && signature.Match(line(text)) {
			found(hit{at, "a shared access signature", finding.High})
		}
	})
}

// line is the text up to the end of what is printable.
func line(b []byte) []byte {
	i := bytes.IndexFunc(b, func(c rune) bool { return c < ' ' || c > 0x7e })
	if i < 0 {
		return b
	}
	return b[:i]
}

// varied reports whether a text has the variety of random characters: an
// example such as AAAA... has not.
func varied(b []byte) bool {
	var seen [256]bool
	n := 0
	for _, c := range b {
		if !seen[c] {
			seen[c] = true
			n++
		}
	}
	return n >= min(12, len(b)/2)
}

// token is a form that a service's keys have.
type token struct {
	mark string
	form *regexp.Regexp
	name string
}

// services are the forms that are known.
var services = []token{
	{"AKIA", regexp.MustCompile(`^AKIA[A-Z2-7]{16}\b`), "an access key of AWS"},
	{"ASIA", regexp.MustCompile(`^ASIA[A-Z2-7]{16}\b`), "a temporary access key of AWS"},
	{"ghp_", regexp.MustCompile(`^ghp_[A-Za-z0-9]{36}\b`), "a token of GitHub"},
	{"github_pat_", regexp.MustCompile(`^github_pat_[A-Za-z0-9_]{60,}\b`), "a token of GitHub"},
	{"AIza", regexp.MustCompile(`^AIza[A-Za-z0-9_-]{35}($|[^A-Za-z0-9_-])`), "an API key of Google"},
	{"xoxb-", regexp.MustCompile(`^xoxb-[0-9]{8,}-[A-Za-z0-9-]{20,}`), "a token of Slack"},
	{"sk_live_", regexp.MustCompile(`^sk_live_[A-Za-z0-9]{20,}`), "a key of Stripe"},
	{"glpat-", regexp.MustCompile(`^glpat-[A-Za-z0-9_-]{20}\b`), "a token of GitLab"},
}

var webToken = regexp.MustCompile(`^eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}`)

// tokens finds keys and tokens of services by their forms.
func tokens(a area, found func(hit)) {
	alone := func(at int) bool { return at == 0 || !word(a.Data[at-1]) }
	for _, t := range services {
		each(a.Data, t.mark, func(at int) {
			m := t.form.Find(a.Data[at:min(at+256, len(a.Data))])
			if m != nil && alone(at) && varied(m[len(t.mark):]) && !bytes.Contains(m, []byte("EXAMPLE")) {
				found(hit{at, t.name + ": " + Mask(string(m)), ""})
			}
		})
	}
	each(a.Data, "eyJ", func(at int) {
		if m := webToken.Find(a.Data[at:min(at+8192, len(a.Data))]); m != nil && alone(at) && jws(m) {
			found(hit{at, "a JSON web token: " + Mask(string(m)), ""})
		}
	})
}

func word(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// jws reports whether a text is a token of RFC 7519: its head is JSON that
// names an algorithm.
func jws(text []byte) bool {
	head, _, _ := bytes.Cut(text, []byte("."))
	b, err := base64.RawURLEncoding.DecodeString(string(head))
	if err != nil {
		return false
	}
	var header struct {
		Alg string `json:"alg"`
	}
	return json.Unmarshal(b, &header) == nil && header.Alg != "" && header.Alg != "none"
}

var (
	wifiText = regexp.MustCompile(`^(?i)(psk|wpa_passphrase|wifi[_-]?pass(word|phrase)?|password)\s*[=:]\s*(?:"([^"%{}$<>]{8,63})"|([^"\s;%{}$<>]{8,63})(?:\s|;|$))`)
	userInfo = regexp.MustCompile(`^://([A-Za-z0-9._-]{1,64}):([^@/\s"':%{}$<>]{3,64})@[A-Za-z0-9.-]+`)
)

// judgePasswords finds passwords: the values of variables that are named so,
// and texts of configurations and of addresses.
func judgePasswords(s *subject.Subject, r *Ruling) {
	for _, p := range s.Programs {
		if !goProgram(p) {
			namedTexts(p, r)
		}
	}
	search(passwords, "no password under such a name")(s, r)
}

// passwords finds texts of configurations and of addresses.
func passwords(a area, found func(hit)) {
	each(a.Data, "://", func(at int) {
		if m := userInfo.FindSubmatch(a.Data[at:min(at+256, len(a.Data))]); m != nil && at > 2 && word(a.Data[at-1]) && !harmless.Match(m[2]) && !example.Match(m[0]) {
			found(hit{at, "an address with the password " + Mask(string(m[2])), ""})
		}
	})
	if a.text && sourceFile.MatchString(a.File) || a.program != nil && goProgram(a.program) {
		return // KEY-SOURCE-01 reads those; and texts of Go have no ends
	}
	for _, mark := range []string{"psk=", "wpa_passphrase=", "wifi_password=", "wifi_pass=", "WIFI_PASSWORD=", "password="} {
		each(a.Data, mark, func(at int) {
			m := wifiText.FindSubmatch(line(a.Data[at:min(at+128, len(a.Data))]))
			if m == nil {
				return
			}
			value := m[3]
			if value == nil {
				value = m[4]
			}
			if harmless.Match(value) || at > 0 && word(a.Data[at-1]) || mark == "password=" && !a.text {
				return
			}
			found(hit{at, strings.TrimSuffix(mark, "=") + " is " + Mask(string(value)), ""})
		})
	}
}

var (
	example    = regexp.MustCompile(`(?i)example\.|user:pass|username:|localhost|<`)
	sourceFile = regexp.MustCompile(`(?i)\.(c|h|cc|cpp|cxx|hpp|hh|s|go|rs|py|js|ts|java|md|rst|txt|html)$`)
)

// namedTexts finds the texts of variables that are named like secrets: arrays,
// and pointers to texts.
func namedTexts(p *subject.Program, r *Ruling) {
	objects(p, func(s subject.Symbol, _ []byte) {
		if !secretName.MatchString(s.Name) || linkName.MatchString(s.Name) {
			return
		}
		value, ok := text(p, s.Address)
		if ok && uint64(len(value)) >= s.Size {
			ok = false // longer than the variable: it is not a text
		}
		if to, is := pointer(p, s.Address); !ok && is && s.Size == uint64(p.Bits/8) {
			value, ok = text(p, to)
		}
		if ok && len(value) >= 4 && !harmless.MatchString(value) && !strings.Contains(value, "-----BEGIN") {
			r.Found(atSymbol(p, s), "%s is %s", s.Name, Mask(value))
		}
	})
}

// linkName are variables that hold the name of a setting, not its value.
var linkName = regexp.MustCompile(`(?i)(_name|_label|_topic|_path|_file|_url|_prompt|_msg|_str_id|_fmt|_usage|_help|_keyword|_attr|_tag|_id)$`)
