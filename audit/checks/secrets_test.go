package checks_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

// file is a subject with one file of any kind.
func file(name string, data []byte) *subject.Subject {
	s := subject.New(nil)
	s.Files = []*subject.File{subject.NewFile(name, subject.Other, func() ([]byte, error) { return data, nil })}
	return s
}

// image is a subject with one image.
func image(data []byte) *subject.Subject {
	s := subject.New(nil)
	s.Images = []*subject.Image{{File: "app.bin", Format: subject.Binary, Chunks: []subject.Chunk{{Address: 0x8000, Data: data}}}}
	return s
}

// within puts bytes between others that are nothing.
func within(b []byte) []byte {
	return append(append(make([]byte, 40), b...), make([]byte, 40)...)
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// literals writes a text as the literals of C.
func literals(text string) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		fmt.Fprintf(&b, "\t%q\n", l)
	}
	return "const char key[] =\n" + b.String() + ";\n"
}

type keyForms struct{ sec1, pkcs8, pkcs1, public []byte }

func forms(t *testing.T) keyForms {
	t.Helper()
	must := func(b []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	k := ecKey(t)
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return keyForms{must(x509.MarshalECPrivateKey(k)), must(x509.MarshalPKCS8PrivateKey(k)), x509.MarshalPKCS1PrivateKey(r), must(x509.MarshalPKIXPublicKey(&k.PublicKey))}
}

func TestPrivateKeysInPEM(t *testing.T) {
	k := forms(t)
	public := pemOf("PUBLIC KEY", k.public)
	for name, text := range map[string]string{
		"SEC 1": pemOf("EC PRIVATE KEY", k.sec1), "PKCS 8": pemOf("PRIVATE KEY", k.pkcs8), "PKCS 1": pemOf("RSA PRIVATE KEY", k.pkcs1),
		"in C": literals(pemOf("EC PRIVATE KEY", k.sec1)), "lines of Windows": replace(pemOf("EC PRIVATE KEY", k.sec1), "\n", "\r\n"),
	} {
		pair(t, "KEY-PEM-01", file("key.pem", []byte(text)), file("key.pem", []byte(public)))
		if _, found := run(t, file("key.c", []byte("// a\n"+text)), "KEY-PEM-01"); len(found) != 1 || found[0].Line != 2 && name != "in C" {
			t.Errorf("%s: %v", name, found)
		}
	}
	for _, none := range []string{"-----BEGIN PRIVATE KEY-----", "-----BEGIN EC PRIVATE KEY-----\n...\n-----END EC PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\nQUFB\n-----END PRIVATE KEY-----", "-----BEGIN "} {
		if res, found := run(t, file("doc.txt", []byte(none)), "KEY-PEM-01"); res.Verdict != measure.Pass {
			t.Errorf("%q: %v", none, messages(found))
		}
	}
	locked := "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
	if _, found := run(t, file("k.pem", []byte(locked)), "KEY-PEM-01"); len(found) != 1 || found[0].Severity != finding.Medium {
		t.Errorf("encrypted: %v", found)
	}
}

func TestPrivateKeysInDER(t *testing.T) {
	k := forms(t)
	for name, der := range map[string][]byte{"SEC 1": k.sec1, "PKCS 8": k.pkcs8, "PKCS 1": k.pkcs1} {
		pair(t, "KEY-DER-01", image(within(der)), image(within(k.public)))
		if _, found := run(t, image(within(der)), "KEY-DER-01"); len(found) != 1 || found[0].Address != 0x8028 {
			t.Errorf("%s: %v", name, found)
		}
	}
	broken := append([]byte{}, k.pkcs1...)
	broken[40] ^= 1 // the modulus is no longer the product
	for _, none := range [][]byte{broken, k.sec1[:30], k.pkcs8[:60], []byte("0\x82\xff\xff\x02\x01\x00\x02")} {
		if res, found := run(t, image(within(none)), "KEY-DER-01"); res.Verdict != measure.Pass {
			t.Errorf("%x: %v", none[:8], messages(found))
		}
	}
}

// noise returns bytes like random ones, the same in each run.
func noise(t *testing.T, n int) []byte {
	t.Helper()
	var b []byte
	for i := 0; len(b) < n; i++ {
		sum := sha256.Sum256([]byte{byte(i)})
		b = append(b, sum[:]...)
	}
	return b[:n]
}

func TestRawKeys(t *testing.T) {
	scalar, point := ecNumbers(t)
	other, _ := ecNumbers(t)
	public := variable{"peer", point}
	// By the public key beside it, whatever its name.
	pair(t, "KEY-RAW-01", holds(public, variable{"blob", scalar}), holds(public, variable{"blob", other}))
	// By its name.
	pair(t, "KEY-RAW-01", holds(variable{"device_private_key", noise(t, 32)}), holds(variable{"device_public_key", noise(t, 32)}))
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	modulus := variable{"modulus", append([]byte{0x30, 0x82, 1, 10, 2, 0x82, 1, 1, 0}, append(r.N.Bytes(), 2, 3, 1, 0, 1)...)}
	pair(t, "KEY-RAW-01", holds(modulus, variable{"table", r.Primes[0].Bytes()}), holds(modulus, variable{"table", noise(t, 128)}))
	stripped := holds(variable{"blob", other})
	stripped.Programs[0].Stripped = true
	if res, _ := run(t, stripped, "KEY-RAW-01"); res.Verdict != measure.Unknown {
		t.Errorf("stripped: %+v", res)
	}
}

// ecNumbers returns the scalar and the point of a new key.
func ecNumbers(t *testing.T) (scalar, point []byte) {
	t.Helper()
	k, err := ecKey(t).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	return k.Bytes(), k.PublicKey().Bytes()
}

func TestKeyBlobs(t *testing.T) {
	pair(t, "KEY-BLOB-01", holds(variable{"aes_key", noise(t, 16)}), holds(variable{"aes_box", noise(t, 16)}))
	for _, harmless := range []variable{{"aes_key", make([]byte, 16)}, {"keymap", noise(t, 16)}, {"aes_key", []byte("0123456789abcdef")}, {"root_public_key", noise(t, 64)}, {"aes_key", noise(t, 20)}} {
		if res, found := run(t, holds(harmless), "KEY-BLOB-01"); res.Verdict != measure.Pass {
			t.Errorf("%s of %d bytes: %v", harmless.name, len(harmless.data), messages(found))
		}
	}
}

func TestCloudKeys(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(noise(t, 32))
	good := "HostName=hub.azure-devices.net;DeviceId=pump;x509=true"
	for _, bad := range []string{
		"HostName=hub.azure-devices.net;DeviceId=pump;SharedAccessKey=" + key,
		"DefaultEndpointsProtocol=https;AccountName=a;AccountKey=" + base64.StdEncoding.EncodeToString(noise(t, 64)),
		"SharedAccessSignature sr=hub%2Fdevices%2Fpump&sig=" + replace(key, "=", "%3D") + "&se=1700000000",
	} {
		pair(t, "KEY-CLOUD-01", image(within([]byte(bad))), image(within([]byte(good))))
		_, found := run(t, image(within([]byte(bad))), "KEY-CLOUD-01")
		if len(found) != 1 || strings.Contains(found[0].Message, key[4:20]) {
			t.Errorf("%v", messages(found))
		}
	}
	for _, none := range []string{"SharedAccessKey=%s", "SharedAccessKey=<key>", "SharedAccessKey=" + strings.Repeat("A", 43) + "=", "SharedAccessSignature sr=%s&sig=%s&se=%s"} {
		if res, found := run(t, image(within([]byte(none))), "KEY-CLOUD-01"); res.Verdict != measure.Pass {
			t.Errorf("%q: %v", none, messages(found))
		}
	}
}

func TestTokens(t *testing.T) {
	head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"pump-1","aud":"hub"}`))
	jwt := head + "." + claims + "." + base64.RawURLEncoding.EncodeToString(noise(t, 32))
	for _, bad := range []string{"AKIA" + "Q7WZ5KD3RT2XVB6N", jwt, "ghp_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5"} {
		pair(t, "KEY-TOKEN-01", file("config.ini", []byte("token="+bad+"\n")), file("config.ini", []byte("token=none\n")))
		if _, found := run(t, file("config.ini", []byte("a\ntoken="+bad+"\n")), "KEY-TOKEN-01"); len(found) != 1 || found[0].Line != 2 || strings.Contains(found[0].Message, bad[4:]) {
			t.Errorf("%v", found)
		}
	}
	for _, none := range []string{"AKIAIOSFODNN7EXAMPLE", "xAKIAQ7WZ5KD3RT2XVB6N", "eyJhbGciOiJIUzI1NiJ9", "ghp_short", "AKIAAAAAAAAAAAAAAAAA"} {
		if res, found := run(t, file("a.txt", []byte(" "+none+" ")), "KEY-TOKEN-01"); res.Verdict != measure.Pass {
			t.Errorf("%q: %v", none, messages(found))
		}
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	with := func(declaration string) *subject.Subject {
		return withPrograms(firmwareFor(t, declaration+"\nvoid start(void) { for (;;) sink += *(volatile u8 *)&wifi_password; }\n"))
	}
	pair(t, "KEY-TEXT-01", with(`const char wifi_password[] = "correct horse";`), with(`const char wifi_password[] = "%s";`))
	if _, found := run(t, with(`const char *volatile wifi_password = "correct horse";`), "KEY-TEXT-01"); len(found) != 1 || strings.Contains(found[0].Message, "horse") {
		t.Errorf("%v", messages(found))
	}
	pair(t, "KEY-TEXT-01", file("wpa.conf", []byte("network={\n\tssid=\"plant\"\n\tpsk=\"correct horse\"\n}\n")), file("wpa.conf", []byte("network={\n\tssid=\"plant\"\n\tkey_mgmt=WPA-EAP\n}\n")))
	pair(t, "KEY-TEXT-01", image(within([]byte("mqtts://pump:tr0ub4dor@broker.plant:8883"))), image(within([]byte("mqtts://broker.plant:8883"))))
	for _, none := range []string{"http://user:pass@example.com", "psk=%s", "password=<yours>", "upsk=12345678"} {
		if res, found := run(t, image(within([]byte(none))), "KEY-TEXT-01"); res.Verdict != measure.Pass {
			t.Errorf("%q: %v", none, messages(found))
		}
	}
}

// issue makes a certificate; edit may change what is asked for.
func issue(t *testing.T, key *ecdsa.PrivateKey, edit func(c, issuer *x509.Certificate)) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pump"}, NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(5, 0, 0), BasicConstraintsValid: true}
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "root"}, SubjectKeyId: []byte{1, 2, 3, 4}}
	edit(c, issuer)
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func TestCertificates(t *testing.T) {
	key := ecKey(t)
	at := func(der []byte) *subject.Subject {
		s := image(within(der))
		s.Declared.Now = noon
		return s
	}
	leaf := issue(t, key, func(c, i *x509.Certificate) {})
	self := issue(t, key, func(c, i *x509.Certificate) { *i = *c })
	root := issue(t, key, func(c, i *x509.Certificate) { c.IsCA = true; *i = *c })
	expired := issue(t, key, func(c, i *x509.Certificate) { c.NotAfter = noon.AddDate(0, 0, -1) })
	pair(t, "CRT-SELF-01", at(self), at(leaf))
	pair(t, "CRT-DATE-01", at(expired), at(leaf))
	pair(t, "CRT-DEVICE-01", at(leaf), at(root))
	if res, found := run(t, at(root), "CRT-SELF-01"); res.Verdict != measure.Pass {
		t.Errorf("a root: %v", messages(found))
	}
	beside := file("leaf.pem", []byte(pemOf("CERTIFICATE", leaf)))
	if res, found := run(t, beside, "CRT-DEVICE-01"); res.Verdict != measure.Pass {
		t.Errorf("beside the firmware: %v", messages(found))
	}
	if res, _ := run(t, beside, "CRT-DATE-01"); res.Verdict != measure.Unknown || !res.Applies {
		t.Errorf("without a time: %+v", res)
	}
	if res, _ := run(t, file("c.pem", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")), "CRT-WEAK-01"); res.Verdict != measure.Unknown || !res.Applies {
		t.Errorf("unreadable: %+v", res)
	}
	soon := issue(t, key, func(c, i *x509.Certificate) { c.NotAfter = noon.AddDate(0, 0, 30) })
	if _, found := run(t, at(soon), "CRT-DATE-01"); len(found) != 1 || found[0].Severity != finding.Medium {
		t.Errorf("%v", messages(found))
	}
}

func TestWeakCertificates(t *testing.T) {
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak := issue(t, small, func(c, i *x509.Certificate) {})
	strong := issue(t, ecKey(t), func(c, i *x509.Certificate) {})
	pair(t, "CRT-WEAK-01", image(within(weak)), image(within(strong)))
}

// Rules that search end soon on bytes made to look like keys everywhere.
func TestSearchesEnd(t *testing.T) {
	head := []byte{0x30, 0x82, 0x26, 0x00, 2, 1, 0, 2, 0x82, 0x12, 0x00}
	var b []byte
	for len(b) < 1<<20 {
		b = append(b, head...)
	}
	for _, id := range []string{"KEY-DER-01", "CRT-WEAK-01", "KEY-PEM-01"} {
		run(t, image(b), id)
	}
	run(t, file("a.txt", []byte(strings.Repeat("-----BEGIN PRIVATE KEY-----\n", 20_000)+"-----END PRIVATE KEY-----\n")), "KEY-PEM-01")
}
