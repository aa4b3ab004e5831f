package evidence_test

import (
	"crypto"
	"crypto/sha256"
	"testing"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-cmp/cmp"

	"holdfast/evidence"
	"holdfast/identity"
)

// TestEventLogReplays has go-attestation, as an independent judge, parse the
// log and replay it to registers computed here.
func TestEventLogReplays(t *testing.T) {
	var log evidence.EventLog
	pcrs := map[int][32]byte{}
	extend := func(pcr int, d identity.Digest) {
		old := pcrs[pcr]
		pcrs[pcr] = sha256.Sum256(append(old[:], d[:]...))
	}
	extend(0, log.Append(0, evidence.EventCRTMVersion, evidence.UTF16("1.0")))
	extend(7, log.Append(7, evidence.EventVariableConfig, evidence.Variable(evidence.VariableVerification, []byte{1})))
	image := identity.Sum([]byte("image"))
	log.AppendDigest(4, evidence.EventIPL, image, []byte(`{"slot":"A","version":"1.0.0"}`))
	extend(4, image)
	extend(4, log.Append(4, evidence.EventSeparator, make([]byte, 4)))

	parsed, err := attest.ParseEventLog(log.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var values []attest.PCR
	for i, v := range pcrs {
		values = append(values, attest.PCR{Index: i, Digest: v[:], DigestAlg: crypto.SHA256})
	}
	events, err := parsed.Verify(values)
	if err != nil {
		t.Fatal(err)
	}
	var types []uint32
	for _, e := range events {
		types = append(types, uint32(e.Type))
	}
	want := []uint32{evidence.EventCRTMVersion, evidence.EventVariableConfig, evidence.EventIPL, evidence.EventSeparator}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestEmptyLogIsEmpty(t *testing.T) {
	if n := len((&evidence.EventLog{}).Bytes()); n != 0 {
		t.Errorf("an empty log has %d bytes", n)
	}
}

func TestVariable(t *testing.T) {
	got := evidence.Variable("Ab", []byte{7})
	want := append(evidence.BoardGUID[:16:16],
		2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 'A', 0, 'b', 0, 7)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("variable (-want +got):\n%s", diff)
	}
}
