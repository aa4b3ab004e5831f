// Package appraisetest forges evidence for tests: what a virtual board's TPM
// would say, signed by a key that is not in any TPM, so that a test can change
// anything before it is signed.
package appraisetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"holdfast/appraise"
	"holdfast/evidence"
	"holdfast/identity"
)

// CounterIndex is the NV index of the board's counter.
const CounterIndex = 0x01800001

// Board is a board whose evidence a test shapes. New's board is healthy.
type Board struct {
	Key      Key // attestation key
	Next     Key // next operational key
	Clock    tpm2.TPMSClockInfo
	Firmware uint64 // of the TPM
	Counter  uint64
	Events   []appraise.Event
	Claims   evidence.Claims
	Quoted   []int
	Values   map[int]identity.Digest // of registers that Events alone do not lead to

	// Change, when set, alters a statement before it is signed.
	Change func(*tpm2.TPMSAttest)
}

// Key is an ECDSA P-256 key with the public area of a TPM key.
type Key struct {
	Template tpm2.TPMTPublic
	private  *ecdsa.PrivateKey
}

// NewKey makes a key: an attestation key if restricted, else a plain signing
// key.
func NewKey(t testing.TB, restricted bool) Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	scheme := tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull}
	if restricted {
		scheme = tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return Key{private: private, Template: tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgECC,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
			UserWithAuth: true, NoDA: true, Restricted: restricted, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256, Scheme: scheme,
			KDF: tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull}, Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}}),
	}}
}

// Public returns the TPMT_PUBLIC.
func (k Key) Public() []byte { return tpm2.Marshal(k.Template) }

