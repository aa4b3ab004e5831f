package board_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/appraise"
	"holdfast/birth"
	"holdfast/device/board/bus"
	"holdfast/device/board/virtual"
	"holdfast/device/keys"
	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/internal/swtpm"
	"holdfast/internal/testkit"
	"holdfast/mcuboot"
)

const counter = 0x01500010

// binding stands for evidence.Binding: the hub's challenge.
var binding = identity.Sum([]byte("binding"))

// TestMain lets the test binary be the firmware too.
func TestMain(m *testing.M) {
	if path := os.Getenv(bus.Variable); path != "" {
		run := firmware
		if len(os.Args) == 3 && os.Args[1] == updaterArg {
			run = func(path string) error { return updater(path, os.Args[2]) }
		}
		if err := run(path); err != nil {
			fmt.Fprintln(os.Stderr, "firmware:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// shown is what the firmware shows in one boot.
type shown struct {
	Begin       evidence.BeginRequest
	Attestation evidence.Attestation
}

// firmware is born, attests once, and waits for the end.
func firmware(path string) error {
	b, err := bus.Attach(path)
	if err != nil {
		return err
	}
	k, err := keys.Open(keys.Config{TPM: b.TPM, Dir: "."})
	if err != nil {
		return err
	}
	for _, index := range b.Counters {
		if err := k.DefineCounter(index); err != nil {
			return err
		}
	}
	born, key, err := k.Birth()
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "board"}}, key)
	if err != nil {
		return err
	}
	next, err := k.NewOperational()
	if err != nil {
		return err
	}
	signed, err := k.Attest(keys.Request{Qualifying: binding, PCRs: b.Boot.PCRs, Counters: b.Counters, Next: next})
	if err != nil {
		return err
	}
	claims, err := json.Marshal(evidence.Claims{Reset: b.Boot.ResetCause})
	if err != nil {
		return err
	}
	s := shown{
		Begin: evidence.BeginRequest{CSR: csr, TPM: born},
		Attestation: evidence.Attestation{Nonce: make([]byte, evidence.NonceSize), Quote: signed.Quote, PCRs: signed.PCRs,
			EventLog: b.Boot.EventLog, Counters: signed.Counters, NextKey: signed.NextKey, Claims: claims},
	}
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	<-ended
	return b.Close()
}

// world is a board and what an operator knows of it.
type world struct {
	t          *testing.T
	dir        string
	ca         swtpm.CA
	keyHash    identity.Digest
	references []appraise.Reference
}

func create(t *testing.T, verify bool) *world {
	t.Helper()
	testkit.Need(t, "swtpm")
	testkit.Need(t, "swtpm_setup")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := identity.KeyDigest(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "board")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, ca: swtpm.CA{Dir: t.TempDir()}, keyHash: hash}
	rom, err := virtual.ROMDigest()
	if err != nil {
		t.Fatal(err)
	}
	w.references = []appraise.Reference{{Group: "pumps", Kind: appraise.BootROM, Digest: rom, Name: "boot ROM"}}
	cfg := virtual.Config{Dir: dir, CA: w.ca, SlotA: w.build(1, key), SlotB: w.build(2, key), Settings: virtual.Settings{
		Fuses:    virtual.Fuses{KeyHash: hash, Verify: verify, DebugLock: true, Lifecycle: "deployed"},
		Counters: []uint32{counter},
	}}
	if err := virtual.Create(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// build makes an image and registers it.
func (w *world) build(major uint8, key *ecdsa.PrivateKey) []byte {
	w.t.Helper()
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		w.t.Fatal(err)
	}
	image, err := mcuboot.Build(virtual.Payload(program), mcuboot.Version{Major: major}, 1, key)
	if err != nil {
		w.t.Fatal(err)
	}
	parsed, err := mcuboot.Parse(image)
	if err != nil {
		w.t.Fatal(err)
	}
	w.references = append(w.references, appraise.Reference{Group: "pumps", Kind: appraise.Firmware,
		PCR: evidence.PCRFirmware, Digest: parsed.Digest, Name: "pump", Version: parsed.Version.String()})
	return image
}

// boot powers the board on, takes what the firmware shows, and powers it off.
func (w *world) boot() shown {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	r, console := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := virtual.Run(ctx, virtual.RunConfig{Dir: w.dir, Console: console})
		_ = console.CloseWithError(errors.Join(errors.New("the board is off"), err))
		done <- err
	}()
	var s shown
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		w.t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }() // ends with the board
	cancel()
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) appraise(s shown, previous *appraise.State) appraise.Outcome {
	return appraise.Appraise(appraise.Input{Evidence: s.Attestation, Binding: binding, AK: s.Begin.TPM.AKPublic,
		Endorsement: appraise.Software, Simulation: true, References: w.references, Previous: previous}, time.Now())
}

