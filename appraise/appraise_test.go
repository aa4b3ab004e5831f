package appraise_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"holdfast/appraise"
	"holdfast/appraise/appraisetest"
	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/measure"
)

var (
	now      = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	nonce    = bytes.Repeat([]byte{1}, evidence.NonceSize)
	exporter = bytes.Repeat([]byte{2}, evidence.ExporterSize)
)

const device = identity.Device("pump-01")

// inputOf is what the hub would hand to Appraise for a board's evidence.
func inputOf(b *appraisetest.Board, att evidence.Attestation) appraise.Input {
	return appraise.Input{
		Evidence:    att,
		Binding:     evidence.Binding(att.Nonce, device, exporter, att.Claims),
		AK:          b.Key.Public(),
		Endorsement: appraise.Software,
		Simulation:  true,
		References:  appraisetest.References("pumps"),
	}
}

func row(t *testing.T, o appraise.Outcome, id measure.ID) measure.Row {
	t.Helper()
	i := slices.IndexFunc(o.Result.Rows, func(r measure.Row) bool { return r.Measure == id })
	if i < 0 {
		t.Fatalf("no row %s", id)
	}
	return o.Result.Rows[i]
}

// want checks one row: verdict, grade and a part of the reason.
func want(t *testing.T, o appraise.Outcome, id measure.ID, v measure.Verdict, g measure.Grade, reason string) {
	t.Helper()
	r := row(t, o, id)
	if r.Verdict != v || r.Grade != g || !strings.Contains(r.Reason, reason) || !r.Time.Equal(now) {
		t.Errorf("%s: %s %s %q, want %s %s %q", id, r.Verdict, r.Grade, r.Reason, v, g, reason)
	}
}

func TestHealthyBoard(t *testing.T) {
	b := appraisetest.New(t)
	o := appraise.Appraise(inputOf(b, b.Attest(t, nonce, device, exporter)), now)
	if o.Failure != nil || !o.Result.Verified {
		t.Fatal(o.Failure)
	}
	want(t, o, measure.IdentityAttestation, measure.Pass, measure.Attested, "software TPM")
	want(t, o, measure.FirmwareSecureBoot, measure.Pass, measure.Attested, "booted pump 1.2.0")
	want(t, o, measure.AppDebug, measure.Pass, measure.Attested, "deployed")
	want(t, o, measure.CryptoEntropy, measure.Pass, measure.Claimed, "hwrng")
	want(t, o, measure.CryptoAcceleration, measure.Pass, measure.Claimed, "aes, sha")
	want(t, o, measure.AppWatchdog, measure.Pass, measure.Claimed, "reset cause: power-on")
	if o.NextKey == nil || *o.NextKey != b.Next.Digest(t) {
		t.Error("the next key is not the certified one")
	}
	if got := o.State.Counters; len(got) != 1 || got[0] != (appraise.Counter{Index: appraisetest.CounterIndex, Value: 3}) {
		t.Errorf("counters %v", got)
	}
	if o.State.Clock.ResetCount != 7 || o.State.Clock.Milliseconds != 10_000_000 || !o.State.Clock.Safe {
		t.Errorf("clock %+v", o.State.Clock)
	}
	if c, ok := o.Facts.Firmware(); !ok || c.Digest != appraisetest.Image || c.Version != "1.2.0" {
		t.Errorf("firmware %+v", c)
	}
	if o.Facts.Platform != appraise.Board {
		t.Errorf("platform %q", o.Facts.Platform)
	}
}

func TestRefusedSlotIsReported(t *testing.T) {
	b := appraisetest.New(t)
	refused := appraisetest.Measured(4, evidence.EventAction, []byte("refused slot A: bad signature"))
	b.Events = slices.Insert(b.Events, 6, refused)
	o := appraise.Appraise(inputOf(b, b.Attest(t, nonce, device, exporter)), now)
	want(t, o, measure.FirmwareSecureBoot, measure.Pass, measure.Attested, "refused slot A: bad signature")
	if !slices.Equal(o.Facts.Refused, []string{"refused slot A: bad signature"}) {
		t.Errorf("refused %q", o.Facts.Refused)
	}
}

