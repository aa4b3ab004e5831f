package checks_test

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/audit/subject"
	"holdfast/measure"
)

func TestAlgorithmsByName(t *testing.T) {
	for id, names := range map[string][2]string{
		"ALG-MD5-01": {"mbedtls_md5_update", "mbedtls_sha256_update"}, "ALG-SHA1-01": {"SHA1_Update", "SHA256_Update"},
		"ALG-DES-01": {"_nx_crypto_method_3des_operation", "_nx_crypto_method_aes_operation"}, "ALG-RC4-01": {"mbedtls_arc4_crypt", "mbedtls_gcm_crypt"},
		"ALG-OLD-01": {"mbedtls_blowfish_setkey", "mbedtls_aes_setkey"}, "ALG-ECB-01": {"mbedtls_aes_crypt_ecb", "mbedtls_gcm_update"},
	} {
		good := program([2]string{"main", names[1]}, [2]string{"gcm_mask", "mbedtls_aes_crypt_ecb"})
		if id != "ALG-ECB-01" {
			good = program([2]string{"main", names[1]})
		}
		pair(t, id, withPrograms(program([2]string{"main", names[0]})), withPrograms(good))
	}
	unused := program([2]string{"main", "f"})
	unused.Symbols = append(unused.Symbols, subject.Symbol{Name: "mbedtls_md5_update", Kind: subject.FuncSymbol, Address: 0x9000, Size: 8})
	unused.Index()
	if res, _ := run(t, withPrograms(unused), "ALG-MD5-01"); res.Verdict != measure.Pass {
		t.Errorf("linked and not used: %+v", res)
	}
	for _, other := range []string{"destroy", "describe", "read_rc4ip", "sha1sum_of", "tea_time", "seed", "idea"} {
		for _, id := range []string{"ALG-DES-01", "ALG-RC4-01", "ALG-SHA1-01", "ALG-OLD-01"} {
			if res, found := run(t, withPrograms(program([2]string{"main", other})), id); res.Verdict != measure.Pass {
				t.Errorf("%s: %v", id, messages(found))
			}
		}
	}
}

func TestAlgorithmsByTable(t *testing.T) {
	table := func(all ...uint32) *subject.Subject { return holds(variable{"t", words(all...)}) }
	crc := table(0x00000000, 0x77073096, 0xee0e612c, 0x990951ba, 0x076dc419) // a checksum is no cipher
	pair(t, "ALG-MD5-01", table(0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee), crc)
	pair(t, "ALG-SHA1-01", table(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0), crc)
	pair(t, "ALG-DES-01", table(0x02080800, 0x00080000, 0x02000002, 0x02080802), crc)
	pair(t, "ALG-DES-01", table(14, 4, 13, 1, 2, 15, 11, 8, 3, 10, 6, 12, 5, 9, 0, 7), crc)
	pair(t, "ALG-OLD-01", table(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344), crc)
	stripped := withPrograms(firmwareFor(t, bareMain, "-s"))
	if res, _ := run(t, stripped, "ALG-MD5-01"); res.Verdict != measure.Unknown || !res.Applies {
		t.Errorf("stripped: %+v", res)
	}
	if _, found := run(t, image([]byte(strings.Repeat("x", 9)+"\x78\xa4\x6a\xd7\x56\xb7\xc7\xe8\xdb\x70\x20\x24\xee\xce\xbd\xc1")), "ALG-MD5-01"); len(found) != 1 {
		t.Errorf("image: %v", found)
	}
}

func TestSmallRSA(t *testing.T) {
	key := func(bytes int) *subject.Subject {
		head := []byte{0x30, 0x82, 1, 10, 2, 0x82, byte((bytes + 1) >> 8), byte(bytes + 1), 0}
		if bytes < 255 {
			head = []byte{0x30, 0x81, 137, 2, 0x81, byte(bytes + 1), 0}
		}
		n := noise(t, bytes)
		n[0] |= 0x80
		return holds(variable{"pub", append(append(head, n...), 2, 3, 1, 0, 1)})
	}
	pair(t, "ALG-RSA-01", key(128), key(256))
	if res, _ := run(t, holds(), "ALG-RSA-01"); res.Applies {
		t.Errorf("%+v", res)
	}
}

