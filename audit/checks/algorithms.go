package checks

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"slices"
	"strings"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

func algorithmRules() []Rule {
	const (
		section = "Use approved cryptographic routines with strong key sizes"
		avoid   = "Security measures to avoid"
	)
	rule := func(id string, s finding.Severity, c finding.Confidence, title, why, cwe, fix, bad, good string, judge func(*subject.Subject, *Ruling)) Rule {
		return Rule{ID: id, Measure: measure.CryptoAlgorithms, Bullets: []string{"take.cipher-suites.every-cipher"}, Severity: s, Confidence: c, Title: title, Why: why,
			Section: section, CWE: []string{cwe}, Fix: fix, Bad: bad, Good: good, Judge: judge}
	}
	own := rule("ALG-OWN-01", finding.Medium, finding.Guess, "a cipher of one's own is in the program", "What is not from a library that many have looked at falls to the first who looks.", "CWE-1240",
		"Use a library's authenticated encryption, or a protocol such as TLS.", "p[i] ^= key[i % 16];", "mbedtls_gcm_crypt_and_tag(...)", eachProgram(judgeOwnAlgorithm))
	own.Bullets, own.Section = []string{"avoid.own-cryptography", "avoid.own-schemes", "avoid.obscurity"}, avoid
	return []Rule{
		rule("ALG-MD5-01", finding.Medium, finding.Firm, "MD5 is in the program", "Two messages with one hash are made in seconds.", "CWE-328",
			"Use SHA-256, and build the library without MD5.", "mbedtls_md5(in, n, out);", "mbedtls_sha256(in, n, out, 0);", judgeAlgorithm(md5)),
		rule("ALG-SHA1-01", finding.Low, finding.Firm, "SHA-1 is in the program", "Two messages with one hash have been made.", "CWE-328",
			"Use SHA-256, and build the library without SHA-1.", "mbedtls_sha1(in, n, out);", "mbedtls_sha256(in, n, out, 0);", judgeAlgorithm(sha1)),
		rule("ALG-DES-01", finding.High, finding.Firm, "DES or triple DES is in the program", "Its keys are found by trying, and its blocks repeat after a few gigabytes.", "CWE-327",
			"Use AES, and build the library without DES.", "mbedtls_des_crypt_ecb(...)", "mbedtls_gcm_crypt_and_tag(...)", judgeAlgorithm(des)),
		rule("ALG-RC4-01", finding.High, finding.Firm, "RC4 is in the program", "What it encrypts can be read when the same is sent often.", "CWE-327",
			"Use AES-GCM or ChaCha20-Poly1305.", "mbedtls_arc4_crypt(...)", "mbedtls_gcm_crypt_and_tag(...)", judgeAlgorithm(rc4)),
		rule("ALG-OLD-01", finding.Medium, finding.Firm, "an outdated cipher is in the program", "Blocks of 64 bits repeat after a few gigabytes, and few look at these ciphers any more.", "CWE-327",
			"Use AES.", "mbedtls_blowfish_crypt_ecb(...)", "mbedtls_gcm_crypt_and_tag(...)", judgeAlgorithm(old)),
		rule("ALG-ECB-01", finding.High, finding.Firm, "a cipher is used block by block (ECB)", "Equal blocks stay equal, and blocks can be moved about.", "CWE-327",
			"Use an authenticated mode: GCM or CCM.", "mbedtls_aes_crypt_ecb(...)", "mbedtls_gcm_crypt_and_tag(...)", eachProgram(judgeECB)),
		rule("ALG-RSA-01", finding.High, finding.Firm, "a small RSA key is in the program", "Keys below 2048 bits can be factored by who has the means.", "CWE-326",
			"Use RSA of 2048 bits or more, or P-256.", "RSA 1024", "RSA 2048", eachProgram(judgeSmallRSA)),
		own,
	}
}

// algorithm is a weak algorithm: the functions that are one, and the tables
// that no implementation does without.
type algorithm struct {
	name      string
	functions *regexp.Regexp
	packages  []string // of Go's library
	bytes     [][]byte // tables of bytes
	words     [][]uint32
}

