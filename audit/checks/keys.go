package checks

import (
	"bytes"
	"crypto/ecdh"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"regexp"
	"slices"

	"holdfast/audit/subject"
	"holdfast/finding"
)

// largestKey is the longest DER of a private key that is read, in bytes: RSA of
// 16384 bits has 9 KiB.
const largestKey = 10 << 10

// privateKey is a private key that was read.
type privateKey struct {
	kind string
	size int // of its DER
}

// length returns how many bytes an element of DER has in all, from its head:
// at most 64 KiB, and 0 when there is none.
func length(b []byte) int {
	if len(b) < 4 {
		return 0
	}
	n := 0
	switch l := int(b[1]); {
	case l < 0x80:
		n = 2 + l
	case l == 0x81:
		n = 3 + int(b[2])
	case l == 0x82:
		n = 4 + int(b[2])<<8 + int(b[3])
	}
	if n > len(b) {
		return 0
	}
	return n
}

// inside returns what an element of DER has after its head.
func inside(b []byte) []byte {
	switch {
	case b[1] < 0x80:
		return b[2:]
	case b[1] == 0x81:
		return b[3:]
	}
	return b[4:]
}

// keyAt reads a private key at the start of the bytes: PKCS #8 (RFC 5958),
// PKCS #1 (RFC 8017) or SEC 1 (RFC 5915).
func keyAt(b []byte) (privateKey, bool) {
	n := length(b)
	if n < 40 || n > largestKey || b[0] != 0x30 {
		return privateKey{}, false
	}
	b = b[:n]
	in := inside(b)
	switch {
	case bytes.HasPrefix(in, []byte{2, 1, 0, 0x30}) || bytes.HasPrefix(in, []byte{2, 1, 1, 0x30}):
		return pkcs8(b)
	case bytes.HasPrefix(in, []byte{2, 1, 0, 2}):
		return pkcs1(b)
	case bytes.HasPrefix(in, []byte{2, 1, 1, 4}):
		return sec1(b)
	}
	return privateKey{}, false
}

