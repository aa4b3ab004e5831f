package fleet_test

import (
	"fmt"
	"testing"

	"holdfast/access"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/posture"
)

// BenchmarkAdmit is what the registry costs a connection that changes nothing.
func BenchmarkAdmit(b *testing.B) {
	w := newWorld(b)
	p := w.healthy("pump-01", "pumps")
	rows := w.handshake()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Admit(b.Context(), p); err != nil {
			b.Fatal(err)
		}
		if _, err := w.SessionOpened(b.Context(), p, "s1", access.Full, rows); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerdict is a verdict that changes: written, recorded, acted on.
func BenchmarkVerdict(b *testing.B) {
	w := newWorld(b)
	w.healthy("pump-01", "pumps")
	good := w.appraisal()
	bad := w.rows(measure.Fail, measure.Attested, measure.AppDebug)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		rows := good
		if i%2 == 0 {
			rows = bad
		}
		if _, err := w.Report(b.Context(), "pump-01", posture.Attestation, rows); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWithdraw is a release that is withdrawn, or published again, under
// devices that run it: each is judged, written and recorded.
func BenchmarkWithdraw(b *testing.B) {
	const devices = 500
	w := newWorld(b)
	w.shop.publish("pump", 3)
	w.withProduct()
	for i := range devices {
		id := identity.Device(fmt.Sprintf("pump-%03d", i))
		w.addByEK(id, "pumps")
		w.born(tpm(string(id)), "b-"+string(id))
		w.runs(id, "pump", 3, 3)
	}
	for i := 0; b.Loop(); i++ {
		w.shop.withdraw("pump", 3, []string{"it leaks", ""}[i%2])
		w.must(w.ReleasesChanged(b.Context()))
	}
	b.ReportMetric(float64(b.N*devices)/b.Elapsed().Seconds(), "devices/s")
}