var (
	md5 = algorithm{"MD5", regexp.MustCompile(`(?i)^(_?_?nx_crypto_(method_)?(hmac_)?md5_\w+|mbedtls_(internal_)?md5(_\w+)?|md5(_?(init|update|final|finish|transform|process(_block)?|compress|starts|calc|sum|hash|digest|buffer|data|block\w*))?|wc_(init|hash)?md5\w*|EVP_md5|br_md5_\w+|gcry_md_md5|tc_md5\w*|HAL_HASH_MD5_\w+|__md5_\w+)$`),
		[]string{"crypto/md5"}, nil, [][]uint32{{0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee}}}
	sha1 = algorithm{"SHA-1", regexp.MustCompile(`(?i)^(_?_?nx_crypto_(method_)?(hmac_)?sha1_\w+|mbedtls_(internal_)?sha1(_\w+)?|sha_?1(_?(init|update|final|finish|transform|process(_block)?|compress|starts|calc|sum|hash|digest|input|result|block\w*))?|wc_(init|hash)?sha(update|final|hash)?|EVP_sha1|br_sha1_\w+|HAL_HASH_SHA1_\w+)$`),
		[]string{"crypto/sha1"}, nil, [][]uint32{{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}}}
	des = algorithm{"DES", regexp.MustCompile(`(?i)^(_?_?nx_crypto_(method_)?(3|triple_?)?des_\w+|mbedtls_(internal_)?des3?_\w+|des_?3?(_?(ecb|cbc|cfb|set_?key\w*|encrypt\w*|decrypt\w*|crypt\w*|key_?sched\w*|setup|ede3?\w*))|tdes_\w+|triple_?des\w*|wc_des3?_?\w+|EVP_des_\w+|br_des_\w+|HAL_CRYP_T?DES\w+)$`),
		[]string{"crypto/des"}, [][]byte{{14, 4, 13, 1, 2, 15, 11, 8, 3, 10, 6, 12, 5, 9, 0, 7}},
		[][]uint32{{0x01010400, 0x00000000, 0x00010000, 0x01010404}, {0x02080800, 0x00080000, 0x02000002, 0x02080802}, {0x00808200, 0x00000000, 0x00008000, 0x00808202}}}
	rc4 = algorithm{"RC4", regexp.MustCompile(`(?i)^(mbedtls_arc4_\w+|a?rc4(_?(init|setup|crypt|set_?key|key|encrypt|decrypt|skip|stream|prga|ksa|process|output))?|wc_arc4\w+|EVP_rc4\w*|_?_?nx_crypto_(method_)?a?rc4\w*|arcfour_\w+)$`),
		[]string{"crypto/rc4"}, nil, nil}
	old = algorithm{"Blowfish, RC2 or their like", regexp.MustCompile(`(?i)^(mbedtls_(blowfish|xtea|camellia)_\w+|(blowfish|bf|xx?tea|tea|rc2|idea|cast5|skipjack|seed)_?(init|setup|set_?key|encrypt\w*|decrypt\w*|crypt\w*|enc|dec|encipher|decipher|ecb\w*|cbc\w*)|EVP_(bf|rc2|idea|cast5|seed)_\w+|wc_rc2\w+|wc_idea\w+)$`),
		[]string{"golang.org/x/crypto/blowfish", "golang.org/x/crypto/tea", "golang.org/x/crypto/xtea", "golang.org/x/crypto/cast5"},
		[][]byte{{0xd9, 0x78, 0xf9, 0xc4, 0x19, 0xdd, 0xb5, 0xed, 0x28, 0xe9, 0xfd, 0x79}}, [][]uint32{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}}
)

// judgeAlgorithm looks for a weak algorithm by the names of what is used, and
// by its tables, in programs and in images.
func judgeAlgorithm(a algorithm) func(*subject.Subject, *Ruling) {
	return func(s *subject.Subject, r *Ruling) {
		for _, p := range s.Programs {
			if p.Type != subject.Core {
				a.judge(p, r)
			}
		}
		for _, i := range s.Images {
			if carried(s, i) {
				continue
			}
			for _, c := range i.Chunks {
				if at, ok := a.table(c.Data, binary.LittleEndian); ok {
					r.Found(subject.Region{File: i.File, Offset: c.Offset, Address: int64(c.Address)}.At(at), "a table of %s is in the image", a.name)
				}
			}
			r.Unknown("what %s calls has no names", i.File)
		}
		if len(s.Programs)+len(s.Images) == 0 {
			r.Idle("no program")
			return
		}
		r.Pass("%s is not used", a.name)
	}
}