// A software TPM proves nothing where the group is not one of simulated
// devices.
func TestGradeFollowsEndorsement(t *testing.T) {
	for _, c := range []struct {
		class      appraise.Class
		simulation bool
		want       measure.Grade
	}{
		{appraise.Hardware, false, measure.Attested},
		{appraise.Hardware, true, measure.Attested},
		{appraise.Software, true, measure.Attested},
		{appraise.Software, false, measure.Claimed},
		{"", true, measure.Claimed},
	} {
		b := appraisetest.New(t)
		in := inputOf(b, b.Attest(t, nonce, device, exporter))
		in.Endorsement, in.Simulation = c.class, c.simulation
		o := appraise.Appraise(in, now)
		want(t, o, measure.IdentityAttestation, measure.Pass, c.want, "")
		want(t, o, measure.FirmwareSecureBoot, measure.Pass, c.want, "")
	}
}

// TestWithoutALog: the TPM is believed, the boot is not: a device that
// withholds its log loses what the log would have proved.
func TestWithoutALog(t *testing.T) {
	b := appraisetest.New(t)
	in := inputOf(b, b.Attest(t, nonce, device, exporter))
	in.Evidence.EventLog = nil
	o := appraise.Appraise(in, now)
	if o.Failure != nil || !o.Result.Verified || o.State.Clock == (appraise.Clock{}) {
		t.Fatalf("%+v", o)
	}
	want(t, o, measure.IdentityAttestation, measure.Fail, measure.Attested, "no event log")
	want(t, o, measure.FirmwareSecureBoot, measure.Unknown, measure.None, "no event log")
	want(t, o, measure.AppDebug, measure.Unknown, measure.None, "")
	want(t, o, measure.CryptoEntropy, measure.Pass, measure.Claimed, "")
}

