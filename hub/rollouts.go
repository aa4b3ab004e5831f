package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"holdfast/appraise"
	"holdfast/birth"
	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/hub/gateway"
	"holdfast/hub/metrics"
	"holdfast/hub/rollouts"
	"holdfast/hub/stream"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/logs"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/rollout"
)

// catalogue is what is published, as rollouts ask for it.
type catalogue interface {
	Signed(ctx context.Context, measured identity.Digest) (release.Release, bool)
	Find(ctx context.Context, p release.Product, v mcuboot.Version) (release.Release, bool)
}

// buildRollouts makes the service that brings releases to devices.
func (h *hub) buildRollouts(ctx context.Context) error {
	var err error
	h.rollouts, err = rollouts.New(ctx, rollouts.Config{Store: h.db.Rollouts(), Releases: published{h}, Registry: members{h}, Sessions: &sessions{bus: h.stream.Bus()},
		Products: h.fleet, Ledger: h.journal, Log: h.component("rollouts")})
	return err
}

// published is the repository as rollouts ask it.
type published struct{ h *hub }

// Release implements rollouts.Releases.
func (p published) Release(ctx context.Context, product release.Product, v mcuboot.Version) (release.Release, error) {
	if p.h.catalogue != nil {
		if rel, ok := p.h.catalogue.Find(ctx, product, v); ok {
			return rel, nil
		}
	}
	return release.Release{}, fault.New(fault.NotFound, "%s %s is not published", product, v)
}

// members is the registry as rollouts ask it.
type members struct{ h *hub }

// Members implements rollouts.Registry.
func (m members) Members(ctx context.Context, g identity.Group) ([]identity.Device, error) {
	return m.h.fleet.Members(ctx, g)
}

// Connected implements rollouts.Registry.
func (m members) Connected(id identity.Device) bool { return m.h.fleet.HasSession(id) }

// Facts implements rollouts.Registry.
func (m members) Facts(ctx context.Context, id identity.Device) (rollout.Facts, error) {
	d, err := m.h.fleet.Member(ctx, id)
	if err != nil {
		return rollout.Facts{}, err
	}
	f := rollout.Facts{Group: d.Group, Revoked: d.Revoked, Unproven: unproven(d), Connected: d.Connected, Seen: d.LastSeen}
	f.Attested, _, err = m.h.fleet.Attested(ctx, id)
	if err != nil && fault.Of(err) != fault.NotFound {
		return f, err
	}
	if err == nil && m.h.catalogue != nil {
		f.Running, _ = m.h.catalogue.Signed(ctx, f.Attested)
	}
	return f, nil
}

// unproven says why nothing that a device runs can be proved; of one that was
// never here nobody knows.
func unproven(d fleet.Member) string {
	switch {
	case d.Class == birth.Maker || d.Class == "" && d.Admits == fleet.ByMaker:
		return "it comes with its maker's certificate, and nothing attests what it runs"
	case d.Class == birth.SelfSigned || d.Class == "" && d.Admits == fleet.BySelfSigned:
		return "it comes with a certificate of its own, and nothing attests what it runs"
	case d.Class == birth.File:
		return "it has no TPM, and nothing attests what it runs"
	}
	return ""
}

// offered is what rollouts offer, as the fleet asks for it.
type offered struct{ h *hub }

// Offered implements fleet.Offers.
func (o offered) Offered(ctx context.Context, id identity.Device) (appraise.Offered, bool, error) {
	if o.h.rollouts == nil {
		return appraise.Offered{}, false, nil
	}
	return o.h.rollouts.Offered(ctx, id)
}

// update is an offer as it travels on the bus.
type update struct {
	Version uint64          `json:"version"`
	Offer   json.RawMessage `json:"offer"`
}

// Offer implements rollouts.Sessions.
func (s *sessions) Offer(ctx context.Context, d identity.Device, version uint64, o release.Offer) (bool, error) {
	offer, err := json.Marshal(o)
	if err == nil {
		offer, err = json.Marshal(update{version, offer})
	}
	if err != nil {
		return false, fmt.Errorf("offer to %s: %w", d, err)
	}
	_, err = s.bus.Request(ctx, d, stream.VerbUpdate, offer)
	if fault.Of(err) == fault.NotFound && err != nil {
		return false, nil
	}
	return err == nil, err
}

// tellOffer does stream.VerbUpdate on the session that this process holds.
func (h *hub) tellOffer(d identity.Device, body []byte) bool {
	var u update
	if err := json.Unmarshal(body, &u); err != nil {
		h.log.Error("offer on the bus", "device", d, "err", err)
		return false
	}
	return h.gateway.Publish(d, iothub.UpdateOffer{Version: u.Version}.String(), u.Offer)
}

// offer answers a device that asks for updates with what is wanted of it now.
func (h *hub) offer(s *gateway.Session) {
	ctx, cancel := context.WithTimeout(context.Background(), gateway.AdmitTimeout)
	defer cancel()
	version, o, err := h.rollouts.Wanted(ctx, s.Device())
	if err != nil {
		h.log.ErrorContext(ctx, "what is wanted of a device", "device", s.Device(), "err", err)
		return
	}
	b, err := json.Marshal(o)
	if err != nil {
		h.log.ErrorContext(ctx, "what is wanted of a device", "device", s.Device(), "err", err)
		return
	}
	s.Publish(iothub.UpdateOffer{Version: version}.String(), b)
}

// crashes tells rollouts of crashes among records that a device shipped.
func (h *hub) crashes(d identity.Device, rs []logs.Record) {
	for _, r := range rs {
		if r.Level == "crash" && h.rollouts != nil {
			what, _, _ := strings.Cut(r.Message, "\n") // of a panic the rest is its stack
			h.rollouts.Crashed(d, r.Time, what)
		}
	}
}

// rolloutFamilies are of releases on their way.
func (h *hub) rolloutFamilies() []metrics.Family {
	nothing := func(float64, string) {}
	return []metrics.Family{
		gauge("rollouts", "Rollouts by stage.", func(emit func(float64, ...string)) {
			h.rollouts.Look(func(n float64, stage string) { emit(n, stage) }, nothing)
		}, "stage"),
		gauge("rollout_devices", "Devices of rollouts that are not over, by where they stand.", func(emit func(float64, ...string)) {
			h.rollouts.Look(nothing, func(n float64, state string) { emit(n, state) })
		}, "state"),
		counter("rollout_offers_total", "Offers of a release to devices, by whether one was there to take it.",
			func(emit func(float64, ...string)) { h.rollouts.Stats().Offers.Each(emit) }, "outcome"),
		counter("rollout_progress_total", "Reports of devices on updates, by the state that they tell of.",
			func(emit func(float64, ...string)) { h.rollouts.Stats().Progress.Each(emit) }, "state"),
	}
}
