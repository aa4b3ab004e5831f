package keys_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/internal/swtpm/swtpmtest"
)

func hierarchy(h tpm2.TPMHandle) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: h, Auth: tpm2.PasswordAuth(nil)}
}

// evict removes the persistent RSA endorsement key, which real TPMs seldom have.
func evict(t *testing.T, tpm transport.TPM) {
	t.Helper()
	const handle = 0x81010001
	public, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(handle)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.EvictControl{Auth: hierarchy(tpm2.TPMRHOwner), PersistentHandle: handle,
		ObjectHandle: tpm2.NamedHandle{Handle: handle, Name: public.Name}}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
}

// undefine removes an NV index of the maker's.
func undefine(t *testing.T, tpm transport.TPM, index tpm2.TPMHandle) {
	t.Helper()
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.NVUndefineSpace{AuthHandle: hierarchy(tpm2.TPMRHPlatform),
		NVIndex: tpm2.NamedHandle{Handle: index, Name: public.NVName}}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
}

// define stores data at an NV index as makers do.
func define(t *testing.T, tpm transport.TPM, index tpm2.TPMHandle, data []byte) {
	t.Helper()
	if _, err := (tpm2.NVDefineSpace{AuthHandle: hierarchy(tpm2.TPMRHPlatform), PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(data)),
		Attributes: tpm2.TPMANV{PPWrite: true, PPRead: true, AuthRead: true, PlatformCreate: true, NoDA: true},
	})}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.NVWrite{AuthHandle: hierarchy(tpm2.TPMRHPlatform), Data: tpm2.TPM2BMaxNVBuffer{Buffer: data},
		NVIndex: tpm2.NamedHandle{Handle: index, Name: public.NVName}}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
}

func TestEndorsementKeyIsMadeAgain(t *testing.T) {
	m := swtpmtest.New(t)
	tpm := m.Connect()
	before := open(t, tpm, t.TempDir()).EKPublic()
	evict(t, tpm)
	k := open(t, tpm, t.TempDir())
	if !bytes.Equal(k.EKPublic(), before) || len(k.EKChain()) != 2 {
		t.Error("the endorsement key changed")
	}
	birth, _ := born(t, k)
	if want, got, err := activate(t, k, birth); err != nil || !bytes.Equal(got, want) {
		t.Errorf("activated %x, %v", got, err)
	}
}

func TestEndorsementKeyWithoutCertificate(t *testing.T) {
	m := swtpmtest.New(t)
	tpm := m.Connect()
	undefine(t, tpm, 0x01C00002)
	k := open(t, tpm, t.TempDir())
	if len(k.EKChain()) != 0 {
		t.Errorf("a chain of %d certificates without a leaf", len(k.EKChain()))
	}
	birth, _ := born(t, k)
	if want, got, err := activate(t, k, birth); err != nil || !bytes.Equal(got, want) {
		t.Errorf("activated %x, %v", got, err)
	}
}

// eccCertificate makes a certificate of the TPM's P-256 endorsement key, or of
// another one.
func eccCertificate(t *testing.T, tpm transport.TPM, another bool) []byte {
	t.Helper()
	maker, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := any(&maker.PublicKey)
	if !another {
		made, err := tpm2.CreatePrimary{PrimaryHandle: hierarchy(tpm2.TPMRHEndorsement), InPublic: tpm2.New2B(tpm2.ECCEKTemplate)}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (tpm2.FlushContext{FlushHandle: made.ObjectHandle}).Execute(tpm); err != nil {
			t.Fatal(err)
		}
		public, err := made.OutPublic.Contents()
		if err != nil {
			t.Fatal(err)
		}
		if key, err = tpm2.Pub(*public); err != nil {
			t.Fatal(err)
		}
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key, maker)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestECCEndorsementKey(t *testing.T) {
	m := swtpmtest.New(t)
	tpm := m.Connect()
	undefine(t, tpm, 0x01C00002)
	der := eccCertificate(t, tpm, false)
	define(t, tpm, 0x01C0000A, append(bytes.Clone(der), 0xff, 0xff)) // padded, as some makers do
	k := open(t, tpm, t.TempDir())
	if chain := k.EKChain(); len(chain) != 2 || !bytes.Equal(chain[0], der) {
		t.Errorf("chain of %d certificates", len(chain))
	}
	birth, _ := born(t, k)
	if want, got, err := activate(t, k, birth); err != nil || !bytes.Equal(got, want) {
		t.Errorf("activated %x, %v", got, err)
	}
}

func TestOpenRefusesACertificateOfAnotherKey(t *testing.T) {
	m := swtpmtest.New(t)
	tpm := m.Connect()
	undefine(t, tpm, 0x01C00002)
	define(t, tpm, 0x01C0000A, eccCertificate(t, tpm, true))
	if _, err := openWith(tpm, t.TempDir(), nil); err == nil {
		t.Error("opened with a certificate of another key")
	}
	undefine(t, tpm, 0x01C0000A)
	define(t, tpm, 0x01C0000A, []byte("not DER"))
	if _, err := openWith(tpm, t.TempDir(), nil); err == nil {
		t.Error("opened with what is no certificate")
	}
}

func TestOpenUsesHierarchyAuthorisations(t *testing.T) {
	m := swtpmtest.New(t)
	tpm := m.Connect()
	secret := []byte("secret")
	evict(t, tpm) // so that the endorsement hierarchy is needed too
	for _, h := range []tpm2.TPMHandle{tpm2.TPMRHOwner, tpm2.TPMRHEndorsement} {
		if _, err := (tpm2.HierarchyChangeAuth{AuthHandle: hierarchy(h), NewAuth: tpm2.TPM2BAuth{Buffer: secret}}).Execute(tpm); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openWith(tpm, t.TempDir(), nil); err == nil {
		t.Error("made a storage root key without the owner's authorisation")
	}
	k, err := openWith(tpm, t.TempDir(), secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.DefineCounter(counter); err != nil {
		t.Error(err)
	}
	birth, _ := born(t, k)
	if want, got, err := activate(t, k, birth); err != nil || !bytes.Equal(got, want) {
		t.Errorf("activated %x, %v", got, err)
	}
}