// TestRefuses has one near miss for each step: healthy evidence, but for one
// thing.
func TestRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		board func(*testing.T, *appraisetest.Board) // before it attests
		after func(*testing.T, *appraisetest.Board, *appraise.Input)
		step  appraise.Step
	}{
		"claims too long": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.Claims = bytes.Repeat([]byte(" "), appraise.MaxClaims+1)
		}, step: appraise.StepForm},
		"claims not JSON": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.Claims = []byte("{")
		}, step: appraise.StepForm},
		"log too long": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.EventLog = make([]byte, appraise.MaxEventLog+1)
		}, step: appraise.StepForm},
		"too many counters": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.Counters = make([]evidence.Counter, appraise.MaxCounters+1)
		}, step: appraise.StepForm},

		"no AK":         {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) { in.AK = nil }, step: appraise.StepAK},
		"AK with tail":  {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) { in.AK = append(in.AK, 0) }, step: appraise.StepAK},
		"AK is no AK":   {after: func(_ *testing.T, b *appraisetest.Board, in *appraise.Input) { in.AK = b.Next.Public() }, step: appraise.StepAK},
		"AK can leave":  {board: withAK(func(a *tpm2.TPMAObject) { a.FixedTPM = false }), step: appraise.StepAK},
		"AK can move":   {board: withAK(func(a *tpm2.TPMAObject) { a.FixedParent = false }), step: appraise.StepAK},
		"AK imported":   {board: withAK(func(a *tpm2.TPMAObject) { a.SensitiveDataOrigin = false }), step: appraise.StepAK},
		"AK decrypts":   {board: withAK(func(a *tpm2.TPMAObject) { a.Decrypt = true }), step: appraise.StepAK},
		"AK unscheming": {board: func(t *testing.T, b *appraisetest.Board) { b.Key = unrestrictedScheme(t) }, step: appraise.StepAK},

		"foreign AK": {after: func(t *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.AK = appraisetest.NewKey(t, true).Public()
		}, step: appraise.StepSignature},
		"signature changed": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.Quote.Signature[len(in.Evidence.Quote.Signature)-1] ^= 1
		}, step: appraise.StepSignature},
		"signature with tail": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.Quote.Signature = append(in.Evidence.Quote.Signature, 0)
		}, step: appraise.StepSignature},
		"no signature": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.Quote.Signature = nil
		}, step: appraise.StepSignature},
		"quote changed": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.Quote.Attest[40] ^= 1
		}, step: appraise.StepSignature},
		"quote is another statement": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.Quote = in.Evidence.Counters[0].Certify
		}, step: appraise.StepSignature},
		"not made by a TPM": {board: change(tpm2.TPMSTAttestQuote, func(s *tpm2.TPMSAttest) { s.Magic = 0xff544346 }), step: appraise.StepSignature},

		"wrong nonce": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Binding = evidence.Binding(bytes.Repeat([]byte{9}, 32), device, exporter, in.Evidence.Claims)
		}, step: appraise.StepBinding},
		"another session": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Binding = evidence.Binding(nonce, device, bytes.Repeat([]byte{9}, 32), in.Evidence.Claims)
		}, step: appraise.StepBinding},
		"another device": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Binding = evidence.Binding(nonce, "pump-02", exporter, in.Evidence.Claims)
		}, step: appraise.StepBinding},
		"claims changed": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.Claims = bytes.Replace(in.Evidence.Claims, []byte("4096"), []byte("9999"), 1)
			in.Binding = evidence.Binding(nonce, device, exporter, in.Evidence.Claims)
		}, step: appraise.StepBinding},

		"register left out": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.PCRs = in.Evidence.PCRs[1:]
		}, step: appraise.StepPCRs},
		"register added": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.PCRs = append(in.Evidence.PCRs, evidence.PCR{Index: 12})
		}, step: appraise.StepPCRs},
		"register twice": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.PCRs = append(in.Evidence.PCRs, in.Evidence.PCRs[3])
		}, step: appraise.StepPCRs},
		"register below zero": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.PCRs[0].Index = -8
		}, step: appraise.StepPCRs},
		"register beyond all": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.PCRs[3].Index = 1 << 40
		}, step: appraise.StepPCRs},
		"register changed": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.PCRs[1].SHA256[0] ^= 1
		}, step: appraise.StepPCRs},
		"another bank": {board: change(tpm2.TPMSTAttestQuote, func(s *tpm2.TPMSAttest) {
			q, _ := s.Attested.Quote()
			q.PCRSelect.PCRSelections[0].Hash = tpm2.TPMAlgSHA1
		}), step: appraise.StepPCRs},
		"two banks": {board: change(tpm2.TPMSTAttestQuote, func(s *tpm2.TPMSAttest) {
			q, _ := s.Attested.Quote()
			q.PCRSelect.PCRSelections = append(q.PCRSelect.PCRSelections, q.PCRSelect.PCRSelections[0])
		}), step: appraise.StepPCRs},
		"PCR 0 not quoted":  {board: func(_ *testing.T, b *appraisetest.Board) { b.Quoted = []int{4, 7, 11} }, step: appraise.StepRequired},
		"PCR 4 not quoted":  {board: func(_ *testing.T, b *appraisetest.Board) { b.Quoted = []int{0, 7, 11} }, step: appraise.StepRequired},
		"PCR 7 not quoted":  {board: func(_ *testing.T, b *appraisetest.Board) { b.Quoted = []int{0, 4, 11} }, step: appraise.StepRequired},
		"PCR 11 not quoted": {board: func(_ *testing.T, b *appraisetest.Board) { b.Quoted = []int{0, 4, 7} }, step: appraise.StepRequired},
		"nothing quoted":    {board: func(_ *testing.T, b *appraisetest.Board) { b.Quoted = nil }, step: appraise.StepRequired},

		"log cut short": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.EventLog = in.Evidence.EventLog[:len(in.Evidence.EventLog)-1]
		}, step: appraise.StepEventLog},
		"a log of nothing": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) { in.Evidence.EventLog = []byte{0} }, step: appraise.StepEventLog},
		"event left out": {after: func(_ *testing.T, b *appraisetest.Board, in *appraise.Input) {
			in.Evidence.EventLog = appraisetest.Encode(b.Events[:6])
		}, step: appraise.StepReplay},
		"events swapped": {after: func(_ *testing.T, b *appraisetest.Board, in *appraise.Input) {
			e := slices.Clone(b.Events)
			e[2], e[3] = e[3], e[2]
			in.Evidence.EventLog = appraisetest.Encode(e)
		}, step: appraise.StepReplay},
		"digest replaced by a known one": {board: func(_ *testing.T, b *appraisetest.Board) { b.Events[6].Digest = appraisetest.NewImage },
			after: func(_ *testing.T, b *appraisetest.Board, in *appraise.Input) {
				e := slices.Clone(b.Events)
				e[6].Digest = appraisetest.Image
				in.Evidence.EventLog = appraisetest.Encode(e)
			}, step: appraise.StepReplay},
		"register without events": {board: func(_ *testing.T, b *appraisetest.Board) {
			b.Events = append(b.Events, appraise.Event{PCR: 11, Type: evidence.EventTag, Digest: appraisetest.NewImage})
		}, after: func(_ *testing.T, b *appraisetest.Board, in *appraise.Input) {
			in.Evidence.EventLog = appraisetest.Encode(b.Events[:len(b.Events)-1])
		}, step: appraise.StepReplay},

		"index is no counter": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.Counters[0].Public = appraisetest.CounterPublic(tpm2.TPMNTOrdinary)
		}, step: appraise.StepCounter},
		"counter of another index": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.Counters[0].Public[3] ^= 1
		}, step: appraise.StepCounter},
		"counter twice": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.Counters = append(in.Evidence.Counters, in.Evidence.Counters[0])
		}, step: appraise.StepCounter},
		"counter of another quote": {after: func(t *testing.T, b *appraisetest.Board, in *appraise.Input) {
			in.Evidence.Counters = b.Attest(t, bytes.Repeat([]byte{9}, 32), device, exporter).Counters
		}, step: appraise.StepCounter},
		"counter signed by another TPM": {after: func(t *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.Counters = appraisetest.New(t).Attest(t, nonce, device, exporter).Counters
		}, step: appraise.StepCounter},
		"part of the counter": {board: change(tpm2.TPMSTAttestNV, func(s *tpm2.TPMSAttest) {
			nv, _ := s.Attested.NV()
			nv.NVContents.Buffer = nv.NVContents.Buffer[4:]
		}), step: appraise.StepCounter},
		"counter goes back": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Previous = &appraise.State{Counters: []appraise.Counter{{Index: appraisetest.CounterIndex, Value: 4}}}
		}, step: appraise.StepCounter},
		"counter disappears": {after: func(_ *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Previous = &appraise.State{Counters: []appraise.Counter{{Index: 0x01800002, Value: 1}}}
		}, step: appraise.StepCounter},

		"next key can leave":    {board: withNext(func(a *tpm2.TPMAObject) { a.FixedTPM = false }), step: appraise.StepNextKey},
		"next key can move":     {board: withNext(func(a *tpm2.TPMAObject) { a.FixedParent = false }), step: appraise.StepNextKey},
		"next key imported":     {board: withNext(func(a *tpm2.TPMAObject) { a.SensitiveDataOrigin = false }), step: appraise.StepNextKey},
		"next key without auth": {board: withNext(func(a *tpm2.TPMAObject) { a.UserWithAuth = false }), step: appraise.StepNextKey},
		"next key restricted":   {board: withNext(func(a *tpm2.TPMAObject) { a.Restricted = true }), step: appraise.StepNextKey},
		"next key decrypts":     {board: withNext(func(a *tpm2.TPMAObject) { a.Decrypt = true }), step: appraise.StepNextKey},
		"next key cannot sign":  {board: withNext(func(a *tpm2.TPMAObject) { a.SignEncrypt = false }), step: appraise.StepNextKey},
		"next key is the AK":    {board: func(_ *testing.T, b *appraisetest.Board) { b.Next = b.Key }, step: appraise.StepNextKey},
		"another key certified": {after: func(t *testing.T, _ *appraisetest.Board, in *appraise.Input) {
			in.Evidence.NextKey.Public = appraisetest.NewKey(t, false).Public()
		}, step: appraise.StepNextKey},
		"next key by a foreign AK": {after: func(t *testing.T, b *appraisetest.Board, in *appraise.Input) {
			other := appraisetest.New(t)
			other.Next = b.Next
			in.Evidence.NextKey = other.Attest(t, nonce, device, exporter).NextKey
		}, step: appraise.StepNextKey},
		"next key of another quote": {after: func(t *testing.T, b *appraisetest.Board, in *appraise.Input) {
			in.Evidence.NextKey = b.Attest(t, bytes.Repeat([]byte{9}, 32), device, exporter).NextKey
		}, step: appraise.StepNextKey},
	} {
		t.Run(name, func(t *testing.T) {
			b := appraisetest.New(t)
			if c.board != nil {
				c.board(t, b)
			}
			in := inputOf(b, b.Attest(t, nonce, device, exporter))
			if c.after != nil {
				c.after(t, b, &in)
			}
			o := appraise.Appraise(in, now)
			if o.Failure == nil || o.Failure.Step != c.step {
				t.Fatalf("failure %v, want step %s", o.Failure, c.step)
			}
			want(t, o, measure.IdentityAttestation, measure.Fail, measure.Observed, string(c.step))
			want(t, o, measure.FirmwareSecureBoot, measure.Unknown, measure.None, "")
			want(t, o, measure.CryptoEntropy, measure.Unknown, measure.None, "")
			if o.Result.Verified || o.NextKey != nil {
				t.Error("something is believed of refused evidence")
			}
		})
	}
}

