package tlspolicy

import (
	"crypto/tls"
	"errors"
	"slices"
)

// legacySuites are what stock ThreadX firmware has for cipher suites: one each,
// by board. Both are in tls.InsecureCipherSuites.
func legacySuites() []uint16 {
	return []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA256}
}

// LegacyMQTT is the policy of the legacy listener: TLS 1.2 with exactly two
// suites and an RSA certificate whose key is used nowhere else. l.Verify is
// required and must refuse every device whose group does not ask for this.
// Nobody shows an IDevID here.
func LegacyMQTT(l Listener) (*tls.Config, error) {
	if l.Verify == nil {
		return nil, errors.New("legacy listener: Verify must decide whose group may use it")
	}
	if l.RSA != nil {
		return nil, errors.New("legacy listener: it has one certificate, no choice")
	}
	l.AllowTLS12 = true
	cfg, err := l.config("legacy MQTT", tls.RequireAnyClientCert)
	if err != nil {
		return nil, err
	}
	cfg.MaxVersion = tls.VersionTLS12
	cfg.CipherSuites = legacySuites()
	cfg.CurvePreferences = []tls.CurveID{tls.CurveP384, tls.CurveP256} // stock firmware has P-384 alone
	return cfg, nil
}

// Legacy reports whether a suite is one of the legacy listener's.
func Legacy(suite uint16) bool {
	return slices.Contains(legacySuites(), suite)
}

// mend says what a device maker changes so that the device leaves the legacy
// listener. NetX Duo's names, as in its nx_secure/inc and crypto_libraries.
const mend = `; to mend it, put {TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, &crypto_method_ecdhe, &crypto_method_ecdsa,` +
	` &crypto_method_aes_128_gcm_16, 16, 16, &crypto_method_null, 0, &crypto_method_tls_prf_sha256}` +
	` in place of %s in the cipher table, NX_CRYPTO_EC_SECP256R1 and &crypto_method_ec_secp256 in the curve tables,` +
	` define NX_SECURE_ENABLE_AEAD_CIPHER, trust the hub's ECDSA root and connect to its main listener`

// mend13 is what TLS 1.3 takes in addition.
const mend13 = `; to mend it, after the change to the cipher table define NX_SECURE_TLS_ENABLE_TLS_1_3,` +
	` add {TLS_AES_128_GCM_SHA256, &crypto_method_ecdhe, &crypto_method_ecdsa, &crypto_method_aes_128_gcm_16, 96, 16,` +
	` &crypto_method_sha256, 32, &crypto_method_hkdf} to it and use an ECDSA device certificate`
