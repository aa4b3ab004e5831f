package appraise_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/appraise"
	"holdfast/appraise/appraisetest"
	"holdfast/evidence"
)

// FuzzEventLog: no log makes the parser panic, and whatever it accepts
// go-attestation reads in the same way.
func FuzzEventLog(f *testing.F) {
	f.Add(read(f, "uefi-on").Attestation.EventLog)
	f.Add(read(f, "uefi-off").Attestation.EventLog)
	f.Add(appraisetest.Encode(appraisetest.Log(true, true, "deployed", appraisetest.Image)))
	f.Add(appraisetest.Encode([]appraise.Event{{PCR: 0, Type: evidence.EventNoAction, Data: []byte("StartupLocality\x00\x03")}}))
	f.Fuzz(func(t *testing.T, log []byte) {
		ours, err := appraise.ParseEventLog(log)
		if err != nil {
			return
		}
		theirs, err := attest.ParseEventLog(log)
		if err != nil {
			t.Skip(err) // algorithms and versions that only we pass over
		}
		measured := cmpopts.IgnoreSliceElements(func(e appraise.Event) bool { return e.Type == evidence.EventNoAction })
		if diff := cmp.Diff(oracle(theirs), ours, measured, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

// FuzzAppraise: no evidence makes the appraiser panic, and none but the signed
// one verifies.
func FuzzAppraise(f *testing.F) {
	b := appraisetest.New(f)
	healthy := b.Attest(f, nonce, device, exporter)
	uefi := read(f, "uefi-on")
	for _, a := range []evidence.Attestation{healthy, uefi.Attestation} {
		text, err := json.Marshal(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, b.Key.Public())
		f.Add(text, uefi.AKPublic)
	}
	quotes := map[string]bool{string(healthy.Quote.Attest): true, string(uefi.Attestation.Quote.Attest): true}
	f.Fuzz(func(t *testing.T, text, ak []byte) {
		var a evidence.Attestation
		if json.Unmarshal(text, &a) != nil {
			return
		}
		for _, in := range []appraise.Input{
			{Evidence: a, AK: ak, Binding: evidence.Binding(nonce, device, exporter, a.Claims), References: appraisetest.References("pumps")},
			{Evidence: a, AK: uefi.AKPublic, Binding: uefi.Binding(), Previous: &appraise.State{}},
		} {
			if o := appraise.Appraise(in, now); o.Failure == nil && !quotes[string(a.Quote.Attest)] {
				t.Fatalf("a quote that nobody signed verifies: %s", text)
			}
		}
	})
}

// FuzzStructures reaches the decoders of TPM structures behind the signatures:
// whatever bytes an AK would sign, nothing panics.
func FuzzStructures(f *testing.F) {
	b := appraisetest.New(f)
	a := b.Attest(f, nonce, device, exporter)
	f.Add(a.Quote.Attest, a.Counters[0].Public, a.NextKey.Public)
	f.Add(a.Counters[0].Certify.Attest, a.Counters[0].Public, read(f, "uefi-on").EKPublic)
	f.Add(a.NextKey.Certify.Attest, a.Counters[0].Public, a.NextKey.Public)
	f.Fuzz(func(t *testing.T, statement, index, key []byte) {
		in := inputOf(b, a)
		signed := b.Key.SignBytes(t, statement)
		in.Evidence.Counters = []evidence.Counter{{Public: index, Certify: signed}}
		in.Evidence.NextKey = &evidence.CertifiedKey{Public: key, Certify: signed}
		appraise.Appraise(in, now)
		in.Evidence.Counters = nil
		appraise.Appraise(in, now)
		in.Evidence.Quote = signed
		appraise.Appraise(in, now)
		in.AK = key
		appraise.Appraise(in, now)
	})
}

// FuzzPolicyVariable puts any bytes where a boot ROM measures a variable of its
// policy, twice: nothing panics, and a minimum is never more than the certified
// counter nor there without both halves.
func FuzzPolicyVariable(f *testing.F) {
	for _, e := range appraisetest.SecurityCounter(appraisetest.CounterIndex, 1) {
		f.Add(e.Data, e.Data)
	}
	halves := appraisetest.SecurityCounter(appraisetest.CounterIndex, 1)
	f.Add(halves[0].Data, halves[1].Data)
	f.Add(evidence.Variable(evidence.VariableCounterBase, make([]byte, 9)), evidence.Variable(evidence.VariableCounterIndex, []byte{2, 0, 0, 0}))
	b := appraisetest.New(f)
	f.Fuzz(func(t *testing.T, one, other []byte) {
		b.Events = slices.Insert(appraisetest.Log(true, true, "deployed", appraisetest.Image), 2,
			appraisetest.Measured(7, evidence.EventVariableConfig, one), appraisetest.Measured(7, evidence.EventVariableConfig, other))
		o := appraise.Appraise(inputOf(b, b.Attest(t, nonce, device, exporter)), now)
		if o.Failure != nil || o.Facts.Running == nil {
			return // longer than a log may be
		}
		c, r := o.Facts.Policy.Counter, o.Facts.Running
		switch {
		case r.Minimum != nil && (c == nil || *r.Minimum != b.Counter-c.Base || c.Base > b.Counter || c.Index != appraisetest.CounterIndex):
			t.Errorf("minimum %d of counter %d and %+v", *r.Minimum, b.Counter, c)
		case c != nil && r.Minimum == nil && r.CounterFault == "":
			t.Errorf("%+v says neither a minimum nor why there is none", c)
		}
	})
}
