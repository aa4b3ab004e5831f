package verifier_test

import (
	"testing"
	"time"
)

// BenchmarkAttest is the whole way of one piece of evidence: nonce spent,
// appraised, on disk, reported. Making the evidence is not counted. Beside it
// stands package appraise's BenchmarkAppraise, which is the appraisal alone.
func BenchmarkAttest(b *testing.B) {
	h, board := forged(b)
	p := peer(pump, 1)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		h.now = h.now.Add(10 * time.Second) // within the limit of nonces
		board.Clock.Clock++
		e := board.Attest(b, h.nonce(p), pump, p.Exporter)
		b.StartTimer()
		if _, err := h.Attest(b.Context(), p, e); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "verdicts/s")
}
