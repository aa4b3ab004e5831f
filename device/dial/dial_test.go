package dial_test

import (
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"holdfast/device/clock"
	"holdfast/device/dial"
	"holdfast/device/hubtest"
	"holdfast/fault"
)

func dialer(t *testing.T, h *hubtest.Hub, roots *hubtest.Hub, c *clock.Clock) *dial.Dialer {
	t.Helper()
	certs, err := roots.Provision().Roots()
	if err != nil {
		t.Fatal(err)
	}
	d, err := dial.New(dial.Config{Host: h.Provision().Hub, Roots: certs, Judge: c.Judge})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// build is a clock of a device without an RTC whose program was built then.
func build(t *testing.T, at time.Time) *clock.Clock {
	t.Helper()
	c, err := clock.Open(clock.Config{Path: filepath.Join(t.TempDir(), "floor.json"), Build: at})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDial(t *testing.T) {
	h, other := hubtest.New(t), hubtest.New(t)
	year := 365 * 24 * time.Hour
	for name, tc := range map[string]struct {
		roots *hubtest.Hub
		clock *clock.Clock
		kind  fault.Kind
	}{
		"no clock, hub's certificate of later":       {h, build(t, time.Now().Add(-year)), ""},
		"no clock, hub's certificate expired by now": {h, build(t, time.Now().Add(30*year)), fault.Integrity},
		"root of another hub":                        {other, build(t, time.Now()), fault.Integrity},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := dialer(t, h, tc.roots, tc.clock).Dial(t.Context(), h.Provision().HTTPSPort, "http/1.1", nil)
			if tc.kind == "" {
				if err != nil {
					t.Fatal(err)
				}
				if p := conn.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
					t.Errorf("speaks %q", p)
				}
				_ = conn.Close()
				return
			}
			if err == nil || fault.Of(err) != tc.kind {
				t.Errorf("dial: %v", err)
			}
		})
	}
}

func TestNewRefusesATrustlessDialer(t *testing.T) {
	judge := func(f func(time.Time) error) error { return f(time.Now()) }
	for name, cfg := range map[string]dial.Config{
		"no roots": {Host: "hub", Judge: judge},
		"no host":  {Roots: []*x509.Certificate{{}}, Judge: judge},
		"no judge": {Host: "hub", Roots: []*x509.Certificate{{}}},
	} {
		if _, err := dial.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