func withAK(f func(*tpm2.TPMAObject)) func(*testing.T, *appraisetest.Board) {
	return func(_ *testing.T, b *appraisetest.Board) { f(&b.Key.Template.ObjectAttributes) }
}

func withNext(f func(*tpm2.TPMAObject)) func(*testing.T, *appraisetest.Board) {
	return func(_ *testing.T, b *appraisetest.Board) { f(&b.Next.Template.ObjectAttributes) }
}

func unrestrictedScheme(t *testing.T) appraisetest.Key {
	k := appraisetest.NewKey(t, false)
	k.Template.ObjectAttributes.Restricted = true
	return k
}

// change alters statements of one type before they are signed.
func change(kind tpm2.TPMST, f func(*tpm2.TPMSAttest)) func(*testing.T, *appraisetest.Board) {
	return func(_ *testing.T, b *appraisetest.Board) {
		b.Change = func(s *tpm2.TPMSAttest) {
			if s.Type == kind {
				f(s)
			}
		}
	}
}

func TestClockNeverGoesBack(t *testing.T) {
	old := appraise.Clock{ResetCount: 7, RestartCount: 2, Milliseconds: 10_000_000, Safe: true}
	for name, c := range map[string]struct {
		old, now appraise.Clock
		ok       bool
	}{
		"same":                            {old, old, true},
		"later":                           {old, appraise.Clock{ResetCount: 7, RestartCount: 2, Milliseconds: 10_000_001, Safe: true}, true},
		"resumed":                         {old, appraise.Clock{ResetCount: 7, RestartCount: 3, Milliseconds: 10_000_001, Safe: true}, true},
		"reset":                           {old, appraise.Clock{ResetCount: 8, Milliseconds: 10_000_001, Safe: true}, true},
		"reset, some lost":                {old, appraise.Clock{ResetCount: 8, Milliseconds: 9_000_000}, true},
		"reset, lost the limit":           {old, appraise.Clock{ResetCount: 8, Milliseconds: 10_000_000 - 1<<22}, true},
		"reset, lost more":                {old, appraise.Clock{ResetCount: 8, Milliseconds: 10_000_000 - 1<<22 - 1}, false},
		"reset, lost, yet safe":           {old, appraise.Clock{ResetCount: 8, Milliseconds: 9_000_000, Safe: true}, false},
		"clock back":                      {old, appraise.Clock{ResetCount: 7, RestartCount: 2, Milliseconds: 9_999_999, Safe: true}, false},
		"clock back, unsafe, no reset":    {old, appraise.Clock{ResetCount: 7, RestartCount: 2, Milliseconds: 9_999_999}, false},
		"resumed, clock back":             {old, appraise.Clock{ResetCount: 7, RestartCount: 3, Milliseconds: 9_999_999}, false},
		"restart back":                    {old, appraise.Clock{ResetCount: 7, RestartCount: 1, Milliseconds: 10_000_001, Safe: true}, false},
		"reset back":                      {old, appraise.Clock{ResetCount: 6, RestartCount: 9, Milliseconds: 99_000_000, Safe: true}, false},
		"cleared":                         {old, appraise.Clock{Safe: true}, false},
		"obfuscated count wraps":          {appraise.Clock{ResetCount: 1<<32 - 1, RestartCount: 5}, appraise.Clock{ResetCount: 0, Milliseconds: 1}, true},
		"obfuscated count wraps back":     {appraise.Clock{}, appraise.Clock{ResetCount: 1<<32 - 1, Milliseconds: 1}, false},
		"obfuscated restarts wrap":        {appraise.Clock{RestartCount: 1<<32 - 1}, appraise.Clock{RestartCount: 0, Milliseconds: 1}, true},
		"clock of a forger, far forward":  {appraise.Clock{}, appraise.Clock{Milliseconds: 1<<64 - 1, Safe: true}, true},
		"clock of a forger, and then low": {appraise.Clock{Milliseconds: 1<<64 - 1}, appraise.Clock{ResetCount: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := appraisetest.New(t)
			b.Clock = tpm2.TPMSClockInfo{Clock: c.now.Milliseconds, ResetCount: c.now.ResetCount, RestartCount: c.now.RestartCount, Safe: c.now.Safe}
			in := inputOf(b, b.Attest(t, nonce, device, exporter))
			in.Previous = &appraise.State{Clock: c.old}
			o := appraise.Appraise(in, now)
			if c.ok && o.Failure != nil || !c.ok && (o.Failure == nil || o.Failure.Step != appraise.StepClock) {
				t.Errorf("failure %v", o.Failure)
			}
		})
	}
}

