package audit_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"holdfast/mcuboot"
)

// embed puts C text into the application, which uses the variable of the name.
func embed(label, variable, text string) delta {
	return delta{label: label, flags: []string{`-DEMBED="embedded.h"`}, files: map[string]string{"embedded.h": text + "\n#define embedded " + variable + "\n"}}
}

// bytesOf is a variable with bytes.
func bytesOf(label, variable string, b []byte) delta {
	var text strings.Builder
	fmt.Fprintf(&text, "const UCHAR %s[%d] = {", variable, len(b))
	for _, c := range b {
		fmt.Fprintf(&text, "%d,", c)
	}
	return embed(label, variable, text.String()+"};")
}

// empty is a variable that has its bytes from elsewhere.
func empty(variable string, n int) delta {
	return embed("", variable, fmt.Sprintf("UCHAR %s[%d];", variable, n))
}

// textOf is a variable with a text.
func textOf(label, variable, text string) delta {
	return embed(label, variable, fmt.Sprintf("const char %s[] = %q;", variable, text))
}

// wordsOf is a table of words.
func wordsOf(label string, words ...uint32) delta {
	return embed(label, "table", "const UINT table[] = {"+strings.Trim(strings.ReplaceAll(fmt.Sprintf("%#x", words), " ", ","), "[]")+"};")
}

// calls links functions by their names, one for each, and calls them.
func calls(label string, functions ...string) delta {
	return delta{label: label, flags: []string{`-DEMBED="embedded.h"`}, files: map[string]string{"embedded.h": linking(functions...)}}
}

// linking is the text that links functions: "name", or "name(1, 2)" for one
// that is called with numbers. Bodies differ, so that none stands for another.
func linking(functions ...string) string {
	var text, body strings.Builder
	for i, f := range functions {
		name, arguments, given := strings.Cut(strings.TrimSuffix(f, ")"), "(")
		if !given {
			arguments = "sink, sink"
		}
		fmt.Fprintf(&text, "__attribute__((noinline)) void %s(UINT a, UINT b);\n__attribute__((noinline)) void %[1]s(UINT a, UINT b) { sink += a + b + %du; }\n", name, 11+i)
		fmt.Fprintf(&body, "%s(%s);", name, arguments)
	}
	return text.String() + "static const UINT embedded[1] = {1};\n#define LINK_MORE " + body.String() + "\n"
}

// noise is bytes that are the same in each run and look random.
func noise(label string, n int) []byte {
	var all []byte
	for i := 0; len(all) < n; i++ {
		sum := sha256.Sum256(fmt.Append(nil, label, i))
		all = append(all, sum[:]...)
	}
	return all[:n]
}