func TestOwnCipher(t *testing.T) {
	t.Parallel()
	loop := "const u8 box[16] = {9,4,1};\nKEEP void mix(u8 *p, int n) { for (int i = 0; i < n; i++) p[i] OP box[i & 15]; }\nvoid start(void) { for (;;) mix((u8 *)0x20000000, sink); }\n"
	with := func(op string) *subject.Subject { return withPrograms(firmwareFor(t, replace(loop, "OP", op))) }
	pair(t, "ALG-OWN-01", with("^="), with("+="))
	named := "KEEP int NAME(int n) { return n ^ 0x5a; }\nvoid start(void) { for (;;) sink = NAME(sink); }\n"
	pair(t, "ALG-OWN-01", withPrograms(firmwareFor(t, replace(named, "NAME", "my_encrypt"))), withPrograms(firmwareFor(t, replace(named, "NAME", "my_parity"))))
	library := "KEEP void mbedtls_gcm_update(void) { sink++; }\n" + replace(replace(loop, "OP", "^="), "for (;;)", "for (mbedtls_gcm_update();;)")
	if res, found := run(t, withPrograms(firmwareFor(t, library)), "ALG-OWN-01"); res.Verdict != measure.Pass {
		t.Errorf("with a library: %v", messages(found))
	}
}

// suiteTable is a program with a table of NetX Secure's form.
func suiteTable(t *testing.T, ids ...string) *subject.Subject {
	t.Helper()
	var rows strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&rows, "{%s, &m, &m, &m, 16, 16, &m, 32, &m},", id)
	}
	return withPrograms(firmwareFor(t, `
typedef struct { int a; } METHOD;
METHOD m;
typedef struct { unsigned short suite; METHOD *a, *b, *c; unsigned short iv; u8 key; METHOD *hash; unsigned short size; METHOD *prf; } INFO;
const INFO _nx_crypto_ciphersuite_lookup_table[] = {`+rows.String()+`};
void start(void) { for (;;) sink += _nx_crypto_ciphersuite_lookup_table[sink & 1].suite; }
`))
}

func TestSuites(t *testing.T) {
	t.Parallel()
	best := suiteTable(t, "0xc02b", "0xc02f", "0x1301")
	pair(t, "TLS-SUITE-01", suiteTable(t, "0xc02b", "0x003b", "0x1301"), best, "TLS-SUITE-02")
	pair(t, "TLS-SUITE-01", suiteTable(t, "0xc02b", "0xc006"), best, "TLS-SUITE-03")
	pair(t, "TLS-SUITE-02", suiteTable(t, "0xc02b", "0x009c"), best)
	pair(t, "TLS-SUITE-03", suiteTable(t, "0xc02b", "0xc027"), best)
	if res, _ := run(t, best, "TLS-SUITE-01"); res.Facts["suites of app.elf"] != "0xc02b 0xc02f 0x1301" {
		t.Errorf("%v", res.Facts)
	}
	newer := "const struct { unsigned short id, kind; u32 key; } nx_crypto_tls_rsa_with_aes_128_cbc_sha256 = {0x3c, 1, 16};\nvoid start(void) { for (;;) sink += nx_crypto_tls_rsa_with_aes_128_cbc_sha256.key + *(volatile u8 *)&nx_crypto_tls_rsa_with_aes_128_cbc_sha256; }\n"
	if _, found := run(t, withPrograms(firmwareFor(t, newer)), "TLS-SUITE-02"); len(found) != 1 {
		t.Errorf("%v", found)
	}
	mbed := "static const int ciphersuite_preference[] = {0xc02b, 0x0005, 0};\nvoid start(void) { for (;;) sink += ((volatile int *)ciphersuite_preference)[sink & 1]; }\n"
	if _, found := run(t, withPrograms(firmwareFor(t, mbed)), "TLS-SUITE-01"); len(found) != 1 {
		t.Errorf("%v", found)
	}
	lost := withPrograms(program([2]string{"main", "_nx_secure_tls_session_start"}))
	if res, _ := run(t, lost, "TLS-SUITE-01"); res.Verdict != measure.Unknown || !res.Applies {
		t.Errorf("%+v", res)
	}
}

func TestCallbacks(t *testing.T) {
	start := [2]string{"main", "_nxe_secure_tls_session_start"}
	good := withPrograms(program(start, [2]string{"main", "_nxe_secure_tls_session_time_function_set"}, [2]string{"check", "_nx_secure_x509_common_name_dns_check"},
		[2]string{"check", "_nx_secure_x509_crl_revocation_check"}, [2]string{"check", "_nx_secure_x509_key_usage_extension_parse"}, [2]string{"main", "_nxe_secure_tls_trusted_certificate_add"}))
	calls := map[string]string{"TLS-TIME-01": "time_function_set", "TLS-NAME-01": "dns_check", "TLS-CRL-01": "revocation_check", "TLS-KU-01": "key_usage", "TLS-VERIFY-02": "trusted_certificate_add"}
	for id, missing := range calls {
		var rest [][2]string
		for _, c := range good.Programs[0].Calls.All {
			if !strings.Contains(c.To, missing) {
				rest = append(rest, [2]string{c.From, c.To})
			}
		}
		pair(t, id, withPrograms(program(rest...)), good)
		if res, _ := run(t, withPrograms(program([2]string{"main", "f"})), id); res.Applies {
			t.Errorf("without TLS: %+v", res)
		}
	}
}