func pkcs1(b []byte) (privateKey, bool) {
	var k struct {
		Version           int
		N, E, D, P, Q     *big.Int
		DP, DQ, QI        *big.Int
		AdditionalPresent asn1.RawValue `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(b, &k); err != nil {
		return privateKey{}, false
	}
	if new(big.Int).Mul(k.P, k.Q).Cmp(k.N) != 0 || k.N.BitLen() < 256 {
		return privateKey{}, false
	}
	return privateKey{"RSA", len(b)}, true
}

// kinds are the algorithms of keys (RFC 5480, 8410, 8017).
var kinds = map[string]string{
	"1.2.840.113549.1.1.1": "RSA", "1.2.840.10045.2.1": "elliptic curve", "1.3.101.112": "Ed25519", "1.3.101.113": "Ed448",
	"1.3.101.110": "X25519", "1.3.101.111": "X448", "1.2.840.10040.4.1": "DSA", "1.2.840.113549.1.1.10": "RSA-PSS",
}

func pkcs8(b []byte) (privateKey, bool) {
	var k struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	var outer asn1.RawValue
	if _, err := asn1.Unmarshal(b, &outer); err != nil {
		return privateKey{}, false
	}
	in := outer.Bytes
	for _, to := range []any{&k.Version, &k.Algorithm, &k.Key} {
		var err error
		if in, err = asn1.Unmarshal(in, to); err != nil {
			return privateKey{}, false
		}
	}
	kind := kinds[k.Algorithm.Algorithm.String()]
	if kind == "" || len(k.Key) < 32 {
		return privateKey{}, false
	}
	return privateKey{kind, len(b)}, true
}

func sec1(b []byte) (privateKey, bool) {
	var outer asn1.RawValue
	if _, err := asn1.Unmarshal(b, &outer); err != nil {
		return privateKey{}, false
	}
	var version int
	var scalar []byte
	in, err := asn1.Unmarshal(outer.Bytes, &version)
	if err != nil {
		return privateKey{}, false
	}
	if in, err = asn1.Unmarshal(in, &scalar); err != nil || !slices.Contains([]int{24, 28, 32, 48, 64, 66}, len(scalar)) {
		return privateKey{}, false
	}
	// The curve or the public key follows, or both.
	if len(in) == 0 || in[0] != 0xa0 && in[0] != 0xa1 {
		return privateKey{}, false
	}
	return privateKey{"elliptic curve", len(b)}, true
}

// derKeys finds private keys in DER.
func derKeys(a area, found func(hit)) {
	const most = 5000 // things that begin as keys do
	tries := 0
	for at := 0; at < len(a.Data) && tries < most; {
		i := bytes.IndexByte(a.Data[at:], 0x30)
		if i < 0 {
			return
		}
		if at += i; begins(a.Data[at:]) {
			tries++
		}
		if k, ok := keyAt(a.Data[at:]); ok {
			found(hit{at, "a private key in DER: " + k.kind, ""})
			at += k.size
			continue
		}
		at++
	}
}

// begins reports whether a structure with a version begins here.
func begins(b []byte) bool { return bytes.Contains(b[:min(8, len(b))], []byte{2, 1}) }

var (
	privateName = regexp.MustCompile(`(?i)(priv(ate)?_?key|privkey|(^|_)(ec|ecc|ecdsa|ecdh|rsa|ed25519|x25519|device|sign(ing)?|client|server)_?(d|scalar|priv(ate)?|prime\d?|prime_?[pq]|[pq]|exponent_?[12d])$|PrivateKey|(^|_)secret_?exponent|_sk$|^sk_)`)
	publicName  = regexp.MustCompile(`(?i)(pub(lic)?(_?key)?|_pk$|modulus|cert)`)
	keyName     = regexp.MustCompile(`(?i)((^|_)(aes|des|hmac|enc(ryption)?|dec(ryption)?|cipher|crypto|master|root|device|session|secret|shared|symmetric|sym|mac|auth|sas|psk|storage|flash|boot|wrap(ping)?|kek|dek|network|nwk|app|lora\w*|firmware|fw|update|ota)_?key(s|_?\d+|_?(data|bytes|value|material))?$|(^|_)(secret|psk|appkey|nwkkey|appskey|nwkskey|hmac_secret|shared_secret|device_secret|passphrase_hash)$|[a-z](AesKey|SecretKey|MasterKey|DeviceKey|EncKey|Psk)$|^(aes|hmac|master|secret|device|root|session|enc)Key$)`)
)

// random reports whether bytes look like a key: no zeros in rows, no ramps, and
// about as many values as random bytes have (of 128, about 101).
func random(b []byte) bool {
	var seen [256]bool
	n, printable, steps := 0, 0, 0
	for i, c := range b {
		if !seen[c] {
			seen[c] = true
			n++
		}
		if c >= ' ' && c < 0x7f {
			printable++
		}
		if i > 0 && (c == b[i-1]+1 || c == b[i-1]-1 || c == b[i-1]) {
			steps++
		}
	}
	return n*100 >= min(len(b), 128)*65 && steps*4 < len(b) && printable < len(b)
}

// judgeRawKeys looks for scalars and primes among the variables: by a public
// key or modulus that is in the program too, and by their names.
func judgeRawKeys(p *subject.Program, r *Ruling) {
	told := map[uint64]bool{}
	points, moduli := publicKeys(p)
	tries := 0
	objects(p, func(s subject.Symbol, b []byte) {
		if told[s.Address] || goProgram(p) && !privateName.MatchString(s.Name) {
			return
		}
		if len(b) == 32 && random(b) && len(points) > 0 {
			if tries++; tries <= 2000 && belongs(b, points) {
				told[s.Address] = true
				r.FoundAs(finding.Critical, finding.Certain, atSymbol(p, s), "%s is the private key of a public key in the program", s.Name)
				return
			}
		}
		if len(b) >= 64 && len(b) <= 512 && random(b) && len(moduli) > 0 {
			if tries++; tries <= 2000 && divides(b, moduli) {
				told[s.Address] = true
				r.FoundAs(finding.Critical, finding.Certain, atSymbol(p, s), "%s is a prime of an RSA key in the program", s.Name)
				return
			}
		}
		sized := slices.Contains([]int{24, 28, 32, 48, 64, 66, 128, 192, 256, 384, 512}, len(b))
		if sized && privateName.MatchString(s.Name) && !publicName.MatchString(s.Name) && random(b) {
			told[s.Address] = true
			r.Found(atSymbol(p, s), "%s has %d random bytes", s.Name, len(b))
		}
	})
	if why := nameless(p); p.Stripped {
		r.Unknown("%s", why)
		return
	}
	r.Pass("no variable is a private key by its name or by a public key")
}

// belongs reports whether a scalar of P-256 makes one of the public keys, in
// either byte order.
func belongs(scalar []byte, points map[string]bool) bool {
	reversed := slices.Clone(scalar)
	slices.Reverse(reversed)
	for _, d := range [][]byte{scalar, reversed} {
		k, err := ecdh.P256().NewPrivateKey(d)
		if err == nil && points[string(k.PublicKey().Bytes()[1:33])] {
			return true
		}
	}
	return false
}

// divides reports whether bytes are a number that divides one of the moduli.
func divides(b []byte, moduli []*big.Int) bool {
	reversed := slices.Clone(b)
	slices.Reverse(reversed)
	for _, d := range [][]byte{b, reversed} {
		v := new(big.Int).SetBytes(d)
		for _, n := range moduli {
			if v.BitLen() > 128 && v.BitLen() < n.BitLen() && new(big.Int).Mod(n, v).Sign() == 0 {
				return true
			}
		}
	}
	return false
}

// publicKeys returns the public keys of a program: the x coordinates of points
// of P-256, and the moduli of RSA keys.
func publicKeys(p *subject.Program) (points map[string]bool, moduli []*big.Int) {
	const most = 256
	points = map[string]bool{}
	for _, region := range p.Regions() {
		b := region.Data
		for at := 0; at+65 <= len(b) && len(points) < most && !region.Exec; at++ {
			i := bytes.IndexByte(b[at:len(b)-64], 4)
			if i < 0 {
				break
			}
			if at += i; plausible(b[at+1:at+65]) && random(b[at+1:at+65]) {
				if _, err := ecdh.P256().NewPublicKey(b[at : at+65]); err == nil {
					points[string(b[at+1:at+33])] = true
				}
			}
		}
		each(b, "\x02\x03\x01\x00\x01", func(at int) { // the exponent 65537, behind the modulus
			for _, size := range []int{512, 384, 256, 128} {
				start := at - size - 1
				if start < 4 || len(moduli) >= most || b[start] != 0 || b[start+1]&0x80 == 0 || !random(b[start+1:at]) {
					continue
				}
				if b[start-4] == 2 || b[start-3] == 2 {
					moduli = append(moduli, new(big.Int).SetBytes(b[start+1:at]))
					return
				}
			}
		})
	}
	return points, moduli
}

// plausible reports whether no byte of the first follows itself two steps on,
// as text and tables do: it costs less than random and sorts most out.
func plausible(b []byte) bool {
	same := 0
	for i := 4; i < 12; i++ {
		if b[i] == b[i-4] || b[i] == b[i-1] || b[i] == 0 {
			same++
		}
	}
	return same <= 2
}

// judgeKeyBlobs looks for variables that are named like keys and have as many
// random bytes as a key.
func judgeKeyBlobs(p *subject.Program, r *Ruling) {
	objects(p, func(s subject.Symbol, b []byte) {
		if slices.Contains([]int{16, 24, 32, 48, 64}, len(b)) && keyName.MatchString(s.Name) && !publicName.MatchString(s.Name) && !privateName.MatchString(s.Name) && random(b) {
			r.Found(atSymbol(p, s), "%s has %d random bytes", s.Name, len(b))
		}
	})
	if p.Stripped {
		r.Unknown("%s", nameless(p))
		return
	}
	r.Pass("no variable that is named like a key has a key's worth of random bytes")
}
