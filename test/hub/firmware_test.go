package hub_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/mcuboot"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/tuf/author"
)

// row is what the hub says of a measure of a device.
func (w *world) row(d *device, id measure.ID) measure.Row {
	rows := w.device(d.id).Posture
	return rows[slices.IndexFunc(rows, func(r measure.Row) bool { return r.Measure == id })]
}

// withdraw publishes the signers' second word on their release.
func (w *world) withdraw(m *signer, why string) {
	w.t.Helper()
	img := must(mcuboot.Parse(m.image))(w.t)
	d, err := author.Product{Name: "pump", Version: 2, Expires: time.Now().AddDate(1, 0, 0), Releases: []release.Release{{Image: blobOf(m.image), Target: release.Target{
		Product: "pump", Version: img.Version, SecurityVersion: 7, Measured: img.Digest, Health: release.Health{Seconds: 60}, Withdrawn: why}}}}.Document()
	must(w.api.PublishMetadata(w.t.Context(), operator.Metadata{Files: map[string][]byte{"2.pump.json": m.sign(d, err)}}))(w.t)
}

// A device of a group with a product runs what is published without an
// operator's reference; when its signers take it back, that is felt at once by
// a device that does not attest again, and after a restart.
func TestWithdrawnReleaseIsFeltAtOnce(t *testing.T) {
	p, m := newPumpHouse(t), newSigner(t)
	p.publish(m)
	img := must(mcuboot.Parse(m.image))(t)
	p.group("pumps", operator.SetGroup{PolicyName: "standard", Simulation: true, Product: "pump"})
	pump := p.pump("pump-01", img.Digest)
	pump.claimed = img.Digest
	if err := pump.renew(); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[measure.ID]measure.Verdict{measure.IdentityAttestation: measure.Pass, measure.FirmwareSecureBoot: measure.Pass, measure.FirmwareSigning: measure.Pass,
		measure.FirmwareUpdate: measure.Pass, measure.FirmwareDowngrade: measure.Unknown} {
		if r := p.row(pump, id); r.Verdict != want || want == measure.Pass && r.Grade != measure.Attested {
			t.Errorf("%s: %+v, want %s", id, r, want)
		}
	}
	p.recorded(t, fleet.KindFirmware, pump.id, "pump 1.4.0")
	refs := must(p.api.References(t.Context(), "pumps"))(t)
	if i := slices.IndexFunc(refs, func(r operator.Reference) bool { return r.Digest == img.Digest }); i < 0 || !refs[i].Released {
		t.Errorf("references %+v", refs)
	}
	if err := p.api.RemoveReference(t.Context(), "pumps", img.Digest); fault.Of(err) != fault.Conflict {
		t.Errorf("what signers said was removed: %v", err)
	}

	p.withdraw(m, "it leaks")
	felt := func() bool {
		return p.until(func() bool {
			r := p.row(pump, measure.FirmwareSigning)
			return r.Verdict == measure.Fail && strings.Contains(r.Reason, "it leaks")
		})
	}
	if !felt() {
		t.Errorf("the release is withdrawn: %+v", p.row(pump, measure.FirmwareSigning))
	}
	p.recorded(t, fleet.KindFirmware, pump.id, "pump 1.4.0", "it leaks")
	if f := p.device(pump.id).Firmware; f == nil || f.Withdrawn != "it leaks" || f.Digest != img.Digest {
		t.Errorf("firmware %+v", f)
	}
	if !p.until(func() bool {
		as, err := p.api.Alerts(t.Context(), operator.AlertQuery{Device: pump.id})
		return err == nil && slices.ContainsFunc(as, func(a operator.Alert) bool { return a.Kind == "withdrawn" && strings.Contains(a.Reason, "it leaks") })
	}) {
		t.Error("nobody is alerted")
	}
	p.restart()
	if !felt() {
		t.Errorf("after a restart: %+v", p.row(pump, measure.FirmwareSigning))
	}
	if err := pump.renew(); err != nil { // it is degraded, and renews for a short time
		t.Error(err)
	}
	b, _ := json.Marshal(p.device(pump.id).Firmware) // always marshals
	if !strings.Contains(string(b), `"withdrawn":"it leaks"`) {
		t.Errorf("after it attested again: %s", b)
	}
}
