package keys_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/device/keys"
	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/internal/swtpm/swtpmtest"
)

const counter = 0x01500010

func openWith(tpm transport.TPM, dir string, auth []byte) (*keys.TPM, error) {
	return keys.Open(keys.Config{TPM: tpm, Dir: dir, OwnerAuth: auth, EndorsementAuth: auth})
}

func open(t *testing.T, tpm transport.TPM, dir string) *keys.TPM {
	t.Helper()
	k, err := openWith(tpm, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func born(t *testing.T, k *keys.TPM) (*evidence.Birth, *keys.Key) {
	t.Helper()
	birth, key, err := k.Birth()
	if err != nil {
		t.Fatal(err)
	}
	return birth, key
}

// certificate issues a certificate for a key, signed by itself.
func certificate(t *testing.T, key crypto.Signer, serial int64) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "pump-01"},
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func akPublic(t *testing.T, birth *evidence.Birth) *attest.AKPublic {
	t.Helper()
	ak, err := attest.ParseAKPublic(birth.AKPublic)
	if err != nil {
		t.Fatal(err)
	}
	return ak
}

func verifyCertified(t *testing.T, birth *evidence.Birth, public []byte, c evidence.Certification, qualifying []byte) {
	t.Helper()
	params := attest.CertificationParameters{Public: public, CreateAttestation: c.Attest, CreateSignature: c.Signature}
	if err := params.Verify(attest.VerifyOpts{Public: akPublic(t, birth).Public, Hash: crypto.SHA256}); err != nil {
		t.Errorf("verify certification: %v", err)
	}
	said, err := tpm2.Unmarshal[tpm2.TPMSAttest](c.Attest)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(said.ExtraData.Buffer, qualifying) {
		t.Errorf("qualifying data %x, want %x", said.ExtraData.Buffer, qualifying)
	}
}

func TestEndorsementChainLeadsToTheMaker(t *testing.T) {
	m := swtpmtest.New(t)
	k := open(t, m.Connect(), t.TempDir())
	chain := k.EKChain()
	if len(chain) != 2 {
		t.Fatalf("the chain has %d certificates, want the leaf and its issuer", len(chain))
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := x509.ParseCertificate(chain[1])
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(m.CA.RootFile())
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(leaf.CheckSignatureFrom(issuer), issuer.CheckSignatureFrom(root)); err != nil {
		t.Error(err)
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](k.EKPublic())
	if err != nil {
		t.Fatal(err)
	}
	if public.Type != tpm2.TPMAlgRSA || public.ObjectAttributes != tpm2.RSAEKTemplate.ObjectAttributes {
		t.Errorf("EK %v %+v", public.Type, public.ObjectAttributes)
	}
}

// activate plays the hub: a secret that only this EK and this AK can decrypt.
func activate(t *testing.T, k *keys.TPM, birth *evidence.Birth) ([]byte, []byte, error) {
	t.Helper()
	ek, err := tpm2.Unmarshal[tpm2.TPMTPublic](birth.EKPublic)
	if err != nil {
		t.Fatal(err)
	}
	encapsulate, err := tpm2.ImportEncapsulationKey(ek)
	if err != nil {
		t.Fatal(err)
	}
	ak, err := tpm2.Unmarshal[tpm2.TPMTPublic](birth.AKPublic)
	if err != nil {
		t.Fatal(err)
	}
	name, err := tpm2.ObjectName(ak)
	if err != nil {
		t.Fatal(err)
	}
	want := []byte("0123456789abcdef0123456789abcdef")
	credential, secret, err := tpm2.CreateCredential(rand.Reader, encapsulate, name.Buffer, want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.Activate(credential, secret)
	return want, got, err
}

func TestBirth(t *testing.T) {
	m := swtpmtest.New(t)
	dir := t.TempDir()
	k := open(t, m.Connect(), dir)
	if _, err := k.BirthKey(); !errors.Is(err, keys.ErrNone) {
		t.Errorf("birth key before birth: %v", err)
	}
	birth, key := born(t, k)
	verifyCertified(t, birth, birth.BirthPublic, birth.Certify, nil)
	want, got, err := activate(t, k, birth)
	if err != nil || !bytes.Equal(want, got) {
		t.Errorf("activated %x, %v; want %x", got, err, want)
	}
	cert := certificate(t, key, 1)
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := parsed.CheckSignature(parsed.SignatureAlgorithm, parsed.RawTBSCertificate, parsed.Signature); err != nil {
		t.Error(err)
	}

	// Power goes and comes: the same keys, and nothing left in the TPM.
	m.Cut()
	k = open(t, m.Connect(), dir)
	again, same := born(t, k)
	if !bytes.Equal(again.AKPublic, birth.AKPublic) || !same.Public().(*ecdsa.PublicKey).Equal(key.Public()) {
		t.Error("the birth keys changed over a power cut")
	}
	if _, err := same.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
		t.Error(err)
	}
}

func TestActivateRefusesAnotherKeysChallenge(t *testing.T) {
	m := swtpmtest.New(t)
	k := open(t, m.Connect(), t.TempDir())
	birth, _ := born(t, k)
	birth.AKPublic = birth.BirthPublic // a challenge for a key that is not the AK
	if _, got, err := activate(t, k, birth); err == nil {
		t.Errorf("activated %x", got)
	}
	if _, err := k.Activate([]byte("no"), nil); err == nil {
		t.Error("activated garbage")
	}
}

func TestAttest(t *testing.T) {
	m := swtpmtest.New(t)
	k := open(t, m.Connect(), t.TempDir())
	if _, err := k.Attest(keys.Request{}); !errors.Is(err, keys.ErrNone) {
		t.Errorf("attest before birth: %v", err)
	}
	birth, _ := born(t, k)
	next, err := k.NewOperational()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.DefineCounter(counter); err != nil {
		t.Fatal(err)
	}
	value, err := k.IncrementCounter(counter)
	if err != nil {
		t.Fatal(err)
	}
	qualifying := identity.Sum([]byte("binding"))
	signed, err := k.Attest(keys.Request{Qualifying: qualifying, PCRs: []int{7, 0, 4, 4}, Counters: []uint32{counter}, Next: next})
	if err != nil {
		t.Fatal(err)
	}

	for _, bad := range []int{-1, 24} {
		if _, err := k.Attest(keys.Request{PCRs: []int{bad}}); err == nil {
			t.Errorf("quoted PCR %d", bad)
		}
	}
	var pcrs []attest.PCR
	for _, p := range signed.PCRs {
		pcrs = append(pcrs, attest.PCR{Index: p.Index, Digest: p.SHA256[:], DigestAlg: crypto.SHA256})
	}
	quote := attest.Quote{Quote: signed.Quote.Attest, Signature: signed.Quote.Signature}
	if err := akPublic(t, birth).Verify(quote, pcrs, qualifying[:]); err != nil {
		t.Errorf("verify quote: %v", err)
	}
	if len(pcrs) != 3 {
		t.Errorf("%d registers, want 3", len(pcrs))
	}
	verifyCertified(t, birth, signed.NextKey.Public, signed.NextKey.Certify, qualifying[:])
	verifyCounter(t, birth, signed.Counters, value, qualifying[:])
}

func verifyCounter(t *testing.T, birth *evidence.Birth, counters []evidence.Counter, value uint64, qualifying []byte) {
	t.Helper()
	if len(counters) != 1 {
		t.Fatalf("%d counters", len(counters))
	}
	public, err := tpm2.Unmarshal[tpm2.TPMSNVPublic](counters[0].Public)
	if err != nil {
		t.Fatal(err)
	}
	said, err := tpm2.Unmarshal[tpm2.TPMSAttest](counters[0].Certify.Attest)
	if err != nil {
		t.Fatal(err)
	}
	nv, err := said.Attested.NV()
	if err != nil {
		t.Fatal(err)
	}
	name, err := tpm2.NVName(public)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(name.Buffer, nv.IndexName.Buffer) || !bytes.Equal(said.ExtraData.Buffer, qualifying) {
		t.Error("the statement is about another index or request")
	}
	if got := new(big.Int).SetBytes(nv.NVContents.Buffer).Uint64(); got != value {
		t.Errorf("certified %d, want %d", got, value)
	}
	sig, err := tpm2.Unmarshal[tpm2.TPMTSignature](counters[0].Certify.Signature)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := sig.Signature.ECDSA()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(counters[0].Certify.Attest)
	if !ecdsa.Verify(akPublic(t, birth).Public.(*ecdsa.PublicKey), digest[:],
		new(big.Int).SetBytes(ec.SignatureR.Buffer), new(big.Int).SetBytes(ec.SignatureS.Buffer)) {
		t.Error("the signature does not verify")
	}
}

func TestCounterNeverGoesBack(t *testing.T) {
	m := swtpmtest.New(t)
	k := open(t, m.Connect(), t.TempDir())
	if _, err := k.ReadCounter(counter); err == nil {
		t.Error("read a counter that is not there")
	}
	var last uint64
	for range 3 {
		if err := k.DefineCounter(counter); err != nil {
			t.Fatal(err)
		}
		first, err := k.ReadCounter(counter)
		if err != nil || first < last {
			t.Fatalf("counter %d after %d, %v", first, last, err)
		}
		if last, err = k.IncrementCounter(counter); err != nil || last != first+1 {
			t.Fatalf("counter %d after %d, %v", last, first, err)
		}
		m.Cut()
		k = open(t, m.Connect(), t.TempDir())
	}
	if err := k.DefineCounter(0x01C00002); err == nil {
		t.Error("took a certificate for a counter")
	}
}

func TestOperationalKeyAndChainChangeTogether(t *testing.T) {
	m := swtpmtest.New(t)
	dir := t.TempDir()
	k := open(t, m.Connect(), dir)
	if _, err := k.Operational(); !errors.Is(err, keys.ErrNone) {
		t.Errorf("operational key before the first: %v", err)
	}
	var previous crypto.PublicKey
	for serial := range int64(2) {
		key, err := k.NewOperational()
		if err != nil {
			t.Fatal(err)
		}
		if previous != nil && key.Public().(*ecdsa.PublicKey).Equal(previous) {
			t.Fatal("a renewal did not make a new key")
		}
		chain := [][]byte{certificate(t, key, serial+1)}
		if err := k.Promote(key, chain); err != nil {
			t.Fatal(err)
		}
		m.Cut()
		k = open(t, m.Connect(), dir)
		now, err := k.Operational()
		if err != nil {
			t.Fatal(err)
		}
		if !now.Key.Public().(*ecdsa.PublicKey).Equal(key.Public()) || !bytes.Equal(now.Chain[0], chain[0]) {
			t.Error("the stored pair is another one")
		}
		if _, err := now.Key.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
			t.Error(err)
		}
		previous = key.Public()
	}
	other, err := k.NewOperational()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Promote(other, nil); err == nil {
		t.Error("stored a key without a certificate")
	}
	birth, _, err := k.Birth()
	if err != nil || birth == nil {
		t.Fatal(err)
	}
	key, err := k.BirthKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Promote(other, [][]byte{certificate(t, key, 9)}); err == nil {
		t.Error("stored a certificate of another key")
	}
}

func TestForeignKeysAreRefused(t *testing.T) {
	a, b := swtpmtest.New(t), swtpmtest.New(t)
	dir := t.TempDir()
	born(t, open(t, a.Connect(), dir))
	if _, _, err := open(t, b.Connect(), dir).Birth(); !errors.Is(err, keys.ErrForeign) {
		t.Errorf("keys of another TPM: %v", err)
	}
}

// lossy is a TPM connection that breaks at the n-th command, as when the
// program is killed there.
type lossy struct {
	transport.TPM
	left int
}

func (l *lossy) Send(in []byte) ([]byte, error) {
	if l.left--; l.left < 0 {
		return nil, errors.New("killed")
	}
	return l.TPM.Send(in)
}

// TestBirthSurvivesDeathAtEveryCommand kills birth at each command it sends;
// the next start must be born, with nothing of the dead one in the way.
func TestBirthSurvivesDeathAtEveryCommand(t *testing.T) {
	m := swtpmtest.New(t)
	tpm := m.Connect()
	dir := t.TempDir()
	for n := 0; ; n++ {
		if err := os.RemoveAll(filepath.Join(dir, "birth.json")); err != nil {
			t.Fatal(err)
		}
		dying, err := keys.Open(keys.Config{TPM: &lossy{tpm, n}, Dir: dir})
		if err == nil {
			_, _, err = dying.Birth()
		}
		k := open(t, tpm, dir)
		birth, _ := born(t, k)
		if want, got, err := activate(t, k, birth); err != nil || !bytes.Equal(want, got) {
			t.Fatalf("died at command %d, then: activated %x, %v", n, got, err)
		}
		if err == nil {
			return // it lived to the end
		}
	}
}

func TestSignersAreConcurrent(t *testing.T) {
	m := swtpmtest.New(t)
	k := open(t, m.Connect(), t.TempDir())
	_, key := born(t, k)
	digest := sha256.Sum256([]byte("x"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			sig, err := key.Sign(nil, digest[:], crypto.SHA256)
			if err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], sig) {
				t.Errorf("sign: %v", err)
			}
		})
	}
	wg.Wait()
	if _, err := key.Sign(nil, make([]byte, 48), crypto.SHA384); err == nil {
		t.Error("signed a SHA-384 digest")
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := keys.Open(keys.Config{Dir: t.TempDir()}); err == nil {
		t.Error("opened without a TPM")
	}
	if _, err := keys.Open(keys.Config{TPM: &lossy{}}); err == nil {
		t.Error("opened without a directory")
	}
}