// TestJudges has boots that verify and are not healthy.
func TestJudges(t *testing.T) {
	unknownImage := appraisetest.NewImage.String()
	type expected struct {
		id      measure.ID
		verdict measure.Verdict
		reason  string
	}
	policy := func(name string, value ...byte) appraise.Event {
		return appraisetest.Measured(7, evidence.EventVariableConfig, evidence.Variable(name, value))
	}
	for name, c := range map[string]struct {
		events []appraise.Event
		change func(*appraisetest.Board)
		rows   []expected
	}{
		"unknown image": {events: appraisetest.Log(true, true, "deployed", appraisetest.NewImage), rows: []expected{
			{measure.IdentityAttestation, measure.Fail, unknownImage}, {measure.FirmwareSecureBoot, measure.Fail, unknownImage},
			{measure.AppDebug, measure.Pass, ""}}},
		"unknown image, unverified": {events: appraisetest.Log(false, true, "deployed", appraisetest.NewImage), rows: []expected{
			{measure.IdentityAttestation, measure.Fail, unknownImage}, {measure.FirmwareSecureBoot, measure.Fail, unknownImage}}},
		"verification off": {events: appraisetest.Log(false, true, "deployed", appraisetest.Image), rows: []expected{
			{measure.IdentityAttestation, measure.Pass, ""}, {measure.FirmwareSecureBoot, measure.Fail, "does not verify"}}},
		"debug port open": {events: appraisetest.Log(true, false, "deployed", appraisetest.Image), rows: []expected{
			{measure.IdentityAttestation, measure.Pass, ""}, {measure.AppDebug, measure.Fail, "debug port is open"}}},
		"in development": {events: appraisetest.Log(true, true, "development", appraisetest.Image), rows: []expected{
			{measure.AppDebug, measure.Fail, "development"}}},
		"nothing measured": {events: []appraise.Event{}, rows: []expected{
			{measure.IdentityAttestation, measure.Fail, "lacks"}, {measure.FirmwareSecureBoot, measure.Fail, "lacks"},
			{measure.AppDebug, measure.Unknown, ""}}},
		"unknown boot ROM": {change: func(b *appraisetest.Board) { b.Events[1].Digest = appraisetest.NewImage }, rows: []expected{
			{measure.IdentityAttestation, measure.Fail, "PCR 0"}, {measure.FirmwareSecureBoot, measure.Fail, unknownImage},
			{measure.AppDebug, measure.Unknown, "boot ROM"}}},
		"boot ROM hides": {change: func(b *appraisetest.Board) { b.Events = slices.Delete(b.Events, 1, 2) }, rows: []expected{
			{measure.IdentityAttestation, measure.Fail, "a known boot ROM"}, {measure.AppDebug, measure.Unknown, "boot ROM"}}},
		"image hides": {change: func(b *appraisetest.Board) { b.Events = slices.Delete(b.Events, 6, 7) }, rows: []expected{
			{measure.IdentityAttestation, measure.Fail, "a booted image"}}},
		"no debug state": {change: func(b *appraisetest.Board) { b.Events = slices.Delete(b.Events, 3, 4) }, rows: []expected{
			{measure.IdentityAttestation, measure.Fail, "board/DebugLock"}}},
		"no separator": {change: func(b *appraisetest.Board) { b.Events = b.Events[:7] }, rows: []expected{
			{measure.IdentityAttestation, measure.Fail, "the separator of PCR 0"}}},

		// What runs after the boot code can extend the registers too.
		"policy again, after the separator": {change: func(b *appraisetest.Board) {
			b.Events = append(appraisetest.Log(false, true, "deployed", appraisetest.Image), policy(evidence.VariableVerification, 1))
		}, rows: []expected{{measure.IdentityAttestation, measure.Fail, "unknown measurement"}, {measure.FirmwareSecureBoot, measure.Fail, "unknown measurement"}}},
		"policy twice": {change: func(b *appraisetest.Board) {
			b.Events = slices.Insert(appraisetest.Log(false, true, "deployed", appraisetest.Image), 3, policy(evidence.VariableVerification, 1))
		}, rows: []expected{{measure.IdentityAttestation, measure.Fail, "unknown measurement"}, {measure.FirmwareSecureBoot, measure.Fail, ""}}},
		"known image after an unknown one": {change: func(b *appraisetest.Board) {
			b.Events = append(appraisetest.Log(true, true, "deployed", appraisetest.NewImage), b.Events[6])
		}, rows: []expected{{measure.IdentityAttestation, measure.Fail, unknownImage}}},
		"separator twice": {change: func(b *appraisetest.Board) {
			b.Events = append(b.Events, appraisetest.Measured(4, evidence.EventSeparator, make([]byte, 4)))
		}, rows: []expected{{measure.IdentityAttestation, measure.Fail, "unknown measurement"}}},
		"separator of an error": {change: func(b *appraisetest.Board) {
			b.Events[7] = appraisetest.Measured(0, evidence.EventSeparator, []byte{1, 0, 0, 0})
		}, rows: []expected{{measure.IdentityAttestation, measure.Fail, "unknown measurement"}}},
		"policy of neither 0 nor 1": {change: func(b *appraisetest.Board) { b.Events[2] = policy(evidence.VariableVerification, 2) },
			rows: []expected{{measure.IdentityAttestation, measure.Fail, "unknown measurement"}, {measure.FirmwareSecureBoot, measure.Fail, ""}}},
		"policy under a strange name": {change: func(b *appraisetest.Board) { b.Events = slices.Insert(b.Events, 2, policy("Strange", 1)) },
			rows: []expected{{measure.IdentityAttestation, measure.Fail, "unknown measurement"}}},
		"endless known images": {change: func(b *appraisetest.Board) {
			b.Events = append(b.Events, slices.Repeat([]appraise.Event{b.Events[6]}, 100)...)
		}, rows: []expected{{measure.IdentityAttestation, measure.Fail, "and others"}}},
		"unknown manifest": {change: func(b *appraisetest.Board) {
			b.Events = append(b.Events, appraisetest.Measured(11, evidence.EventTag, []byte("manifest")))
		}, rows: []expected{{measure.IdentityAttestation, measure.Fail, "PCR 11"}}},

		// An event's type and data are the sender's to choose.
		"code shown as a note": {change: func(b *appraisetest.Board) {
			code := append([]byte{0x3d, 0xb8, 0xf3, 0x96}, make([]byte, 64)...)
			b.Events[6] = appraisetest.Measured(4, evidence.EventAction, code)
		}, rows: []expected{{measure.IdentityAttestation, measure.Fail, "unknown measurement"}, {measure.FirmwareSecureBoot, measure.Fail, ""}}},
		"code shown as a version": {change: func(b *appraisetest.Board) {
			b.Events[1] = appraisetest.Measured(0, evidence.EventCRTMVersion, []byte{0x3d, 0xb8, 0xf3, 0x96})
		}, rows: []expected{{measure.IdentityAttestation, measure.Fail, "unknown measurement"}}},
		"known digest, another register": {change: func(b *appraisetest.Board) { b.Events[6].Digest = appraisetest.ROM }, rows: []expected{
			{measure.IdentityAttestation, measure.Fail, appraisetest.ROM.String()}}},
		"note with the data of another": {change: func(b *appraisetest.Board) {
			b.Events[6].Type, b.Events[6].Digest, b.Events[6].Data = evidence.EventAction, appraisetest.NewImage, []byte("refused slot A: no")
		}, rows: []expected{{measure.IdentityAttestation, measure.Fail, unknownImage}}},

		"runtime claims other firmware": {change: func(b *appraisetest.Board) { b.Claims.Firmware.Digest = unknownImage }, rows: []expected{
			{measure.IdentityAttestation, measure.Fail, "was not measured"}, {measure.FirmwareSecureBoot, measure.Pass, ""}}},
		"runtime claims nonsense": {change: func(b *appraisetest.Board) { b.Claims.Firmware.Digest = "\x00\x1bno" }, rows: []expected{
			{measure.IdentityAttestation, measure.Fail, "??no"}}},
		"runtime claims rightly": {change: func(b *appraisetest.Board) { b.Claims.Firmware.Digest = appraisetest.Image.String() }, rows: []expected{
			{measure.IdentityAttestation, measure.Pass, ""}}},

		"traced":               {change: func(b *appraisetest.Board) { b.Claims.DebuggerSeen = true }, rows: []expected{{measure.AppDebug, measure.Fail, "traced"}}},
		"entropy repeats":      {change: func(b *appraisetest.Board) { b.Claims.Entropy.RepetitionCount = false }, rows: []expected{{measure.CryptoEntropy, measure.Fail, "repetition"}}},
		"entropy is biased":    {change: func(b *appraisetest.Board) { b.Claims.Entropy.AdaptiveProportion = false }, rows: []expected{{measure.CryptoEntropy, measure.Fail, "adaptive"}}},
		"entropy not tested":   {change: func(b *appraisetest.Board) { b.Claims.Entropy.Samples = 100 }, rows: []expected{{measure.CryptoEntropy, measure.Fail, "100 samples"}}},
		"no acceleration":      {change: func(b *appraisetest.Board) { b.Claims.Acceleration = nil }, rows: []expected{{measure.CryptoAcceleration, measure.Fail, ""}}},
		"watchdog off":         {change: func(b *appraisetest.Board) { b.Claims.Watchdog.Armed = false }, rows: []expected{{measure.AppWatchdog, measure.Fail, "not armed"}}},
		"watchdog fed blindly": {change: func(b *appraisetest.Board) { b.Claims.Watchdog.Checks = nil }, rows: []expected{{measure.AppWatchdog, measure.Fail, "without checks"}}},
		"watchdog check fails": {change: func(b *appraisetest.Board) { b.Claims.Watchdog.Checks["link"] = false }, rows: []expected{{measure.AppWatchdog, measure.Fail, "link"}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := appraisetest.New(t)
			if c.events != nil {
				b.Events = c.events
			}
			if c.change != nil {
				c.change(b)
			}
			in := inputOf(b, b.Attest(t, nonce, device, exporter))
			if len(b.Events) == 0 { // an empty log still has a header
				in.Evidence.EventLog = appraisetest.Encode([]appraise.Event{{PCR: 0, Type: evidence.EventNoAction}})
			}
			o := appraise.Appraise(in, now)
			if o.Failure != nil {
				t.Fatal(o.Failure)
			}
			for _, w := range c.rows {
				got := row(t, o, w.id)
				if got.Verdict != w.verdict || !strings.Contains(got.Reason, w.reason) {
					t.Errorf("%s: %s %q, want %s %q", w.id, got.Verdict, got.Reason, w.verdict, w.reason)
				}
			}
		})
	}
}