// carried reports whether an image is of the same name as a program, which
// tells more than it does.
func carried(s *subject.Subject, i *subject.Image) bool {
	stem := func(name string) string {
		base, _, _ := strings.Cut(subject.Base(name), ".")
		return base
	}
	return slices.ContainsFunc(s.Programs, func(p *subject.Program) bool {
		return stem(p.File) == stem(i.File) || p.File == i.File+"!payload"
	})
}

func (a algorithm) judge(p *subject.Program, r *Ruling) {
	if goProgram(p) {
		a.judgeGo(p, r)
		return
	}
	for _, s := range p.Symbols {
		used := s.Undefined || p.Calls.Used(s.Name) || !p.Calls.Decoded
		if s.Kind != subject.ObjectSymbol && s.Kind != subject.FileSymbol && used && a.functions.MatchString(s.Name) {
			r.Found(atSymbol(p, s), "%s is used: %s", a.name, s.Name)
			return
		}
	}
	for _, region := range p.Regions() {
		if at, ok := a.table(region.Data, order(p)); ok {
			l := region.At(at)
			if s, ok := p.SymbolAt(uint64(l.Address)); ok && linked(p) {
				l.Symbol = s.Name
			}
			r.Found(l, "a table of %s is in the program", a.name)
			return
		}
	}
	if why := nameless(p); why != "" && (len(a.words)+len(a.bytes) == 0 || !hosted(p)) {
		r.Unknown("%s", why)
	}
}

// judgeGo asks who of a Go program's own packages calls the library's: its TLS
// has them all and decides when they are used.
func (a algorithm) judgeGo(p *subject.Program, r *Ruling) {
	told := map[string]bool{}
	for _, c := range p.Calls.All {
		for _, pkg := range a.packages {
			if strings.HasPrefix(c.To, pkg+".") && !strings.HasPrefix(c.From, pkg+".") && !standard(c.From) && !told[c.From] {
				told[c.From] = true
				severity := finding.Medium // it may be of a package that is linked and never asked
				if r.rule.Severity.Compare(severity) < 0 {
					severity = r.rule.Severity
				}
				r.FoundAs(severity, finding.Guess, p.At(c.Site), "%s is used: %s calls %s", a.name, orUnnamed(c.From), c.To)
			}
		}
	}
	if why := mute(p); why != "" || p.Stripped {
		r.Unknown("%s has no names of its functions", p.File)
	}
}

// standard reports whether a function is of Go's own library: the first element
// of its package's path has no dot, and is not main.
func standard(function string) bool {
	first, _, _ := strings.Cut(function, "/")
	if pkg, _, ok := strings.Cut(first, "."); ok && !strings.Contains(function, "/") {
		return pkg != "main"
	}
	return !strings.Contains(first, ".") && slices.Contains([]string{"crypto", "encoding", "net", "internal", "hash", "vendor", "mime", "os", "text", "html"}, first)
}

// table returns where one of the algorithm's tables is.
func (a algorithm) table(b []byte, o binary.ByteOrder) (int, bool) {
	for _, t := range a.bytes {
		if i := bytes.Index(b, t); i >= 0 {
			return i, true
		}
		wide := make([]uint32, len(t)) // or as words
		for i, c := range t {
			wide[i] = uint32(c)
		}
		if i := bytes.Index(b, packed(wide, o)); i >= 0 {
			return i, true
		}
	}
	for _, t := range a.words {
		if i := bytes.Index(b, packed(t, o)); i >= 0 {
			return i, true
		}
	}
	return 0, false
}

