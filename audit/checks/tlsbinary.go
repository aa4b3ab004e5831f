package checks

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

func tlsProgramRules() []Rule {
	const (
		suites = "Use the strongest cryptographic options and cipher suites for TLS"
		x509s  = "Use X.509 certificates for TLS authentication"
	)
	suite := func(id string, s finding.Severity, title, why, fix, bad, good string, bullets []string, weak func(string) string) Rule {
		return Rule{ID: id, Measure: measure.ProtocolCipherSuites, Bullets: bullets, Severity: s, Confidence: finding.Certain, Title: title, Why: why, Section: suites,
			CWE: []string{"CWE-327", "CWE-757"}, Fix: fix, Bad: bad, Good: good, Judge: eachProgram(judgeSuites(weak))}
	}
	callback := func(id string, m measure.ID, bullets []string, s finding.Severity, title, why, cwe, fix, bad, good string, judge func(*subject.Program, *Ruling)) Rule {
		return Rule{ID: id, Measure: m, Bullets: bullets, Severity: s, Confidence: finding.Firm, Title: title, Why: why, Section: x509s, CWE: []string{cwe}, Fix: fix, Bad: bad, Good: good, Judge: eachProgram(judge)}
	}
	return []Rule{
		suite("TLS-SUITE-01", finding.High, "a broken cipher suite is offered", "One of its algorithms has fallen, and the weakest decides.", "Leave suites with NULL, RC4, DES, export keys, MD5 or no authentication out of the table.",
			"TLS_RSA_WITH_NULL_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", []string{"take.cipher-suites", "take.cipher-suites.every-cipher"}, brokenSuite),
		suite("TLS-SUITE-02", finding.Medium, "a cipher suite without forward secrecy is offered", "Who gets the key later reads what was recorded before.", "Offer suites with ECDHE, and TLS 1.3.",
			"TLS_RSA_WITH_AES_128_CBC_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", []string{"take.ephemeral-keys", "take.cipher-suites"}, staticSuite),
		suite("TLS-SUITE-03", finding.Low, "a cipher suite with CBC or SHA-1 is offered", "Its padding tells of the text (Lucky 13), and SHA-1 is no longer approved.", "Build with NX_SECURE_ENABLE_AEAD_CIPHER and offer AES-GCM.",
			"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", []string{"take.cipher-suites.remove-unneeded"}, agedSuite),
		callback("TLS-TIME-01", measure.CryptoTime, []string{"take.real-time-clock"}, finding.High, "TLS is used and does not know the time", "Expired certificates are accepted.", "CWE-298",
			"Call nx_secure_tls_session_time_function_set, with a clock that is right.", "nx_secure_tls_session_start(...)", "nx_secure_tls_session_time_function_set(&session, now);", judgeTLSTime),
		callback("TLS-NAME-01", measure.ProtocolX509, []string{"take.x509-policies"}, finding.High, "TLS is used and the peer's name is not checked", "Any certificate of the same authority passes for the server's.", "CWE-297",
			"Check the name in a certificate callback: nx_secure_x509_common_name_dns_check; mbedtls_ssl_set_hostname.", "nx_secure_tls_session_start(...)", "nx_secure_x509_common_name_dns_check(cert, name, n);", judgeTLSName),
		callback("TLS-CRL-01", measure.IdentityCertificates, []string{"take.revocation"}, finding.Medium, "TLS is used and revocation is not checked", "A stolen key is good until its certificate's date.", "CWE-299",
			"Fetch the authority's list and check it in a certificate callback: nx_secure_x509_crl_revocation_check.", "nx_secure_tls_session_start(...)", "nx_secure_x509_crl_revocation_check(crl, n, store, cert);", judgeTLSRevocation),
		callback("TLS-KU-01", measure.ProtocolX509, []string{"take.key-usage", "take.x509-policies"}, finding.Medium, "TLS is used and nobody asks what a certificate is for", "A certificate for one purpose opens another.", "CWE-295",
			"Read the extensions in a certificate callback: nx_secure_x509_key_usage_extension_parse, nx_secure_x509_extended_key_usage_extension_parse.", "nx_secure_tls_session_start(...)", "nx_secure_x509_key_usage_extension_parse(cert, &usage);", judgeTLSUsage),
		callback("TLS-VERIFY-02", measure.ProtocolX509, []string{"take.x509-policies", "avoid.self-signed"}, finding.Critical, "a program does not verify the peer's certificate", "TLS then hides from everybody but the one who matters.", "CWE-295",
			"Demand verification: MBEDTLS_SSL_VERIFY_REQUIRED, and give the root.", "mbedtls_ssl_conf_authmode(&conf, MBEDTLS_SSL_VERIFY_NONE);", "mbedtls_ssl_conf_authmode(&conf, MBEDTLS_SSL_VERIFY_REQUIRED);", judgeTLSVerify),
	}
}

