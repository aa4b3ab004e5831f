package mcuboot_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"os"
	"slices"
	"testing"

	"holdfast/identity"
	"holdfast/mcuboot"
)

var version = mcuboot.Version{Major: 1, Minor: 2, Revision: 3, Build: 4}

func newKey(t testing.TB) (*ecdsa.PrivateKey, identity.Digest) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := identity.KeyDigest(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, hash
}

func build(t testing.TB, payload []byte, key crypto.Signer) []byte {
	t.Helper()
	data, err := mcuboot.Build(payload, version, 7, key)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// vectorKey is the key of the images that imgtool made.
func vectorKey(t testing.TB) *ecdsa.PublicKey {
	t.Helper()
	block, _ := pem.Decode(read(t, "testdata/key.pub.pem"))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*ecdsa.PublicKey)
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func check(t *testing.T, img *mcuboot.Image, payload string) {
	t.Helper()
	if img.Version != version || img.SecurityCounter != 7 || string(img.Payload) != payload {
		t.Errorf("version %v, counter %d, payload %q", img.Version, img.SecurityCounter, img.Payload)
	}
}

func TestReadsImgtool(t *testing.T) {
	const payload = "payload of a vector, which no machine would run\n"
	key := vectorKey(t)
	hash, err := identity.KeyDigest(key)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mcuboot.Verify(read(t, "testdata/imgtool-full.bin"), hash)
	if err != nil {
		t.Fatal(err)
	}
	check(t, img, payload)
	if got := img.Digest.String(); got != "87ef5e4df5a66c4d434572abbf8eee78aa1272bedcf55149ccfccde48791ec92" {
		t.Errorf("digest %s is not the one imgtool prints", got)
	}
	for _, name := range []string{"testdata/imgtool-full.bin", "testdata/imgtool-hash.bin"} {
		img, err := mcuboot.VerifyWith(read(t, name), key)
		if err != nil {
			t.Fatal(name, err)
		}
		check(t, img, payload)
	}
	if _, err := mcuboot.Verify(read(t, "testdata/imgtool-hash.bin"), hash); !errors.Is(err, mcuboot.MissingKey) {
		t.Errorf("an image without its key: %v", err)
	}
}

func TestBuildVerify(t *testing.T) {
	key, hash := newKey(t)
	for _, payload := range []string{"", "payload"} {
		data := build(t, []byte(payload), key)
		img, err := mcuboot.Verify(append(data, bytes.Repeat([]byte{0xff}, 100)...), hash)
		if err != nil {
			t.Fatal(err)
		}
		check(t, img, payload)
		if img.Size != len(data) {
			t.Errorf("size %d, want %d", img.Size, len(data))
		}
	}
}

// tag encodes one tag.
func tag(kind uint16, value ...byte) []byte {
	out := binary.LittleEndian.AppendUint16(nil, kind)
	return append(binary.LittleEndian.AppendUint16(out, uint16(len(value))), value...)
}

// replace rewrites the tags behind the signed part (46 bytes header and
// payload, 12 of protected tags).
func replace(data []byte, tags ...[]byte) []byte {
	body := bytes.Join(tags, nil)
	out := binary.LittleEndian.AppendUint16(bytes.Clone(data[:signedEnd]), 0x6907)
	return append(binary.LittleEndian.AppendUint16(out, uint16(4+len(body))), body...)
}

const (
	payloadText  = "fourteen bytes"
	protectedAt  = 32 + len(payloadText)
	signedEnd    = protectedAt + 12
	hashAt       = signedEnd + 4
	keyAt        = hashAt + 4 + 32
	signatureAt  = keyAt + 4 + 91
	signatureEnd = signatureAt + 4 // its length varies
)

func TestVerifyRefuses(t *testing.T) {
	key, hash := newKey(t)
	other, _ := newKey(t)
	good := build(t, []byte(payloadText), key)
	hashTag, keyTag, sigTag := good[hashAt:keyAt], good[keyAt:signatureAt], good[signatureAt:]
	change := func(at int, to ...byte) []byte {
		data := bytes.Clone(good)
		copy(data[at:], to)
		return data
	}
	flip := func(at int) []byte { return change(at, good[at]^1) }
	for _, c := range []struct {
		name string
		data []byte
		want mcuboot.Refusal
	}{
		{"empty", nil, mcuboot.Truncated},
		{"half a header", good[:31], mcuboot.Truncated},
		{"bad magic", flip(0), mcuboot.NotAnImage},
		{"header too small", change(8, 31, 0), mcuboot.NotAnImage},
		{"header beyond the end", change(8, 0xff, 0xff), mcuboot.Truncated},
		{"payload beyond the end", change(12, 0, 0, 1, 0), mcuboot.Truncated},
		{"payload beyond the limit", change(12, 0xff, 0xff, 0xff, 0x7f), mcuboot.TooLarge},
		{"payload overflows", change(12, 0xff, 0xff, 0xff, 0xff), mcuboot.TooLarge},
		{"protected tags beyond the end", change(10, 0xff, 0xff), mcuboot.Truncated},
		{"protected tags of another size", change(protectedAt+2, 8, 0), mcuboot.Malformed},
		{"protected tags without magic", flip(protectedAt), mcuboot.Malformed},
		{"encrypted", change(16, 4), mcuboot.Unsupported},
		{"not bootable", change(16, 0x10), mcuboot.Unsupported},
		{"truncated payload", good[:40], mcuboot.Truncated},
		{"truncated tags", good[:len(good)-1], mcuboot.Truncated},
		{"tags without magic", flip(signedEnd), mcuboot.Malformed},
		{"tags too small", change(signedEnd+2, 3, 0), mcuboot.Malformed},
		{"tags beyond the end", change(signedEnd+2, 0xff, 0xff), mcuboot.Truncated},
		{"tag overflows its list", change(hashAt+2, 0xff, 0xff), mcuboot.Malformed},
		{"half a tag", replace(good, hashTag, keyTag, sigTag, []byte{1, 2}), mcuboot.Malformed},
		{"too many tags", replace(good, bytes.Repeat(tag(0xa0), 65)), mcuboot.Malformed},
		{"security counter of three bytes", change(protectedAt+4, 0x50, 0, 3, 0, 0, 0, 0, 0), mcuboot.Malformed},
		{"two hashes", replace(good, hashTag, hashTag, keyTag, sigTag), mcuboot.Duplicate},
		{"two keys", replace(good, hashTag, keyTag, keyTag, sigTag), mcuboot.Duplicate},
		{"two signatures", replace(good, hashTag, keyTag, sigTag, sigTag), mcuboot.Duplicate},
		{"two key hashes", replace(good, hashTag, keyTag, sigTag, tag(1), tag(1)), mcuboot.Duplicate},
		{"second counter unprotected", replace(good, hashTag, keyTag, sigTag, tag(0x50, 9, 0, 0, 0)), mcuboot.Duplicate},
		{"trailing byte", append(bytes.Clone(good), 0), mcuboot.Trailing},
		{"trailing behind erased flash", append(bytes.Clone(good), 0xff, 0xff, 0), mcuboot.Trailing},
		{"no hash", replace(good, keyTag, sigTag), mcuboot.MissingHash},
		{"no key", replace(good, hashTag, sigTag), mcuboot.MissingKey},
		{"no signature", replace(good, hashTag, keyTag), mcuboot.MissingSignature},
		{"payload changed", flip(40), mcuboot.WrongHash},
		{"version changed", flip(20), mcuboot.WrongHash},
		{"security counter changed", flip(protectedAt + 8), mcuboot.WrongHash},
		{"hash changed", flip(hashAt + 4), mcuboot.WrongHash},
		{"another key", build(t, []byte(payloadText), other), mcuboot.WrongKey},
		{"signature of another image", replace(good, hashTag, keyTag, build(t, nil, key)[signatureAt-len(payloadText):]), mcuboot.WrongSignature},
		{"signature changed", flip(signatureEnd + 10), mcuboot.WrongSignature},
		{"signature is not DER", replace(good, hashTag, keyTag, tag(0x22, 1, 2, 3)), mcuboot.WrongSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			img, err := mcuboot.Verify(c.data, hash)
			if !errors.Is(err, c.want) || img != nil {
				t.Errorf("got %v, %v; want %q", img, err, c.want)
			}
		})
	}
}

