package appraise_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"

	"holdfast/appraise"
	"holdfast/appraise/appraisetest"
	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/measure"
	captured "holdfast/test/evidence"
)

func read(t testing.TB, name string) captured.Capture {
	t.Helper()
	c, err := captured.Read("../test/evidence/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// uefiReferences are the reference values of the captured machines: firmware
// volumes, image and the sections of the image, which the boot stub measures.
func uefiReferences(t testing.TB, c captured.Capture) []appraise.Reference {
	t.Helper()
	events, err := appraise.ParseEventLog(c.Attestation.EventLog)
	if err != nil {
		t.Fatal(err)
	}
	const blob, application = 0x80000008, 0x80000003
	var refs []appraise.Reference
	for _, e := range events {
		r := appraise.Reference{Group: "gateways", PCR: e.PCR, Digest: e.Digest, Version: "1"}
		switch {
		case e.PCR == 0 && e.Type == blob:
			r.Kind, r.Name = appraise.BootROM, "OVMF"
		case e.PCR == 4 && e.Type == application:
			r.Kind, r.Name = appraise.Firmware, "image"
		case e.PCR == 11:
			r.Kind, r.Name = appraise.Other, "section"
		default:
			continue
		}
		if !slices.Contains(refs, r) {
			refs = append(refs, r)
		}
	}
	return refs
}

// The image that the firmware measured is the one that was signed: its reference
// value comes from the signature, not from the log.
func TestUEFIImageIsTheSignedOne(t *testing.T) {
	text, err := os.ReadFile("../test/evidence/image.sha256")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := identity.ParseDigest(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"uefi-on", "uefi-off"} {
		o := appraise.Appraise(uefiInput(t, read(t, name)), now)
		if len(o.Facts.Booted) == 0 || o.Facts.Booted[0].Digest != signed {
			t.Errorf("%s: booted %+v, signed %s", name, o.Facts.Booted, signed)
		}
	}
}

func uefiInput(t testing.TB, c captured.Capture) appraise.Input {
	return appraise.Input{Evidence: c.Attestation, Binding: c.Binding(), AK: c.AKPublic,
		Endorsement: appraise.Software, Simulation: true, References: uefiReferences(t, c)}
}

func TestUEFISecureBootOn(t *testing.T) {
	o := appraise.Appraise(uefiInput(t, read(t, "uefi-on")), now)
	if o.Failure != nil {
		t.Fatal(o.Failure)
	}
	want(t, o, measure.IdentityAttestation, measure.Pass, measure.Attested, "every measurement is known")
	want(t, o, measure.FirmwareSecureBoot, measure.Pass, measure.Attested, "booted image 1")
	want(t, o, measure.AppDebug, measure.Unknown, measure.None, "")
	if o.Facts.Platform != appraise.UEFI || o.NextKey == nil || len(o.State.Counters) != 1 || o.State.Counters[0].Value == 0 {
		t.Errorf("facts %+v", o.Facts)
	}
}

func TestUEFISecureBootOff(t *testing.T) {
	o := appraise.Appraise(uefiInput(t, read(t, "uefi-off")), now)
	if o.Failure != nil {
		t.Fatal(o.Failure)
	}
	want(t, o, measure.IdentityAttestation, measure.Pass, measure.Attested, "")
	want(t, o, measure.FirmwareSecureBoot, measure.Fail, measure.Attested, "Secure Boot is off")
}

// Without its reference value each piece of code that ran is named as unknown.
func TestUEFIUnknownCode(t *testing.T) {
	c := read(t, "uefi-on")
	for i, r := range uefiReferences(t, c) {
		in := uefiInput(t, c)
		in.References = slices.Delete(in.References, i, i+1)
		o := appraise.Appraise(in, now)
		want(t, o, measure.IdentityAttestation, measure.Fail, measure.Attested, r.Digest.String())
		want(t, o, measure.FirmwareSecureBoot, measure.Fail, measure.Attested, r.Digest.String())
	}
}

// TestUEFIJudges changes the captured boot, under a key of ours.
func TestUEFIJudges(t *testing.T) {
	c := read(t, "uefi-on")
	captured, err := appraise.ParseEventLog(c.Attestation.EventLog)
	if err != nil {
		t.Fatal(err)
	}
	const driver, variable, authority = 0x80000004, 0x80000001, 0x800000E0
	at := func(pcr int, kind uint32) int {
		return slices.IndexFunc(captured, func(e appraise.Event) bool { return e.PCR == pcr && e.Type == kind })
	}
	for name, c := range map[string]struct {
		change func(*appraisetest.Board)
		reason string // empty: passes
	}{
		"as it was":         {func(*appraisetest.Board) {}, ""},
		"drivers not shown": {func(b *appraisetest.Board) { b.Quoted = []int{0, 4, 7, 11} }, "the separator of PCR 2"},
		"unknown driver": {func(b *appraisetest.Board) {
			b.Events = slices.Insert(b.Events, 0, appraise.Event{PCR: 2, Type: driver, Digest: appraisetest.NewImage})
		}, appraisetest.NewImage.String()},
		"no key was used": {func(b *appraisetest.Board) {
			i := at(7, authority)
			b.Events = slices.Delete(b.Events, i, i+1)
		}, "the key that Secure Boot verified"},
		"a second policy": {func(b *appraisetest.Board) {
			b.Events = append(b.Events, b.Events[at(7, variable)])
		}, "unknown measurement"},
		"a board's policy beside it": {func(b *appraisetest.Board) {
			b.Events = slices.Insert(b.Events, 0, appraisetest.Measured(7, variable, evidence.Variable(evidence.VariableVerification, []byte{1})))
		}, "a boot policy"},
		"a debugger": {func(b *appraisetest.Board) {
			b.Events = slices.Insert(b.Events, 0, appraisetest.Measured(7, 0x80000007, []byte("UEFI Debug Mode")))
		}, "unknown measurement"},
	} {
		t.Run(name, func(t *testing.T) {
			b := appraisetest.New(t)
			b.Events, b.Quoted = slices.Clone(captured), []int{0, 2, 4, 7, 11}
			c.change(b)
			in := inputOf(b, b.Attest(t, nonce, device, exporter))
			in.References = uefiReferences(t, read(t, "uefi-on"))
			o := appraise.Appraise(in, now)
			verdict := measure.Fail
			if c.reason == "" {
				verdict = measure.Pass
			}
			want(t, o, measure.IdentityAttestation, verdict, measure.Attested, c.reason)
			want(t, o, measure.FirmwareSecureBoot, verdict, measure.Attested, "")
		})
	}
}

// A captured quote is worth nothing in another session, for another device or
// under another key.
func TestUEFIRelayed(t *testing.T) {
	on, off := read(t, "uefi-on"), read(t, "uefi-off")
	for name, c := range map[string]struct {
		change func(*appraise.Input)
		step   appraise.Step
	}{
		"session": {func(in *appraise.Input) {
			in.Binding = evidence.Binding(on.Attestation.Nonce, on.Device, make([]byte, 32), on.Attestation.Claims)
		}, appraise.StepBinding},
		"device": {func(in *appraise.Input) {
			in.Binding = evidence.Binding(on.Attestation.Nonce, "board-02", on.Exporter, on.Attestation.Claims)
		}, appraise.StepBinding},
		"key":      {func(in *appraise.Input) { in.AK = off.AKPublic }, appraise.StepSignature},
		"log":      {func(in *appraise.Input) { in.Evidence.EventLog = off.Attestation.EventLog }, appraise.StepReplay},
		"values":   {func(in *appraise.Input) { in.Evidence.PCRs = off.Attestation.PCRs }, appraise.StepPCRs},
		"counters": {func(in *appraise.Input) { in.Evidence.Counters = off.Attestation.Counters }, appraise.StepCounter},
		"next key": {func(in *appraise.Input) { in.Evidence.NextKey = off.Attestation.NextKey }, appraise.StepNextKey},
	} {
		in := uefiInput(t, on)
		c.change(&in)
		if o := appraise.Appraise(in, now); o.Failure == nil || o.Failure.Step != c.step {
			t.Errorf("%s: failure %v, want step %s", name, o.Failure, c.step)
		}
	}
}

// Our reading of a log agrees with go-attestation's.
func TestEventLogAgainstOracle(t *testing.T) {
	for _, name := range []string{"uefi-on", "uefi-off"} {
		c := read(t, name)
		ours, err := appraise.ParseEventLog(c.Attestation.EventLog)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := attest.ParseEventLog(c.Attestation.EventLog)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(oracle(theirs), ours); diff != "" {
			t.Errorf("%s: (-go-attestation +ours)\n%s", name, diff)
		}
	}
}

func oracle(l *attest.EventLog) []appraise.Event {
	var out []appraise.Event
	for _, e := range l.Events(attest.HashSHA256) {
		v := appraise.Event{PCR: e.Index, Type: uint32(e.Type), Data: e.Data}
		copy(v.Digest[:], e.Digest)
		out = append(out, v)
	}
	return out
}

// The captured endorsement chain leads to the captured maker's root, and the
// EK certificate is of the captured EK.
func TestCapturedEndorsement(t *testing.T) {
	for _, name := range []string{"on", "off"} {
		c := read(t, "uefi-"+name)
		cert, err := x509.ParseCertificate(c.EKChain[0])
		if err != nil {
			t.Fatal(err)
		}
		cert.UnhandledCriticalExtensions = nil // the TPM's make and model as directory name (TCG EK Credential Profile)
		text, err := os.ReadFile("../test/evidence/ca-" + name + ".pem")
		if err != nil {
			t.Fatal(err)
		}
		roots, middle := x509.NewCertPool(), x509.NewCertPool()
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			ca, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if ca.Subject.String() == ca.Issuer.String() {
				roots.AddCert(ca)
			} else {
				middle.AddCert(ca)
			}
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: middle, CurrentTime: cert.NotBefore,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		public, err := tpm2.Unmarshal[tpm2.TPMTPublic](c.EKPublic)
		if err != nil {
			t.Fatal(err)
		}
		ek, err := tpm2.Pub(*public)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := identity.KeyDigest(ek)
		if b, _ := identity.KeyDigest(cert.PublicKey); a != b {
			t.Errorf("%s: the certificate is of another key", name)
		}
	}
}