func TestReferenceCheck(t *testing.T) {
	ok := appraise.Reference{Group: "pumps", Kind: appraise.Firmware, PCR: 4, Name: "pump", Version: "1"}
	if err := ok.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*appraise.Reference){
		"group":    func(r *appraise.Reference) { r.Group = "NO" },
		"kind":     func(r *appraise.Reference) { r.Kind = "x" },
		"register": func(r *appraise.Reference) { r.PCR = 5 },
		"negative": func(r *appraise.Reference) { r.Kind, r.PCR = appraise.Other, -1 },
		"dynamic":  func(r *appraise.Reference) { r.Kind, r.PCR = appraise.Other, 17 },
		"no name":  func(r *appraise.Reference) { r.Name = "" },
		"long":     func(r *appraise.Reference) { r.Version = strings.Repeat("1", 129) },
		"not text": func(r *appraise.Reference) { r.Name = "\xff" },
	} {
		r := ok
		change(&r)
		if r.Check() == nil {
			t.Errorf("%s: %+v is accepted", name, r)
		}
	}
}

func TestFactsHaveStableJSON(t *testing.T) {
	b := appraisetest.New(t)
	o := appraise.Appraise(inputOf(b, b.Attest(t, nonce, device, exporter)), now)
	text, err := json.Marshal(o.Facts)
	if err != nil {
		t.Fatal(err)
	}
	var back appraise.Facts
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if c, ok := back.Firmware(); !ok || c.Name != "pump" {
		t.Errorf("facts came back as %s", text)
	}
}