// Digest returns the SHA-256 of the key's SubjectPublicKeyInfo.
func (k Key) Digest(t testing.TB) identity.Digest {
	t.Helper()
	d, err := identity.KeyDigest(&k.private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Sign signs a statement.
func (k Key) Sign(t testing.TB, statement tpm2.TPMSAttest) evidence.Certification {
	t.Helper()
	return k.SignBytes(t, tpm2.Marshal(statement))
}

// SignBytes signs what no TPM would.
func (k Key) SignBytes(t testing.TB, attest []byte) evidence.Certification {
	t.Helper()
	digest := sha256.Sum256(attest)
	r, s, err := ecdsa.Sign(rand.Reader, k.private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return evidence.Certification{Attest: attest, Signature: tpm2.Marshal(tpm2.TPMTSignature{
		SigAlg: tpm2.TPMAlgECDSA,
		Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{Hash: tpm2.TPMAlgSHA256,
			SignatureR: tpm2.TPM2BECCParameter{Buffer: r.Bytes()}, SignatureS: tpm2.TPM2BECCParameter{Buffer: s.Bytes()}}),
	})}
}

// Image, ROM and NewImage are what the healthy board boots, what boots it, and
// an image that no reference value knows.
var (
	ROM      = identity.Sum([]byte("boot ROM"))
	Image    = identity.Sum([]byte("image"))
	NewImage = identity.Sum([]byte("modified image"))
)

// References are the reference values of the healthy board's group.
func References(group identity.Group) []appraise.Reference {
	return []appraise.Reference{
		{Group: group, Kind: appraise.BootROM, PCR: 0, Digest: ROM, Name: "boot-rom", Version: "1.0.0"},
		{Group: group, Kind: appraise.Firmware, PCR: 4, Digest: Image, Name: "pump", Version: "1.2.0"},
	}
}

// New returns a healthy board.
func New(t testing.TB) *Board {
	t.Helper()
	return &Board{
		Key:      NewKey(t, true),
		Next:     NewKey(t, false),
		Clock:    tpm2.TPMSClockInfo{Clock: 10_000_000, ResetCount: 7, RestartCount: 2, Safe: true},
		Firmware: 0x20191023,
		Counter:  3,
		Events:   Log(true, true, "deployed", Image),
		Claims:   Claims(),
		Quoted:   []int{0, 4, 7, 11},
	}
}

// Claims are a healthy board's.
func Claims() evidence.Claims {
	return evidence.Claims{
		Runtime: "1.0.0", Clock: "floor", Reset: "power-on",
		Entropy:      evidence.Entropy{Source: "hwrng", Samples: 4096, RepetitionCount: true, AdaptiveProportion: true},
		Acceleration: []string{"aes", "sha"},
		Watchdog:     evidence.Watchdog{Armed: true, Timeout: 10, Checks: map[string]bool{"binary": true, "link": true}},
	}
}

// Measured makes an event whose digest is that of its data.
func Measured(pcr int, kind uint32, data []byte) appraise.Event {
	return appraise.Event{PCR: pcr, Type: kind, Digest: identity.Sum(data), Data: data}
}

// Log is a virtual board's, as docs/PROTOCOL.md has it.
func Log(verification, debugLock bool, lifecycle string, image identity.Digest) []appraise.Event {
	policy := func(name string, value []byte) appraise.Event {
		return Measured(7, evidence.EventVariableConfig, evidence.Variable(name, value))
	}
	key := identity.Sum([]byte("key"))
	events := []appraise.Event{
		Measured(0, evidence.EventCRTMVersion, evidence.UTF16("1.0.0")),
		{PCR: 0, Type: evidence.EventPostCode, Digest: ROM, Data: []byte("boot ROM")},
		policy(evidence.VariableVerification, flag(verification)),
		policy(evidence.VariableDebugLock, flag(debugLock)),
		policy(evidence.VariableLifecycle, []byte(lifecycle)),
		policy(evidence.VariableKeyHash, key[:]),
		{PCR: 4, Type: evidence.EventIPL, Digest: image, Data: []byte(`{"slot":"A","version":"1.2.0"}`)},
	}
	for pcr := range 8 {
		events = append(events, Measured(pcr, evidence.EventSeparator, make([]byte, 4)))
	}
	return events
}

// SecurityCounter are the events by which a boot ROM says where its counter of
// security versions is, and from which value on it counts.
func SecurityCounter(index uint32, base uint64) []appraise.Event {
	return []appraise.Event{
		Measured(7, evidence.EventVariableConfig, evidence.Variable(evidence.VariableCounterIndex, binary.BigEndian.AppendUint32(nil, index))),
		Measured(7, evidence.EventVariableConfig, evidence.Variable(evidence.VariableCounterBase, binary.BigEndian.AppendUint64(nil, base))),
	}
}

func flag(b bool) []byte {
	if b {
		return []byte{1}
	}
	return []byte{0}
}

// Encode writes events as a log.
func Encode(events []appraise.Event) []byte {
	var l evidence.EventLog
	for _, e := range events {
		l.AppendDigest(e.PCR, e.Type, e.Digest, e.Data)
	}
	return l.Bytes()
}

// Registers are the values that events lead to.
func Registers(events []appraise.Event, quoted []int) []evidence.PCR {
	var pcrs []evidence.PCR
	for _, i := range quoted {
		p := evidence.PCR{Index: i}
		for _, e := range events {
			if e.PCR == i && e.Type != evidence.EventNoAction {
				p.SHA256 = identity.Sum(append(p.SHA256[:], e.Digest[:]...))
			}
		}
		pcrs = append(pcrs, p)
	}
	return pcrs
}

// Attest makes the board's evidence for a nonce, a device id and a session.
func (b *Board) Attest(t testing.TB, nonce []byte, device identity.Device, exporter []byte) evidence.Attestation {
	t.Helper()
	claims, err := json.Marshal(b.Claims)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bound(t, nonce, claims, evidence.Binding(nonce, device, exporter, claims))
}

// Bound is Attest with qualifying data of the test's choice.
func (b *Board) Bound(t testing.TB, nonce, claims []byte, binding identity.Digest) evidence.Attestation {
	t.Helper()
	pcrs := Registers(b.Events, b.Quoted)
	for i, p := range pcrs {
		if v, ok := b.Values[p.Index]; ok {
			pcrs[i].SHA256 = v
		}
	}
	counter, value := CounterPublic(tpm2.TPMNTCounter), binary.BigEndian.AppendUint64(nil, b.Counter)
	next := b.Next.Public()
	return evidence.Attestation{
		Nonce:    nonce,
		PCRs:     pcrs,
		EventLog: Encode(b.Events),
		Claims:   claims,
		Quote: b.sign(t, binding, tpm2.TPMSTAttestQuote, tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRSelect: Selection(b.Quoted), PCRDigest: tpm2.TPM2BDigest{Buffer: pcrDigest(pcrs)}})),
		Counters: []evidence.Counter{{Public: counter, Certify: b.sign(t, binding, tpm2.TPMSTAttestNV,
			tpm2.NewTPMUAttest(tpm2.TPMSTAttestNV, &tpm2.TPMSNVCertifyInfo{
				IndexName: tpm2.TPM2BName{Buffer: Name(counter)}, NVContents: tpm2.TPM2BData{Buffer: value}}))}},
		NextKey: &evidence.CertifiedKey{Public: next, Certify: b.sign(t, binding, tpm2.TPMSTAttestCertify,
			tpm2.NewTPMUAttest(tpm2.TPMSTAttestCertify, &tpm2.TPMSCertifyInfo{Name: tpm2.TPM2BName{Buffer: Name(next)}}))},
	}
}

func (b *Board) sign(t testing.TB, binding identity.Digest, kind tpm2.TPMST, attested tpm2.TPMUAttest) evidence.Certification {
	s := tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: kind, ExtraData: tpm2.TPM2BData{Buffer: binding[:]},
		ClockInfo: b.Clock, FirmwareVersion: b.Firmware, Attested: attested,
	}
	if b.Change != nil {
		b.Change(&s)
	}
	return b.Key.Sign(t, s)
}

// CounterPublic is the TPMS_NV_PUBLIC of the board's index, of a type.
func CounterPublic(kind tpm2.TPMNT) []byte {
	return tpm2.Marshal(tpm2.TPMSNVPublic{NVIndex: CounterIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
		Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NT: kind, Written: true}})
}

// Selection selects registers of the SHA-256 bank.
func Selection(quoted []int) tpm2.TPMLPCRSelection {
	var s [3]byte
	for _, i := range quoted {
		s[i/8] |= 1 << (i % 8)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: s[:]}}}
}

func pcrDigest(pcrs []evidence.PCR) []byte {
	h := sha256.New()
	for _, p := range pcrs {
		h.Write(p.SHA256[:])
	}
	return h.Sum(nil)
}

// Name is the Name of a public area.
func Name(public []byte) []byte {
	d := sha256.Sum256(public)
	return append([]byte{0x00, 0x0B}, d[:]...)
}
