package pki_test

import (
	"bytes"
	"testing"

	"holdfast/pki"
)

func TestPEM(t *testing.T) {
	w := newWorld(t)
	text := pki.EncodeCerts(w.root.Cert, w.maker.Cert)
	certs := must(pki.ParseCerts(text))(t)
	if len(certs) != 2 || !certs[0].Equal(w.root.Cert) || !certs[1].Equal(w.maker.Cert) {
		t.Errorf("%d certificates came back", len(certs))
	}
	key := newKey(t)
	pemKey := must(pki.EncodeKey(key))(t)
	if back := must(pki.ParseKey(pemKey))(t); !key.Equal(back) {
		t.Error("another key came back")
	}
	if _, err := pki.ParseCert(text); err == nil {
		t.Error("two certificates taken for one")
	}
	for name, text := range map[string][]byte{
		"nothing": nil, "a key": pemKey, "a certificate and a key": append(bytes.Clone(text), pemKey...),
		"garbage": []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "too long": make([]byte, 2<<20),
	} {
		if _, err := pki.ParseCerts(text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := pki.ParseKey(text); err == nil {
		t.Error("a certificate taken for a key")
	}
	chain := pki.RawChain(certs)
	if back := must(pki.ParseChain(chain))(t); !back[1].Equal(certs[1]) {
		t.Error("another chain came back")
	}
	if _, err := pki.ParseChain([][]byte{{1}}); err == nil {
		t.Error("garbage taken for a chain")
	}
}