func TestVerificationOfMbedTLS(t *testing.T) {
	t.Parallel()
	source := "KEEP int mbedtls_ssl_handshake(void *s) { return sink; }\nKEEP void mbedtls_ssl_conf_authmode(void *c, int mode) { sink = mode; }\n" +
		"KEEP void mbedtls_ssl_set_hostname(void *s) { sink++; }\nvoid start(void) { mbedtls_ssl_conf_authmode((void *)0x20000000, MODE); for (;;) mbedtls_ssl_handshake((void *)0x20000000); }\n"
	with := func(mode string) *subject.Subject {
		return withPrograms(firmwareFor(t, replace(source, "MODE", mode)))
	}
	pair(t, "TLS-VERIFY-02", with("0"), with("2"))
	pair(t, "TLS-VERIFY-02", with("1"), with("2"))
	if res, _ := run(t, with("sink"), "TLS-VERIFY-02"); res.Verdict != measure.Unknown {
		t.Errorf("%+v", res)
	}
}

func TestMQTT(t *testing.T) {
	pair(t, "NET-MQTT-01", withPrograms(program([2]string{"main", "_nxd_mqtt_client_connect"})),
		withPrograms(program([2]string{"main", "_nxd_mqtt_client_secure_connect"}, [2]string{"_nxd_mqtt_client_secure_connect", "_nxd_mqtt_client_connect"})))
	pair(t, "NET-MQTT-01", withPrograms(program([2]string{"main", "mqtt_client_connect"})),
		withPrograms(program([2]string{"main", "mqtt_client_connect"}, [2]string{"main", "altcp_tls_create_config_client"})))
}

func TestPlainProtocols(t *testing.T) {
	plain := program([2]string{"main", "_nxe_telnet_server_create"})
	pair(t, "NET-PLAIN-01", withPrograms(plain), withPrograms(program([2]string{"main", "_nxe_sntp_client_create"})))
	pair(t, "NET-PLAIN-01", withPrograms(program([2]string{"main", "_nx_web_http_server_create"})),
		withPrograms(program([2]string{"main", "_nx_web_http_server_create"}, [2]string{"main", "_nx_web_http_server_secure_configure"})))
}

func TestModuleList(t *testing.T) {
	with := func(modules ...string) *subject.Subject {
		s := withPrograms(program([2]string{"main", "_nxd_mqtt_client_secure_connect"}, [2]string{"main", "_nx_dhcp_start"}))
		s.Declared = subject.Declaration{File: ".holdfast-audit.yaml", Modules: modules}
		return s
	}
	pair(t, "MOD-LIST-01", with("mqtt"), with("mqtt", "dhcp"))
	open := with()
	open.Declared.File = ""
	if res, _ := run(t, open, "MOD-LIST-01"); res.Verdict != measure.Unknown || !res.Applies || res.Facts["modules of app.elf"] != "mqtt dhcp" {
		t.Errorf("%+v", res)
	}
	m := subject.New(nil)
	m.Maps = []*subject.Map{{File: "app.map", Sections: []subject.MapSection{{Object: "libnetx.a(nxd_ftp_server.o)"}}}}
	m.Declared = subject.Declaration{File: ".holdfast-audit.yaml"}
	if _, found := run(t, m, "MOD-LIST-01"); len(found) != 1 {
		t.Errorf("%v", messages(found))
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	source := "KEEP int _nx_tcp_server_socket_listen(void *ip, u32 port, void *s, u32 n, void *f) { return sink = port + n; }\nvoid start(void) { _nx_tcp_server_socket_listen((void *)0x20000000, PORT, 0, 5, 0); for (;;) sink++; }\n"
	with := func(port string, ports ...string) *subject.Subject {
		s := withPrograms(firmwareFor(t, replace(source, "PORT", port)))
		s.Declared = subject.Declaration{File: ".holdfast-audit.yaml", Ports: ports}
		return s
	}
	pair(t, "NET-PORT-01", with("23", "tcp/8883"), with("23", "tcp/23"))
	pair(t, "NET-PORT-01", with("8080", "tcp/23"), with("8080", "tcp/8080"))
	if res, _ := run(t, with("sink", "tcp/23"), "NET-PORT-01"); res.Verdict != measure.Unknown {
		t.Errorf("%+v", res)
	}
	open := with("23")
	open.Declared.File = ""
	if res, _ := run(t, open, "NET-PORT-01"); res.Verdict != measure.Unknown || !res.Applies {
		t.Errorf("%+v", res)
	}
}