var (
	suiteTables  = regexp.MustCompile(`^_?nx_\w*ciphersuite_lookup_table\w*$`)
	suiteObjects = regexp.MustCompile(`^_?nx_crypto_tls_\w+_with_\w+$|^_?nx_crypto_tls_(aes|chacha)\w+$`)
	preferences  = regexp.MustCompile(`^(ciphersuite_preference|(\w*_)?(cipher_?suites?|supported_ciphersuites)(_list|_preference)?)$`)
)

// offered is a cipher suite that a program offers.
type offered struct {
	id   uint16
	name string
	at   subject.Symbol
}

// suitesOf decodes the tables of cipher suites of NetX Secure and Mbed TLS.
//
// An entry of NetX's lookup table (NX_SECURE_TLS_CIPHERSUITE_INFO) is eight
// words: the suite's number in the first, then methods and sizes. A suite of
// its newer form (NX_CRYPTO_CIPHERSUITE) begins with the number. Mbed TLS has a
// list of ints that a 0 ends.
func suitesOf(p *subject.Program) []offered {
	var all []offered
	add := func(s subject.Symbol, id uint32) bool {
		name := suiteName(id)
		if name != "" && !slices.ContainsFunc(all, func(o offered) bool { return uint32(o.id) == id }) {
			all = append(all, offered{uint16(id), name, s})
		}
		return name != ""
	}
	objects(p, func(s subject.Symbol, b []byte) {
		word := p.Bits / 8
		if !strings.Contains(s.Name, "cipher") && !strings.Contains(s.Name, "nx_crypto_tls_") {
			return
		}
		switch {
		case suiteTables.MatchString(s.Name):
			for ; len(b) >= 8*word; b = b[8*word:] {
				add(s, uint32(order(p).Uint16(b)))
			}
		case suiteObjects.MatchString(s.Name) && len(b) >= 8:
			add(s, uint32(order(p).Uint16(b)))
		case preferences.MatchString(s.Name) && len(b)%4 == 0:
			mbedSuites(s, b, order(p), add)
		}
	})
	return all
}

// mbedSuites reads a list of ints. One that has what is no suite is something
// else.
func mbedSuites(s subject.Symbol, b []byte, o binary.ByteOrder, add func(subject.Symbol, uint32) bool) {
	for i := 0; i+4 <= len(b); i += 4 {
		id := o.Uint32(b[i:])
		if id == 0 || !add(s, id) && id > 0xffff {
			return
		}
	}
}