// packed returns words as a table of them stands in memory.
func packed(words []uint32, o binary.ByteOrder) []byte {
	b := make([]byte, 4*len(words))
	for i, w := range words {
		o.PutUint32(b[4*i:], w)
	}
	return b
}

var (
	blockwise = regexp.MustCompile(`(?i)^(mbedtls_(aes|des|des3|camellia|aria|blowfish)_crypt_ecb|EVP_\w+_ecb|AES_ecb_encrypt|AES_ECB_(en|de)crypt|wc_AesEcb(En|De)crypt|esp_aes_crypt_ecb|HAL_CRYP_(AES|DES|TDES)ECB_\w+|nrf_crypto_aes_ecb\w*|nrf_ecb_crypt|sl_se_aes_crypt_ecb|CRYPTO_aes_ecb\w*|DES_ecb3?_encrypt|_nx_crypto_method_\w*ecb\w*)$`)
	libraries = regexp.MustCompile(`(?i)^(_?_?mbedtls_|_?_?nx_crypto_|_?nx_secure|wc_|EVP_|CRYPTO_|AES_|psa_|gcry_|br_|tc_|aes_|gcm_|ccm_|cmac_|ctr_drbg|esp_aes_|sl_se_|cc310|nrf_crypto_|HAL_CRYP_|block_cipher_df|sodium_|crypto_|hydro_|chacha|uECC_|cipher_|camellia_|des3?_|aria_)`)
)

// judgeECB looks for the modes of single blocks, called by what is not itself a
// library's.
func judgeECB(p *subject.Program, r *Ruling) {
	if goProgram(p) {
		r.Idle("Go's library has no such mode")
		return
	}
	some := false
	for _, s := range p.Symbols {
		if s.Kind == subject.FileSymbol || s.Kind == subject.ObjectSymbol || !blockwise.MatchString(s.Name) {
			continue
		}
		some = true
		if strings.HasPrefix(s.Name, "EVP_") || !p.Calls.Taken[s.Name] || len(p.Calls.To(s.Name)) > 0 {
			tell(p, s.Name, r, libraries.MatchString)
		}
	}
	if why := nameless(p); why != "" && !hosted(p) {
		r.Unknown("%s", why)
		return
	}
	if !some {
		r.Idle("no function of such a mode")
		return
	}
	r.Pass("only libraries' own modes use single blocks")
}

// judgeSmallRSA looks for public keys of RSA by the DER around them: a
// SEQUENCE of a modulus and the exponent 65537, of 512 to 1024 bits.
func judgeSmallRSA(p *subject.Program, r *Ruling) {
	n := 0
	for _, region := range p.Regions() {
		each(region.Data, "\x02\x03\x01\x00\x01", func(at int) {
			for _, size := range []int{64, 96, 128, 192, 256, 384, 512} {
				start := at - size - 1
				if start < 4 || region.Data[start] != 0 || region.Data[start+1]&0x80 == 0 || !sizedInteger(region.Data[:start], size+1) || !random(region.Data[start+1:at]) {
					continue
				}
				if n++; size < 256 {
					r.Found(region.At(start), "an RSA key of %d bits is in the program", size*8)
				}
			}
		})
	}
	if n == 0 {
		r.Idle("no RSA key in DER is in a program")
		return
	}
	r.Pass("the RSA keys have 2048 bits or more (%d)", n)
}

// sizedInteger reports whether bytes end in the head of an INTEGER of a size.
func sizedInteger(b []byte, size int) bool {
	switch {
	case size < 0x80:
		return bytes.HasSuffix(b, []byte{2, byte(size)})
	case size < 0x100:
		return bytes.HasSuffix(b, []byte{2, 0x81, byte(size)})
	}
	return bytes.HasSuffix(b, []byte{2, 0x82, byte(size >> 8), byte(size)})
}