func TestUnprotectedCounterIsRefused(t *testing.T) {
	key, hash := newKey(t)
	good := build(t, []byte(payloadText), key)
	binary.LittleEndian.PutUint16(good[10:], 0) // no protected tags
	data := slices.Concat(good[:protectedAt], []byte{0x07, 0x69, 12, 0}, tag(0x50, 9, 0, 0, 0))
	if _, err := mcuboot.Verify(data, hash); !errors.Is(err, mcuboot.Unprotected) {
		t.Errorf("got %v", err)
	}
}

func TestVerifyWithRefuses(t *testing.T) {
	key, _ := newKey(t)
	other, _ := newKey(t)
	good := build(t, []byte(payloadText), key)
	if _, err := mcuboot.VerifyWith(good, &other.PublicKey); !errors.Is(err, mcuboot.WrongKey) {
		t.Errorf("another key: %v", err)
	}
	bare := replace(good, good[hashAt:keyAt], good[signatureAt:])
	if _, err := mcuboot.VerifyWith(bare, &key.PublicKey); !errors.Is(err, mcuboot.MissingKey) {
		t.Errorf("an image that does not name its key: %v", err)
	}
	good[40] ^= 1
	if _, err := mcuboot.VerifyWith(good, &key.PublicKey); !errors.Is(err, mcuboot.WrongHash) {
		t.Errorf("changed payload: %v", err)
	}
}

