package fleet_test

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/access"
	"holdfast/birth"
	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

func TestSetGroupRefuses(t *testing.T) {
	w := newWorld(t)
	w.addMaker("acme", "meters", "meter-*")
	var many []string
	for i := range 2000 {
		many = append(many, fmt.Sprint("m", i))
	}
	for name, tt := range map[string]struct {
		id   identity.Group
		in   operator.SetGroup
		kind fault.Kind
	}{
		"bad name":           {"Pumps", operator.SetGroup{}, fault.Invalid},
		"no name":            {"", operator.SetGroup{}, fault.Invalid},
		"unknown policy":     {"x", operator.SetGroup{PolicyName: "strict"}, fault.Invalid},
		"two policies":       {"x", operator.SetGroup{PolicyName: "bench", Policy: json.RawMessage(`{"name":"p"}`)}, fault.Invalid},
		"bad policy":         {"x", operator.SetGroup{Policy: json.RawMessage(`{"name":"p","require":[{"measure":"app.debug"}]}`)}, fault.Invalid},
		"unknown CA":         {"x", operator.SetGroup{MakerCAs: []string{"nobody"}}, fault.NotFound},
		"bad pattern":        {"x", operator.SetGroup{IDs: []string{"a/*"}}, fault.Invalid},
		"every id":           {"x", operator.SetGroup{IDs: []string{"*"}}, fault.Invalid},
		"star in the middle": {"x", operator.SetGroup{IDs: []string{"a*b"}}, fault.Invalid},
		"two stars":          {"x", operator.SetGroup{IDs: []string{"a**"}}, fault.Invalid},
		"same pattern":       {"x", operator.SetGroup{IDs: []string{"meter-*"}}, fault.Conflict},
		"wider pattern":      {"x", operator.SetGroup{IDs: []string{"met*"}}, fault.Conflict},
		"narrower pattern":   {"x", operator.SetGroup{IDs: []string{"meter-1*"}}, fault.Conflict},
		"id in a pattern":    {"x", operator.SetGroup{IDs: []string{"gas", "meter-7"}}, fault.Conflict},
		"negative rate":      {"x", operator.SetGroup{Limits: operator.Limits{MessagesPerSecond: -1}}, fault.Invalid},
		"negative total":     {"x", operator.SetGroup{Limits: operator.Limits{GroupBytesPerSecond: -1}}, fault.Invalid},
		"too much in flight": {"x", operator.SetGroup{Limits: operator.Limits{InFlight: operator.MaxInFlight + 1}}, fault.Invalid},
		"too many ids":       {"x", operator.SetGroup{IDs: many}, fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			if g, err := w.SetGroup(t.Context(), "admin", tt.id, tt.in); fault.Of(err) != tt.kind || err == nil {
				t.Errorf("%+v, %v, want %s", g, err, tt.kind)
			}
		})
	}
	if _, err := w.Group(t.Context(), "x"); fault.Of(err) != fault.NotFound {
		t.Errorf("a refused group exists: %v", err)
	}
}

func TestGroupKeepsItsPolicy(t *testing.T) {
	w := newWorld(t)
	g, err := w.SetGroup(t.Context(), "admin", "bench", operator.SetGroup{FileKeys: true})
	w.must(err)
	if g.Policy.Name != posture.Bench || !g.FileKeys || g.Simulation {
		t.Errorf("%+v", g)
	}
	g, err = w.SetGroup(t.Context(), "admin", "new", operator.SetGroup{})
	w.must(err)
	if g.Policy.Name != posture.Standard {
		t.Errorf("a new group's policy is %s", g.Policy.Name)
	}
	w.restart()
	if back, err := w.Group(t.Context(), "bench"); err != nil || back.Policy.Name != posture.Bench || !back.FileKeys {
		t.Errorf("%+v, %v", back, err)
	}
}

// TestPolicyChangeActsAtOnce: on every device, and on live sessions.
func TestPolicyChangeActsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-01", "pumps")
	strict := json.RawMessage(`{"name":"time","require":[{"measure":"crypto.time","grade":"observed"}]}`)
	w.must1(w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{Policy: strict, Simulation: true}))
	w.status("pump-01", posture.Quarantined)
	if w.gate.mode("pump-01") != access.Quarantine {
		t.Error("session is still open")
	}
	w.must1(w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{PolicyName: posture.Standard, Simulation: true}))
	w.status("pump-01", posture.Trusted)
	if w.gate.mode("pump-01") != access.Full {
		t.Error("session is not open again")
	}
	w.must1(w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{PolicyName: posture.Standard})) // no simulation
	if d := w.status("pump-01", posture.Quarantined); !strings.Contains(d.Reason, "software TPM") {
		t.Errorf("reason %q", d.Reason)
	}
}