// judgeOwnAlgorithm looks for functions of firmware that are named like ciphers
// or mix two runs of bytes with XOR in a loop, in programs without a known
// library: those have such loops of their own.
func judgeOwnAlgorithm(p *subject.Program, r *Ruling) {
	if checked(p) || hosted(p) {
		r.Idle("%s runs on an operating system, whose libraries are elsewhere", p.File)
		return
	}
	if why := nameless(p); why != "" {
		r.Unknown("%s", why)
		return
	}
	if slices.ContainsFunc(p.Symbols, func(s subject.Symbol) bool { return s.Kind == subject.FuncSymbol && ownLibraries.MatchString(s.Name) }) {
		r.Pass("%s has a known library of cryptography", p.File)
		return
	}
	if p.Arch != subject.ARM {
		r.Unknown("loops of this machine are not read")
		return
	}
	for _, s := range p.Symbols {
		if s.Kind != subject.FuncSymbol || s.Undefined || !s.Thumb || s.Size > 4096 || libraryCode.MatchString(s.Name) {
			continue
		}
		code := p.Bytes(s.Address, int(s.Size))
		switch mixes, loops := xorLoop(code); {
		case mixes && loops:
			r.Found(atSymbol(p, s), "%s mixes two runs of bytes with XOR in a loop", s.Name)
		case mixes && cipherName.MatchString(s.Name):
			r.Found(atSymbol(p, s), "%s is named like a cipher, mixes with XOR and calls no library", s.Name)
		}
	}
	r.Pass("no function mixes bytes as a cipher does")
}

// xorLoop reports whether Thumb code has an EOR, and whether one stands in a
// short loop that loads two bytes and stores one.
func xorLoop(code []byte) (mixes, loops bool) {
	var ops []op
	for i := 0; i+1 < len(code); {
		o := decode(code[i:], i)
		mixes = mixes || o.kind == opXOR
		if o.kind == opBranch && o.to < i && i-o.to <= 64 {
			loops = loops || cipherLoop(ops, o.to)
		}
		ops = append(ops, o)
		i += o.size
	}
	return mixes, loops
}

// cipherLoop reports whether the instructions from an offset on load two bytes,
// mix and store one.
func cipherLoop(ops []op, from int) bool {
	n := map[opKind]int{}
	for _, o := range ops {
		if o.at >= from {
			n[o.kind]++
		}
	}
	return n[opLoadByte] >= 2 && n[opXOR] >= 1 && n[opStoreByte] >= 1 && n[opCall] == 0 && n[opXOR] <= 4
}

// opKind is what an instruction of Thumb does, as far as loops of ciphers ask.
type opKind int

const (
	opOther opKind = iota
	opXOR
	opLoadByte
	opStoreByte
	opCall
	opBranch
)

// op is an instruction.
type op struct {
	kind         opKind
	at, size, to int
}

// decode reads an instruction of Thumb (ARMv7-M, A5).
func decode(b []byte, at int) op {
	this := uint16(b[0]) | uint16(b[1])<<8
	if this>>11 >= 0x1d && len(b) >= 4 {
		return decodeWide(this, uint16(b[2])|uint16(b[3])<<8, at)
	}
	o := op{at: at, size: 2}
	switch {
	case this&0xffc0 == 0x4040: // EORS
		o.kind = opXOR
	case this&0xfe00 == 0x5c00, this&0xf800 == 0x7800: // LDRB
		o.kind = opLoadByte
	case this&0xfe00 == 0x5400, this&0xf800 == 0x7000: // STRB
		o.kind = opStoreByte
	case this&0xff80 == 0x4780: // BLX
		o.kind = opCall
	case this&0xf000 == 0xd000 && this&0x0e00 != 0x0e00: // B<cond>
		o.kind, o.to = opBranch, at+4+2*int(int8(this))
	case this&0xf800 == 0xe000: // B
		o.kind, o.to = opBranch, at+4+2*(int(int16(this<<5))>>5)
	}
	return o
}

func decodeWide(this, next uint16, at int) op {
	o := op{at: at, size: 4}
	switch {
	case this&0xffe0 == 0xea80, this&0xfbe0 == 0xf080: // EOR.W
		o.kind = opXOR
	case this&0xff70 == 0xf810: // LDRB.W
		o.kind = opLoadByte
	case this&0xff70 == 0xf800: // STRB.W
		o.kind = opStoreByte
	case this>>11 == 0x1e && next&0xd000 == 0xd000: // BL
		o.kind = opCall
	}
	return o
}