// ecKey is a key of P-256, the same in each run.
func ecKey(t testing.TB, label string) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), noise(label, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func keyPairs(t testing.TB) []pair {
	k := ecKey(t, "device")
	sec1, err := x509.MarshalECPrivateKey(k)
	check(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	check(t, err)
	public, err := x509.MarshalPKIXPublicKey(k.Public())
	check(t, err)
	armour := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	scalar, err := ecdh.P256().NewPrivateKey(noise("device", 32))
	check(t, err)
	point := scalar.PublicKey().Bytes()
	both := func(label string, d []byte) delta {
		text := bytesOf("", "k1", d).files["embedded.h"] + bytesOf("", "p1", point).files["embedded.h"]
		return embed(label, "both", strings.ReplaceAll(strings.ReplaceAll(text, "#define embedded k1\n", ""), "#define embedded p1\n", "")+"const UCHAR *const both[] = {k1, p1};")
	}
	cloud := "HostName=plant.azure-devices.net;DeviceId=pump;"
	one := func(rule string, good, bad delta) pair {
		return pair{on: "m4", rules: []string{rule}, good: good, bad: bad}
	}
	return []pair{
		one("KEY-PEM-01", textOf("", "pem", armour("PUBLIC KEY", public)), textOf("a SEC 1 key in PEM for the public key", "pem", armour("EC PRIVATE KEY", sec1))),
		one("KEY-PEM-01", textOf("", "pem", armour("PUBLIC KEY", public)), textOf("a PKCS #8 key in PEM for the public key", "pem", armour("PRIVATE KEY", pkcs8))),
		one("KEY-DER-01", bytesOf("", "der", public), bytesOf("a SEC 1 key in DER for the public key", "der", sec1)),
		one("KEY-DER-01", bytesOf("", "der", public), bytesOf("a PKCS #8 key in DER for the public key", "der", pkcs8)),
		one("KEY-RAW-01", empty("device_private_key", 32), bytesOf("bytes in device_private_key", "device_private_key", noise("raw", 32))),
		one("KEY-RAW-01", both("", noise("other", 32)), both("the number of the public key beside it", noise("device", 32))),
		one("KEY-BLOB-01", empty("aes_key", 16), bytesOf("bytes in aes_key", "aes_key", noise("aes", 16))),
		one("KEY-CLOUD-01", textOf("", "connection", cloud+"x509=true"), textOf("a shared access key for x509=true", "connection", cloud+"SharedAccessKey="+base64.StdEncoding.EncodeToString(noise("sas", 32)))),
		one("KEY-TOKEN-01", textOf("", "token", "asked for at run time"), textOf("an access key in a text", "token", "AKIA"+"J5Q2ZD7XK3WMN4RT")),
		one("KEY-TEXT-01", empty("wifi_password", 14), textOf("a text in wifi_password", "wifi_password", "correct horse")),
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// template is a certificate that is right.
func template(name string, authority bool) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(10, 0, 0),
		IsCA: authority, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
}

func certificatePairs(t testing.TB) []pair {
	root, leaf := ecKey(t, "root"), ecKey(t, "leaf")
	issue := func(label string, of, by *x509.Certificate, key, signer any) delta {
		public := any(nil)
		switch k := key.(type) {
		case *ecdsa.PrivateKey:
			public = k.Public()
		case *rsa.PrivateKey:
			public = k.Public()
		}
		der, err := x509.CreateCertificate(rand.Reader, of, by, public, signer)
		check(t, err)
		return bytesOf(label, "certificate", der)
	}
	rsaKey := func(bits int) *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		check(t, err)
		return k
	}
	authority, device := template("Plant root", true), template("pump", false)
	expired := template("Plant root", true)
	expired.NotAfter = now.AddDate(0, 0, -1)
	k1024, k2048 := rsaKey(1024), rsaKey(2048)
	one := func(rule string, good, bad delta, ends ...string) pair {
		return pair{on: "m4", rules: []string{rule}, good: good, bad: bad, ends: ends}
	}
	return []pair{
		one("CRT-SELF-01", issue("", device, authority, leaf, root), issue("a certificate that is self-signed", device, device, leaf, leaf)).beside("CRT-DEVICE-01"),
		one("CRT-DATE-01", issue("", authority, authority, root, root), issue("a certificate that has expired", expired, expired, root, root)),
		one("CRT-DEVICE-01", issue("", authority, authority, root, root), issue("a device's certificate for the root", device, authority, leaf, root)),
		one("CRT-WEAK-01", issue("", authority, authority, k2048, k2048), issue("a certificate with RSA of 1024 bits", authority, authority, k1024, k1024)).and("ALG-RSA-01"),
		one("ALG-RSA-01", bytesOf("", "public", x509.MarshalPKCS1PublicKey(&k2048.PublicKey)), bytesOf("an RSA key of 1024 bits", "public", x509.MarshalPKCS1PublicKey(&k1024.PublicKey))),
	}
}

// and adds rules that the choice is about too.
func (p pair) and(rules ...string) pair {
	p.rules = append(slices.Clone(p.rules), rules...)
	return p
}

// beside adds rules that both sides fail.
func (p pair) beside(rules ...string) pair {
	p.both = rules
	return p
}

func algorithmPairs() []pair {
	one := func(rule string, good, bad delta) pair {
		return pair{on: "m4", rules: []string{rule}, good: good, bad: bad}
	}
	sha256 := calls("", "mbedtls_sha256")
	// the first words of the tables of SHA-256 (FIPS 180-4), MD5 (RFC 1321) and SHA-1
	k := wordsOf("", 0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1)
	xor := func(label, op string) delta {
		d := calls(label, "store")
		d.files["embedded.h"] += "__attribute__((noinline)) static void mix(UCHAR *p, const UCHAR *key, UINT n) { for (UINT i = 0; i < n; i++) p[i] = (UCHAR)(p[i] " + op + " key[i & 15]); }\n" +
			"static UCHAR room[32], other[16];\n#undef LINK_MORE\n#define LINK_MORE store(1, 2); mix(room, other, sink); use(room, 1);\n"
		return d
	}
	return []pair{
		one("ALG-MD5-01", sha256, calls("mbedtls_md5 for mbedtls_sha256", "mbedtls_md5")),
		one("ALG-MD5-01", k, wordsOf("the table of MD5 for that of SHA-256", 0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a)),
		one("ALG-SHA1-01", sha256, calls("mbedtls_sha1 for mbedtls_sha256", "mbedtls_sha1")),
		one("ALG-SHA1-01", k, wordsOf("the table of SHA-1 for that of SHA-256", 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0)),
		one("ALG-DES-01", sha256, calls("mbedtls_des_crypt_cbc for mbedtls_sha256", "mbedtls_des_crypt_cbc")),
		one("ALG-RC4-01", sha256, calls("mbedtls_arc4_crypt for mbedtls_sha256", "mbedtls_arc4_crypt")),
		one("ALG-OLD-01", sha256, calls("mbedtls_blowfish_crypt_cbc for mbedtls_sha256", "mbedtls_blowfish_crypt_cbc")),
		{on: "m4", rules: []string{"ALG-ECB-01"}, good: calls("", "mbedtls_gcm_crypt_and_tag"), bad: calls("mbedtls_aes_crypt_ecb for mbedtls_gcm_crypt_and_tag", "mbedtls_aes_crypt_ecb")},
		one("ALG-OWN-01", xor("", "+"), xor("bytes of a key mixed in with ^ for +", "^")),
	}
}

// netX are the calls of a client that does all that it should.
var netX = []string{"_nx_secure_tls_session_start", "_nx_secure_tls_session_time_function_set", "_nx_secure_x509_common_name_dns_check",
	"_nx_secure_x509_crl_revocation_check", "_nx_secure_x509_key_usage_extension_parse", "_nx_secure_tls_trusted_certificate_add"}

func tlsPairs() []pair {
	// suites is a table of NetX Secure: eight words each, the number of the suite first.
	suites := func(label string, ids ...uint16) delta {
		d := calls(label, netX...)
		var table strings.Builder
		for _, id := range ids {
			fmt.Fprintf(&table, "{%#x, 1, 1, 1, 1, 1, 1, 1},", id)
		}
		d.files["embedded.h"] = strings.Replace(d.files["embedded.h"], "static const UINT embedded[1] = {1};", "const UINT _nx_crypto_ciphersuite_lookup_table[][8] = {"+table.String()+"};\n#define embedded _nx_crypto_ciphersuite_lookup_table", 1)
		return d
	}
	const gcm, tls13, null, static, cbc = 0xc02b, 0x1301, 0x003b, 0x009c, 0xc027
	without := func(rule, function string) pair {
		rest := slices.DeleteFunc(slices.Clone(netX), func(f string) bool { return f == function })
		return pair{on: "m4", rules: []string{rule}, good: calls("", netX...), bad: calls("without "+function, rest...)}
	}
	mbed := func(label, call string) delta {
		return calls(label, "mbedtls_ssl_handshake", "mbedtls_ssl_set_hostname", "mbedtls_time", "mbedtls_x509_crl_parse", "mbedtls_x509_crt_check_extended_key_usage", call)
	}
	return []pair{
		{on: "m4", rules: []string{"TLS-SUITE-01", "TLS-SUITE-03"}, good: suites("", tls13, gcm), bad: suites("TLS_ECDHE_RSA_WITH_NULL_SHA among the suites", tls13, gcm, 0xc010)},
		{on: "m4", rules: []string{"TLS-SUITE-01", "TLS-SUITE-02"}, good: suites("", tls13, gcm), bad: suites("TLS_RSA_WITH_NULL_SHA256 among the suites", tls13, gcm, null)},
		{on: "m4", rules: []string{"TLS-SUITE-02"}, good: suites("", tls13, gcm), bad: suites("TLS_RSA_WITH_AES_128_GCM_SHA256 among the suites", tls13, gcm, static)},
		{on: "m4", rules: []string{"TLS-SUITE-03"}, good: suites("", tls13, gcm), bad: suites("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256 among the suites", tls13, gcm, cbc)},
		without("TLS-TIME-01", "_nx_secure_tls_session_time_function_set"),
		without("TLS-NAME-01", "_nx_secure_x509_common_name_dns_check"),
		without("TLS-CRL-01", "_nx_secure_x509_crl_revocation_check"),
		without("TLS-KU-01", "_nx_secure_x509_key_usage_extension_parse"),
		without("TLS-VERIFY-02", "_nx_secure_tls_trusted_certificate_add"),
		{on: "m4", rules: []string{"TLS-VERIFY-02"}, good: mbed("", "mbedtls_ssl_conf_authmode(sink, 2)"), bad: mbed("mbedtls_ssl_conf_authmode with 0 for 2", "mbedtls_ssl_conf_authmode(sink, 0)")},
		{on: "m4", rules: []string{"TLS-VERIFY-02"}, good: mbed("", "mbedtls_ssl_conf_authmode(sink, 2)"), bad: mbed("mbedtls_ssl_conf_authmode with 1 for 2", "mbedtls_ssl_conf_authmode(sink, 1)")},
	}
}

func networkPairs() []pair {
	declare := func(d delta, modules, ports string) delta {
		d.settings = "modules: [" + modules + "]\nports: [" + ports + "]\n"
		return d
	}
	sntp, listen := calls("", "_nx_sntp_client_create"), calls("", "_nx_tcp_server_socket_listen(sink, 23)")
	return []pair{
		{on: "m4", rules: []string{"NET-MQTT-01"}, good: declare(calls("", "_nxd_mqtt_client_secure_connect"), "mqtt", ""), bad: declare(calls("_nxd_mqtt_client_connect for _nxd_mqtt_client_secure_connect", "_nxd_mqtt_client_connect"), "mqtt", "")},
		{on: "m4", rules: []string{"NET-PLAIN-01"}, good: declare(calls("", "_nx_sntp_client_create"), "sntp, telnet", ""), bad: declare(calls("_nx_telnet_server_create for _nx_sntp_client_create", "_nx_telnet_server_create"), "sntp, telnet", "")},
		{on: "m4", rules: []string{"MOD-LIST-01"}, good: declare(sntp, "sntp", ""), bad: declare(delta{label: "sntp is not declared"}, "mqtt", "")},
		{on: "m4", rules: []string{"NET-PORT-01"}, good: declare(listen, "", "tcp/23"), bad: declare(delta{label: "tcp/23 is not declared"}, "", "tcp/443")},
	}
}

// imagePairs differ in one tag of an image of MCUboot.
func imagePairs(t testing.TB) []pair {
	image := func(counter uint32) []byte {
		b, err := mcuboot.Build([]byte("pump 1.4.2, a payload of no program\n"), mcuboot.Version{Major: 1, Minor: 4, Revision: 2}, counter, ecKey(t, "release"))
		check(t, err)
		return b
	}
	const ecdsaTag, vendorTag = 0x22, 0xa0
	unsigned := slices.Clone(image(3))
	list := 32 + int(binary.LittleEndian.Uint32(unsigned[12:])) + int(binary.LittleEndian.Uint16(unsigned[10:]))
	for at := list + 4; at+4 <= len(unsigned); at += 4 + int(binary.LittleEndian.Uint16(unsigned[at+2:])) {
		if binary.LittleEndian.Uint16(unsigned[at:]) == ecdsaTag {
			binary.LittleEndian.PutUint16(unsigned[at:], vendorTag)
		}
	}
	given := func(label string, b []byte) delta { return delta{label: label, given: map[string][]byte{"app.bin": b}} }
	return []pair{
		{on: "given", rules: []string{"VER-SIGN-01"}, good: given("", image(3)), bad: given("a tag of a vendor for that of the signature", unsigned)},
		{on: "given", rules: []string{"VER-COUNTER-01"}, good: given("", image(3)), bad: given("security counter 0 for 3", image(0))},
	}
}