// otherSuites are names that Go's library does not have (IANA, TLS cipher
// suites).
var otherSuites = map[uint32]string{
	0x0000: "", 0x0001: "TLS_RSA_WITH_NULL_MD5", 0x0002: "TLS_RSA_WITH_NULL_SHA", 0x003b: "TLS_RSA_WITH_NULL_SHA256", 0x0004: "TLS_RSA_WITH_RC4_128_MD5",
	0x0008: "TLS_RSA_EXPORT_WITH_DES40_CBC_SHA", 0x0009: "TLS_RSA_WITH_DES_CBC_SHA", 0x0018: "TLS_DH_anon_WITH_RC4_128_MD5", 0x0034: "TLS_DH_anon_WITH_AES_128_CBC_SHA",
	0x003d: "TLS_RSA_WITH_AES_256_CBC_SHA256", 0x0033: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA", 0x0039: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA", 0x0067: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256",
	0x006b: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256", 0x009e: "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256", 0x009f: "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384", 0x0016: "TLS_DHE_RSA_WITH_3DES_EDE_CBC_SHA",
	0x002c: "TLS_PSK_WITH_NULL_SHA", 0x008a: "TLS_PSK_WITH_RC4_128_SHA", 0x008b: "TLS_PSK_WITH_3DES_EDE_CBC_SHA", 0x008c: "TLS_PSK_WITH_AES_128_CBC_SHA", 0x008d: "TLS_PSK_WITH_AES_256_CBC_SHA",
	0x00a8: "TLS_PSK_WITH_AES_128_GCM_SHA256", 0x00a9: "TLS_PSK_WITH_AES_256_GCM_SHA384", 0x00ae: "TLS_PSK_WITH_AES_128_CBC_SHA256", 0x00af: "TLS_PSK_WITH_AES_256_CBC_SHA384", 0x00b0: "TLS_PSK_WITH_NULL_SHA256",
	0x1304: "TLS_AES_128_CCM_SHA256", 0x1305: "TLS_AES_128_CCM_8_SHA256",
	0xc001: "TLS_ECDH_ECDSA_WITH_NULL_SHA", 0xc006: "TLS_ECDHE_ECDSA_WITH_NULL_SHA", 0xc010: "TLS_ECDHE_RSA_WITH_NULL_SHA", 0xc015: "TLS_ECDH_anon_WITH_NULL_SHA", 0xc018: "TLS_ECDH_anon_WITH_AES_128_CBC_SHA",
	0xc004: "TLS_ECDH_ECDSA_WITH_AES_128_CBC_SHA", 0xc005: "TLS_ECDH_ECDSA_WITH_AES_256_CBC_SHA", 0xc00e: "TLS_ECDH_RSA_WITH_AES_128_CBC_SHA", 0xc00f: "TLS_ECDH_RSA_WITH_AES_256_CBC_SHA",
	0xc008: "TLS_ECDHE_ECDSA_WITH_3DES_EDE_CBC_SHA", 0xc024: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384", 0xc028: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
	0xc025: "TLS_ECDH_ECDSA_WITH_AES_128_CBC_SHA256", 0xc026: "TLS_ECDH_ECDSA_WITH_AES_256_CBC_SHA384", 0xc029: "TLS_ECDH_RSA_WITH_AES_128_CBC_SHA256", 0xc02a: "TLS_ECDH_RSA_WITH_AES_256_CBC_SHA384",
	0xc02d: "TLS_ECDH_ECDSA_WITH_AES_128_GCM_SHA256", 0xc02e: "TLS_ECDH_ECDSA_WITH_AES_256_GCM_SHA384", 0xc031: "TLS_ECDH_RSA_WITH_AES_128_GCM_SHA256", 0xc032: "TLS_ECDH_RSA_WITH_AES_256_GCM_SHA384",
	0xc035: "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA", 0xc037: "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256", 0xc09c: "TLS_RSA_WITH_AES_128_CCM", 0xc09d: "TLS_RSA_WITH_AES_256_CCM", 0xc0a0: "TLS_RSA_WITH_AES_128_CCM_8",
	0xc0a4: "TLS_PSK_WITH_AES_128_CCM", 0xc0a8: "TLS_PSK_WITH_AES_128_CCM_8", 0xc0ac: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM", 0xc0ae: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8", 0xc0af: "TLS_ECDHE_ECDSA_WITH_AES_256_CCM_8",
	0xc0ff: "TLS_ECJPAKE_WITH_AES_128_CCM_8", 0x0041: "TLS_RSA_WITH_CAMELLIA_128_CBC_SHA", 0x0084: "TLS_RSA_WITH_CAMELLIA_256_CBC_SHA",
}

// suiteName names a suite, or is "" for what is none that is known.
func suiteName(id uint32) string {
	if name := otherSuites[id]; name != "" {
		return name
	}
	if id == 0 || id > 0xffff {
		return ""
	}
	if name := tls.CipherSuiteName(uint16(id)); strings.HasPrefix(name, "TLS_") {
		return name
	}
	return ""
}

var broken = regexp.MustCompile(`_NULL_|_RC4_|_3?DES_|_DES40_|EXPORT|_MD5$|_anon_`)

func brokenSuite(name string) string {
	if m := broken.FindString(name); m != "" {
		return "has " + strings.Trim(m, "_")
	}
	return ""
}

