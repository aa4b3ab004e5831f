package hub_test

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/mqtt"
	"holdfast/operator"
	"holdfast/release"
)

// publish publishes the release of a signer.
func (w *world) publish(m *signer) {
	w.t.Helper()
	files := m.files(must(w.api.Repository(w.t.Context()))(w.t))
	if err := w.api.PutBlob(w.t.Context(), blobOf(m.image), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.image)), nil }); err != nil {
		w.t.Fatal(err)
	}
	must(w.api.PublishMetadata(w.t.Context(), operator.Metadata{Files: files}))(w.t)
}

// updates opens a session that asks for updates.
func (d *device) updates(t *testing.T) *session {
	t.Helper()
	s := must(d.w.mqtt(d.ldevid))(t)
	t.Cleanup(s.close)
	if err := s.open(string(d.id)); err != nil {
		t.Fatal(err)
	}
	if code, err := s.subscribe("$hub/update/#"); err != nil || code == mqtt.SubackFailure {
		t.Fatalf("subscribe: code %#x, %v", code, err)
	}
	return s
}

// offer is the next offer that the hub tells that is as wanted.
func (s *session) offer(t *testing.T, wanted func(release.Offer) bool) release.Offer {
	t.Helper()
	for {
		_, body, err := s.await("$hub/update/?$version=")
		if err != nil {
			t.Fatal(err)
		}
		var o release.Offer
		if err := json.Unmarshal(body, &o); err != nil {
			t.Fatal(err)
		}
		if wanted(o) {
			return o
		}
	}
}

// progress reports on an offer and returns the topic and body of the answer.
func (s *session) progress(t *testing.T, body string) (topic, answer string) {
	t.Helper()
	if err := s.send(&mqtt.Publish{Topic: "$hub/update/progress/?$rid=7", Payload: []byte(body)}); err != nil {
		t.Fatal(err)
	}
	topic, b, err := s.await("$hub/update/res/")
	if err != nil {
		t.Fatal(err)
	}
	return topic, string(b)
}

func reportOf(o release.Offer, s release.State) string {
	b, _ := json.Marshal(release.Progress{Rollout: o.Rollout, Attempt: o.Attempt, Product: o.Product, Version: o.Version, State: s, Final: s == release.Committed})
	return string(b) // always marshals
}

// A pump is offered a release, says how it goes, and has succeeded once it
// attests what the signers say that it measures; not before.
func TestRolloutOverTheWire(t *testing.T) {
	p, m := newPumpHouse(t), newSigner(t)
	pump := p.pump("pump-01", firmware)
	if err := pump.renew(); err != nil {
		t.Fatal(err)
	}
	p.publish(m)
	s := pump.updates(t)
	s.offer(t, func(o release.Offer) bool { return o.Rollout == "" }) // nothing is wanted of it

	r, err := p.api.StartRollout(t.Context(), operator.StartRollout{Product: "pump", Version: mcuboot.Version{Major: 1, Minor: 4},
		Groups: []identity.Group{"pumps"}, RolloutPlan: operator.RolloutPlan{HaltOn: 2}})
	if err != nil {
		t.Fatal(err)
	}
	o := s.offer(t, func(o release.Offer) bool { return o.Rollout == r.ID && o.Unpaused })
	if o.Product != "pump" || o.Version.String() != "1.4.0" || o.Deadline.IsZero() {
		t.Errorf("offered %+v", o)
	}
	for body, want := range map[string]string{reportOf(o, release.Downloading): "$hub/update/res/204/?$rid=7", "{": "$hub/update/res/400/?$rid=7"} {
		topic, answer := s.progress(t, body)
		if topic != want || (answer == "") != strings.Contains(want, "204") {
			t.Errorf("%s: %s %s", body, topic, answer)
		}
	}
	must(p.api.ActOnRollout(t.Context(), r.ID, "pause", operator.RolloutAct{Reason: "a storm"}, ""))(t)
	s.offer(t, func(o release.Offer) bool { return o.Rollout == r.ID && !o.Unpaused })
	must(p.api.ActOnRollout(t.Context(), r.ID, "resume", operator.RolloutAct{}, ""))(t)
	s.offer(t, func(o release.Offer) bool { return o.Rollout == r.ID && o.Unpaused })

	state := func(want string) bool {
		return p.until(func() bool {
			ds, err := p.api.RolloutDevices(t.Context(), r.ID, "", 0)
			return err == nil && len(ds) == 1 && ds[0].Device == "pump-01" && ds[0].State == want
		})
	}
	if topic, _ := s.progress(t, reportOf(o, release.Committed)); !strings.Contains(topic, "/204/") || !state("committed") {
		t.Errorf("it commits: %s", topic)
	}
	s.close()
	p.restart() // what it has said is not forgotten
	if !state("committed") {
		t.Error("the report is lost")
	}
	pump.claimed = must(mcuboot.Parse(m.image))(t).Digest
	pump.reboot(pump.claimed)
	if err := pump.renew(); err != nil {
		t.Fatal(err)
	}
	if !state("done") || !p.until(func() bool { return must(p.api.Rollout(t.Context(), r.ID))(t).Stage == "finished" }) {
		t.Errorf("it is not done: %+v", must(p.api.Rollout(t.Context(), r.ID))(t))
	}
	for kind, why := range map[string]string{"rollout.start": "admin", "rollout.plan": "", "rollout.pause": "a storm", "rollout.resume": "admin", "rollout.finish": "1 of 1 devices run it"} {
		p.recorded(t, kind, "", r.ID, why)
	}
	pump.updates(t).offer(t, func(o release.Offer) bool { return o.Rollout == "" })
}

// What cannot be proved is not rolled out to: the device has no TPM.
func TestRolloutNeedsWhoCanProveIt(t *testing.T) {
	w, m := newWorld(t), newSigner(t)
	w.publish(m)
	_, err := w.api.StartRollout(t.Context(), operator.StartRollout{Product: "pump", Version: mcuboot.Version{Major: 1, Minor: 4},
		Groups: []identity.Group{"lab"}, RolloutPlan: operator.RolloutPlan{HaltOn: 2}})
	if fault.Of(err) != fault.Conflict || !strings.Contains(err.Error(), "it has no TPM") {
		t.Error(err)
	}
}
