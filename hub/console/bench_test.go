package console_test

import (
	"fmt"
	"net/http"
	"testing"

	"holdfast/identity"
	"holdfast/operator"
	"holdfast/posture"
)

// BenchmarkPage is what the console adds to the API's answers: asking in the
// same process, reading JSON, and making the page.
func BenchmarkPage(b *testing.B) {
	w := newWorld(b)
	page := w.answers["GET /v1/fleet"].(operator.FleetPage)
	page.Devices = nil
	for i := range 50 {
		page.Devices = append(page.Devices, operator.Summary{ID: identity.Device(fmt.Sprintf("pump-%06d", i)), Group: "pumps", Status: posture.Trusted,
			Release: "pump-fw 1.2.0", Met: 17, Pass: 20, Unknown: 12, LastSeen: now, Connected: true, NotAfter: now})
	}
	w.answers["GET /v1/fleet"] = page
	for name, path := range map[string]string{"fleet": "/fleet", "device": "/devices/pump-01"} {
		b.Run("page="+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.asked = w.asked[:0]
				if rec := w.get(path); rec.Code != http.StatusOK {
					b.Fatal(rec.Code)
				}
			}
		})
	}
}