func staticSuite(name string) string {
	ephemeral := strings.Contains(name, "DHE_") || strings.Contains(name, "ECJPAKE") || strings.Contains(name, "_anon_") || !strings.Contains(name, "_WITH_")
	if ephemeral {
		return ""
	}
	return "has no forward secrecy"
}

func agedSuite(name string) string {
	switch {
	case strings.HasSuffix(name, "_SHA"):
		return "has SHA-1"
	case strings.Contains(name, "_CBC_"):
		return "has CBC"
	}
	return ""
}

// tlsLibrary returns which library of TLS a program uses: "netx", "mbedtls",
// "openssl", or "".
func tlsLibrary(p *subject.Program) string {
	if _, ok := uses(p, netXNames("secure_tls_session_start", "secure_tls_session_create", "secure_tls_session_create_ext", "secure_dtls_session_start")...); ok {
		return "netx"
	}
	if _, ok := uses(p, "mbedtls_ssl_handshake", "mbedtls_ssl_handshake_step", "mbedtls_ssl_setup"); ok {
		return "mbedtls"
	}
	if _, ok := uses(p, "SSL_connect", "SSL_do_handshake", "SSL_accept"); ok {
		return "openssl"
	}
	return ""
}

// judgeSuites judges each suite of a program's tables.
func judgeSuites(weak func(string) string) func(*subject.Program, *Ruling) {
	return func(p *subject.Program, r *Ruling) {
		all := suitesOf(p)
		for _, o := range all {
			if why := weak(o.name); why != "" {
				r.Found(atSymbol(p, o.at), "%s %s", o.name, why)
			}
		}
		library := tlsLibrary(p)
		switch {
		case len(all) > 0:
			var names []string
			for _, o := range all {
				names = append(names, fmt.Sprintf("%#04x", o.id))
			}
			r.Fact("suites of "+subject.Base(p.File), "%s", strings.Join(names, " "))
			r.Pass("%d suites are offered, none of this kind", len(all))
		case library == "netx" || library == "mbedtls":
			r.Unknown("the table of suites of %s was not found", p.File)
		case p.Stripped && bare(p):
			r.Unknown("%s", nameless(p))
		default:
			r.Idle("no table of cipher suites")
		}
	}
}

// need judges programs with TLS by whether they use one of a library's
// functions.
func need(p *subject.Program, r *Ruling, library, missing string, functions ...string) {
	if s, ok := uses(p, functions...); ok {
		r.Pass("%s uses %s", p.File, s.Name)
		return
	}
	if why := mute(p); why != "" {
		r.Unknown("%s", why)
		return
	}
	at := finding.InFile(p.File)
	if library != "netx" {
		r.FoundAs(finding.Medium, finding.Guess, at, "%s", missing)
		return
	}
	r.Found(at, "%s", missing)
}

// withTLS says which library a rule has to ask, and tells the ruling when there
// is none.
func withTLS(p *subject.Program, r *Ruling, known ...string) string {
	library := tlsLibrary(p)
	switch {
	case slices.Contains(known, library):
		return library
	case library == "" && p.Stripped && bare(p):
		r.Unknown("%s", nameless(p))
	case library == "":
		r.Idle("no TLS that is known")
	default:
		r.Unknown("what %s makes of it is not known", library)
	}
	return ""
}

func judgeTLSTime(p *subject.Program, r *Ruling) {
	switch withTLS(p, r, "netx", "mbedtls", "openssl") {
	case "netx":
		need(p, r, "netx", "nothing tells TLS the time: certificates never expire", netXNames("secure_tls_session_time_function_set")...)
	case "mbedtls":
		need(p, r, "mbedtls", "Mbed TLS was built without MBEDTLS_HAVE_TIME_DATE: certificates never expire",
			"mbedtls_platform_gmtime_r", "gmtime_r", "gmtime", "_gmtime_r", "x509_get_current_time", "mbedtls_x509_time_gmtime", "mbedtls_time", "mbedtls_platform_time")
	case "openssl":
		r.Pass("OpenSSL takes the time from the system")
	}
}

