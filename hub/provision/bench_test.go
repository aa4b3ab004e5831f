package provision_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/dps"
	"holdfast/identity"
)

// BenchmarkRegister has devices register and ask for the outcome, 16 at a time:
// "new" ones, which are entered into the registry, and such that come "again".
func BenchmarkRegister(b *testing.B) {
	for _, again := range []bool{false, true} {
		name := "new"
		if again {
			name = "again"
		}
		b.Run(name, func(b *testing.B) {
			w := newWorld(b)
			w.ledger = nil
			var n atomic.Int64
			const devices = 1000
			if again {
				for i := range devices {
					w.register(w.of("acme", identity.Device(fmt.Sprintf("meter-%d", i))), "")
				}
			}
			w.now = w.now.Add(time.Minute)
			b.SetParallelism(8)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := n.Add(1)
					if again {
						i %= devices
					}
					c := w.of("acme", identity.Device(fmt.Sprintf("meter-%d", i)))
					p, err := w.Register(b.Context(), c, nil)
					if err != nil {
						b.Error(err)
						return
					}
					if p, err = w.Operation(b.Context(), c, string(p.Operation)); err != nil || p.Status != dps.Assigned {
						b.Errorf("%+v, %v", p, err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "registrations/s")
		})
	}
}