func TestVerifyRefusesOtherKindsOfKeys(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mcuboot.Build(nil, version, 1, key); err == nil {
		t.Error("built with P-384")
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mcuboot.Build(nil, version, 1, weak); err == nil {
		t.Error("built with RSA")
	}
	// The fuses name a key of a kind that the boot ROM cannot use.
	signer, _ := newKey(t)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	good := build(t, []byte(payloadText), signer)
	data := replace(good, good[hashAt:keyAt], tag(2, der...), good[signatureAt:])
	if _, err := mcuboot.Verify(data, identity.Sum(der)); !errors.Is(err, mcuboot.WrongKey) {
		t.Errorf("got %v", err)
	}
}

func TestVersion(t *testing.T) {
	for _, s := range []string{"0.0.0", "1.2.3", "255.255.65535", "1.2.3+4294967295"} {
		v, err := mcuboot.ParseVersion(s)
		if err != nil || v.String() != s {
			t.Errorf("%s: %v, %v", s, v, err)
		}
	}
	for _, s := range []string{"", "1", "1.2", "1.2.3.4", "1.2.3+0", "1.2.3+", "256.0.0", "01.2.3", "-1.0.0", "1.2.3 ", "1.2.65536", "v1.2.3"} {
		if v, err := mcuboot.ParseVersion(s); err == nil {
			t.Errorf("%q: took it for %v", s, v)
		}
	}
}

func FuzzParse(f *testing.F) {
	key, _ := newKey(f)
	f.Add(build(f, []byte(payloadText), key))
	f.Add(read(f, "testdata/imgtool-hash.bin"))
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := mcuboot.Parse(data)
		if err != nil {
			var r mcuboot.Refusal
			if !errors.As(err, &r) {
				t.Fatalf("%v is not a refusal", err)
			}
			return
		}
		if img.Size > len(data) || len(img.Payload) > img.Size {
			t.Fatalf("image of %d bytes in %d", img.Size, len(data))
		}
		_, _ = mcuboot.Verify(data, identity.Digest{}) // must not panic
	})
}

func TestVersionsCompare(t *testing.T) {
	ordered := []string{"0.0.1", "0.1.0", "1.0.0", "1.0.0+1", "1.0.1", "1.0.10", "1.2.0", "2.0.0"}
	for i, a := range ordered {
		for j, b := range ordered {
			v, err := mcuboot.ParseVersion(a)
			if err != nil {
				t.Fatal(err)
			}
			w, err := mcuboot.ParseVersion(b)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := v.Compare(w), min(1, max(-1, i-j)); got != want {
				t.Errorf("%s with %s: %d, want %d", a, b, got, want)
			}
		}
	}
}