// facts are those of an appraisal that verifies.
func (w *world) facts(s shown, previous *appraise.State) (appraise.Facts, *appraise.State) {
	w.t.Helper()
	o := w.appraise(s, previous)
	if o.Failure != nil {
		w.t.Fatal(o.Failure)
	}
	if o.NextKey == nil || len(o.Facts.Missing) != 0 {
		w.t.Errorf("next key %v, missing %v", o.NextKey, o.Facts.Missing)
	}
	return o.Facts, &o.State
}

func TestBirthAndAttestation(t *testing.T) {
	w := create(t, true)
	first := w.boot()
	root := w.root()
	v, err := birth.Verify(first.Begin, []birth.Root{{Name: "simulated", Class: birth.Software, Cert: root}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if v.Class != birth.Software {
		t.Errorf("class %s", v.Class)
	}
	w.challenge(v)

	facts, state := w.facts(first, nil)
	image, ok := facts.Firmware()
	if !ok || image.Version != "1.0.0" || len(facts.Unknown) != 0 || len(facts.Refused) != 0 {
		t.Errorf("facts %+v", facts)
	}
	yes := true
	policy := appraise.BootPolicy{Verification: &yes, DebugLock: &yes, Lifecycle: "deployed", KeyHash: w.keyHash.String()}
	if diff := cmp.Diff(policy, facts.Policy); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
	if len(facts.Counters) != 1 || facts.Counters[0].Index != counter {
		t.Errorf("counters %+v", facts.Counters)
	}

	second := w.boot()
	if !bytes.Equal(first.Begin.TPM.BirthPublic, second.Begin.TPM.BirthPublic) {
		t.Error("the birth key changed over a boot")
	}
	_, later := w.facts(second, state)
	if o := w.appraise(first, later); o.Failure == nil || o.Failure.Step != appraise.StepClock {
		t.Errorf("evidence of the boot before: %v", o.Failure)
	}
}

// root is the certificate of the TPM maker's root.
func (w *world) root() *x509.Certificate {
	w.t.Helper()
	text, err := os.ReadFile(w.ca.RootFile())
	if err != nil {
		w.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		w.t.Fatal(err)
	}
	return cert
}

// challenge has the board's TPM answer the hub's challenge.
func (w *world) challenge(v *birth.Verified) {
	w.t.Helper()
	secret, credential, encrypted, err := v.Challenge()
	if err != nil {
		w.t.Fatal(err)
	}
	tpm, err := swtpm.Start(w.t.Context(), filepath.Join(w.dir, "tpm"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer tpm.Kill()
	conn, err := tpm.Open()
	if err != nil {
		w.t.Fatal(err)
	}
	k, err := keys.Open(keys.Config{TPM: conn, Dir: virtual.DataDir(w.dir)})
	if err != nil {
		w.t.Fatal(err)
	}
	if answer, err := k.Activate(credential, encrypted); err != nil || !bytes.Equal(answer, secret) {
		w.t.Errorf("the challenge was answered with %x, %v", answer, err)
	}
}

func TestRefusedSlotIsAFact(t *testing.T) {
	w := create(t, true)
	if err := virtual.Tamper(w.dir, virtual.SlotA); err != nil {
		t.Fatal(err)
	}
	facts, _ := w.facts(w.boot(), nil)
	image, _ := facts.Firmware()
	if image.Version != "2.0.0" || len(facts.Unknown) != 0 {
		t.Errorf("facts %+v", facts)
	}
	if diff := cmp.Diff([]string{"refused slot A: wrong hash"}, facts.Refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}

func TestModifiedFirmwareIsFound(t *testing.T) {
	w := create(t, false)
	if facts, _ := w.facts(w.boot(), nil); len(facts.Unknown) != 0 || *facts.Policy.Verification {
		t.Errorf("facts of the healthy board %+v", facts)
	}
	if err := virtual.Tamper(w.dir, virtual.SlotA); err != nil {
		t.Fatal(err)
	}
	facts, _ := w.facts(w.boot(), nil)
	image, _ := facts.Firmware()
	if len(facts.Unknown) != 1 || facts.Unknown[0].PCR != evidence.PCRFirmware || image.Name != "" {
		t.Errorf("facts of the modified board %+v", facts)
	}
}