func judgeTLSName(p *subject.Program, r *Ruling) {
	switch withTLS(p, r, "netx", "mbedtls", "openssl") {
	case "netx":
		need(p, r, "netx", "nothing checks the name in the peer's certificate", netXNames("secure_x509_common_name_dns_check", "secure_x509_dns_name_initialize")...)
	case "mbedtls":
		need(p, r, "mbedtls", "nothing checks the name in the peer's certificate", "mbedtls_ssl_set_hostname", "mbedtls_x509_crt_verify_with_profile_cn")
	case "openssl":
		need(p, r, "openssl", "nothing checks the name in the peer's certificate", "SSL_set1_host", "X509_VERIFY_PARAM_set1_host", "X509_check_host", "X509_VERIFY_PARAM_set1_ip_asc", "X509_get_subject_name", "X509_NAME_oneline", "X509_get_ext_d2i")
	}
}

func judgeTLSRevocation(p *subject.Program, r *Ruling) {
	switch withTLS(p, r, "netx", "mbedtls", "openssl") {
	case "netx":
		need(p, r, "netx", "nothing checks whether a certificate was revoked", netXNames("secure_x509_crl_revocation_check")...)
	case "mbedtls":
		need(p, r, "mbedtls", "nothing checks whether a certificate was revoked", "mbedtls_x509_crl_parse", "mbedtls_x509_crl_parse_der", "mbedtls_x509_crl_parse_file")
	case "openssl":
		need(p, r, "openssl", "nothing checks whether a certificate was revoked", "X509_STORE_add_crl", "X509_VERIFY_PARAM_set_flags", "X509_STORE_set_flags", "X509_load_crl_file", "SSL_CTX_set_tlsext_status_cb", "X509_STORE_CTX_set_flags", "OCSP_basic_verify", "SSL_get_tlsext_status_ocsp_resp", "SSL_CTX_ctrl")
	}
}

func judgeTLSUsage(p *subject.Program, r *Ruling) {
	switch withTLS(p, r, "netx", "mbedtls", "openssl") {
	case "netx":
		need(p, r, "netx", "nothing asks what the peer's certificate is for", netXNames("secure_x509_key_usage_extension_parse", "secure_x509_extended_key_usage_extension_parse")...)
	case "mbedtls":
		need(p, r, "mbedtls", "nothing asks what the peer's certificate is for", "mbedtls_x509_crt_check_extended_key_usage", "mbedtls_x509_crt_check_key_usage")
	case "openssl":
		r.Pass("OpenSSL asks what a certificate is for by itself")
	}
}

// judgeTLSVerify reads the second argument of the calls that say whether the
// peer is verified: 0 is not at all, in both libraries; 1 is "optional" in Mbed
// TLS.
func judgeTLSVerify(p *subject.Program, r *Ruling) {
	library := withTLS(p, r, "netx", "mbedtls", "openssl")
	switch library {
	case "":
		return
	case "netx":
		need(p, r, "netx", "no certificate of an authority is trusted: any peer is taken",
			netXNames("secure_tls_trusted_certificate_add", "secure_tls_psk_add", "secure_tls_client_psk_set", "secure_dtls_session_trusted_certificate_add")...)
		return
	}
	name := map[string]string{"mbedtls": "mbedtls_ssl_conf_authmode", "openssl": "SSL_CTX_set_verify"}[library]
	calls := p.Calls.To(name)
	for _, c := range calls {
		switch mode, ok := argument(p, c, 1); {
		case !ok:
			r.Unknown("with what %s calls %s cannot be told", orUnnamed(c.From), name)
		case mode == 0:
			r.FoundAs(finding.Critical, finding.Guess, p.At(c.Site), "%s calls %s with none", orUnnamed(c.From), name)
		case mode == 1 && library == "mbedtls":
			r.FoundAs(finding.High, finding.Guess, p.At(c.Site), "%s calls %s with optional", orUnnamed(c.From), name)
		}
	}
	switch {
	case len(calls) > 0:
		r.Pass("%s is called to demand verification", name)
	case library == "mbedtls" && mute(p) == "" && !p.Stripped:
		r.Pass("nothing changes the verification that Mbed TLS demands of clients")
	default:
		r.Unknown("whether %s verifies peers cannot be told", p.File)
	}
}