func TestAddCARefuses(t *testing.T) {
	w := newWorld(t)
	pem := func(cn string, spoil func(*x509.Certificate)) string {
		return string(pki.EncodeCerts(ca(t, cn, w.clock(), spoil)))
	}
	good := pem("good", nil)
	w.must1(w.AddCA(t.Context(), "admin", operator.CA{Name: "acme", Kind: "maker", PEM: good}))
	for name, tt := range map[string]struct {
		in   operator.CA
		kind fault.Kind
	}{
		"no name":                {operator.CA{Kind: "maker", PEM: pem("x", nil)}, fault.Invalid},
		"bad name":               {operator.CA{Name: "a b", Kind: "maker", PEM: pem("x", nil)}, fault.Invalid},
		"no kind":                {operator.CA{Name: "x", PEM: pem("x", nil)}, fault.Invalid},
		"unknown kind":           {operator.CA{Name: "x", Kind: "web", PEM: pem("x", nil)}, fault.Invalid},
		"maker with class":       {operator.CA{Name: "x", Kind: "maker", Class: "hardware", PEM: pem("x", nil)}, fault.Invalid},
		"endorsement, no class":  {operator.CA{Name: "x", Kind: "endorsement", PEM: pem("x", nil)}, fault.Invalid},
		"endorsement of a file":  {operator.CA{Name: "x", Kind: "endorsement", Class: "file", PEM: pem("x", nil)}, fault.Invalid},
		"no certificate":         {operator.CA{Name: "x", Kind: "maker"}, fault.Invalid},
		"two certificates":       {operator.CA{Name: "x", Kind: "maker", PEM: pem("x", nil) + pem("y", nil)}, fault.Invalid},
		"not a CA":               {operator.CA{Name: "x", Kind: "maker", PEM: pem("x", func(c *x509.Certificate) { c.IsCA = false })}, fault.Invalid},
		"no basic constraints":   {operator.CA{Name: "x", Kind: "maker", PEM: pem("x", func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false })}, fault.Invalid},
		"CA not for signing":     {operator.CA{Name: "x", Kind: "maker", PEM: pem("x", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })}, fault.Invalid},
		"expired":                {operator.CA{Name: "x", Kind: "maker", PEM: pem("x", func(c *x509.Certificate) { c.NotAfter = w.clock().Add(-time.Second) })}, fault.Invalid},
		"not yet valid":          {operator.CA{Name: "x", Kind: "endorsement", Class: "hardware", PEM: pem("x", func(c *x509.Certificate) { c.NotBefore = w.clock().Add(time.Hour) })}, fault.Invalid},
		"taken name":             {operator.CA{Name: "acme", Kind: "maker", PEM: pem("x", nil)}, fault.Conflict},
		"the certificate again":  {operator.CA{Name: "x", Kind: "maker", PEM: good}, fault.Conflict},
		"again as an EK's maker": {operator.CA{Name: "x", Kind: "endorsement", Class: "hardware", PEM: good}, fault.Conflict},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := w.AddCA(t.Context(), "admin", tt.in); fault.Of(err) != tt.kind || err == nil {
				t.Errorf("%+v, %v, want %s", out, err, tt.kind)
			}
		})
	}
}

func TestRegisteredAuthorities(t *testing.T) {
	w := newWorld(t)
	w.addMaker("acme", "meters", "meter-*")
	idle := string(pki.EncodeCerts(ca(t, "idle", w.clock(), nil)))
	root := ca(t, "tpms", w.clock(), nil)
	w.must1(w.AddCA(t.Context(), "admin", operator.CA{Name: "idle", Kind: "maker", PEM: idle}))
	w.must1(w.AddCA(t.Context(), "admin", operator.CA{Name: "tpms", Kind: "endorsement", Class: "software", PEM: string(pki.EncodeCerts(root))}))
	w.restart()
	anchors, err := w.MakerAnchors(t.Context())
	if err != nil || len(anchors) != 1 || anchors[0].Class != pki.Maker || anchors[0].Cert.Subject.CommonName != "acme" {
		t.Errorf("anchors %+v, %v: want only the CA that a group lists", anchors, err)
	}
	roots, err := w.EndorsementRoots(t.Context())
	if err != nil || len(roots) != 1 || roots[0].Class != birth.Software || !roots[0].Cert.Equal(root) {
		t.Errorf("roots %+v, %v", roots, err)
	}
	cas, err := w.CAs(t.Context())
	if err != nil || len(cas) != 3 || cas[0].Name != "acme" || cas[0].Subject != "CN=acme" || cas[0].NotAfter.IsZero() {
		t.Errorf("authorities %+v, %v", cas, err)
	}
	if w.ledger.count("ca.add ") != 3 {
		t.Error("not in the ledger")
	}
}

func TestDevicesAreFiltered(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-01", "pumps")
	w.addByEK("pump-02", "pumps")
	w.addByEK("bench-01", "bench")
	for _, tt := range []struct {
		group  identity.Group
		status posture.Status
		want   string
	}{
		{"", "", "bench-01 pump-01 pump-02"}, {"pumps", "", "pump-01 pump-02"}, {"", posture.Offline, "bench-01 pump-02"},
		{"pumps", posture.Trusted, "pump-01"}, {"lab", "", ""}, {"none", "", ""},
	} {
		ds, err := w.Devices(t.Context(), operator.FleetQuery{Group: tt.group, Status: tt.status})
		w.must(err)
		var ids []string
		for _, d := range ds {
			ids = append(ids, string(d.ID))
		}
		if got := strings.Join(ids, " "); got != tt.want {
			t.Errorf("%q %q: %q, want %q", tt.group, tt.status, got, tt.want)
		}
	}
	_, err := w.Device(t.Context(), "nobody")
	w.refused(err, fault.NotFound)
}

func TestNewRefusesWhatIsMissing(t *testing.T) {
	if _, err := fleet.New(fleet.Config{}); err == nil {
		t.Error("made of nothing")
	}
}
