package appraise_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"math/big"
	"testing"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-tpm/tpm2"

	"holdfast/appraise"
	"holdfast/appraise/appraisetest"
	"holdfast/evidence"
)

// BenchmarkAppraise compares an appraisal with the bare library calls that it
// cannot do without: verifying each signature, decoding each statement, parsing
// and replaying the log. appraise/* must reach 0.8 of bare/*.
func BenchmarkAppraise(b *testing.B) {
	board := appraisetest.New(b)
	uefi := read(b, "uefi-on")
	for _, c := range []struct {
		name string
		in   appraise.Input
	}{
		{"board", inputOf(board, board.Attest(b, nonce, device, exporter))},
		{"uefi", uefiInput(b, uefi)},
	} {
		b.Run("bare/"+c.name, func(b *testing.B) { benchmarkBare(b, c.in) })
		b.Run("appraise/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if o := appraise.Appraise(c.in, now); o.Failure != nil {
					b.Fatal(o.Failure)
				}
			}
		})
	}
}

func benchmarkBare(b *testing.B, in appraise.Input) {
	b.ReportAllocs()
	for b.Loop() {
		public, err := tpm2.Unmarshal[tpm2.TPMTPublic](in.AK)
		if err != nil {
			b.Fatal(err)
		}
		key, err := tpm2.Pub(*public)
		if err != nil {
			b.Fatal(err)
		}
		ak := attest.AKPublic{Public: key, Hash: crypto.SHA256}
		pcrs := make([]attest.PCR, 0, len(in.Evidence.PCRs))
		for _, p := range in.Evidence.PCRs {
			pcrs = append(pcrs, attest.PCR{Index: p.Index, Digest: p.SHA256[:], DigestAlg: crypto.SHA256})
		}
		quote := attest.Quote{Quote: in.Evidence.Quote.Attest, Signature: in.Evidence.Quote.Signature}
		if err := ak.Verify(quote, pcrs, in.Binding[:]); err != nil {
			b.Fatal(err)
		}
		for _, c := range in.Evidence.Counters {
			bareCertification(b, key.(*ecdsa.PublicKey), c.Certify)
		}
		bareCertification(b, key.(*ecdsa.PublicKey), in.Evidence.NextKey.Certify)
		log, err := attest.ParseEventLog(in.Evidence.EventLog)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := log.Verify(pcrs); err != nil {
			b.Fatal(err)
		}
	}
}

func bareCertification(b *testing.B, key *ecdsa.PublicKey, c evidence.Certification) {
	sig, err := tpm2.Unmarshal[tpm2.TPMTSignature](c.Signature)
	if err != nil {
		b.Fatal(err)
	}
	v, err := sig.Signature.ECDSA()
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256(c.Attest)
	r, s := new(big.Int).SetBytes(v.SignatureR.Buffer), new(big.Int).SetBytes(v.SignatureS.Buffer)
	if !ecdsa.Verify(key, digest[:], r, s) {
		b.Fatal("signature")
	}
	if _, err := tpm2.Unmarshal[tpm2.TPMSAttest](c.Attest); err != nil {
		b.Fatal(err)
	}
}
