package hub

import (
	"context"
	"encoding/json"
	"fmt"

	"holdfast/hub/calls"
	"holdfast/hub/fleet"
	"holdfast/hub/gateway"
	"holdfast/hub/messages"
	"holdfast/hub/outbox"
	"holdfast/hub/stream"
	"holdfast/hub/twins"
	"holdfast/identity"
	"holdfast/iothub"
)

// buildTwins makes the services by which operators and devices reach each
// other: twins, methods and messages.
func (h *hub) buildTwins() error {
	var err error
	h.outbox, err = outbox.New(outbox.Config{Store: h.db.Outbox(), Stream: h.stream, Log: h.component("outbox")})
	if err != nil {
		return err
	}
	h.teller = &teller{stream: h.stream, keep: h.db.Outbox().Keep, log: h.component("events")}
	registered, bus := registered{h.fleet}, &reach{h}
	h.twins, err = twins.New(twins.Config{Store: h.db.Twins(), Registry: registered, Sessions: bus, Ledger: h.journal,
		Stored: h.outbox.Wake, Log: h.component("twins")})
	if err != nil {
		return err
	}
	h.calls, err = calls.New(calls.Config{Registry: registered, Bus: bus, Sessions: bus, Ledger: h.journal, Log: h.component("calls")})
	if err != nil {
		return err
	}
	h.messages, err = messages.New(messages.Config{Store: h.db.Messages(), Registry: registered, Sessions: bus, Ledger: h.journal,
		Stored: h.outbox.Wake, Log: h.component("messages")})
	return err
}

// registered knows the devices of the fleet.
type registered struct{ fleet *fleet.Fleet }

// Exists implements the registry of twins, calls and messages.
func (r registered) Exists(ctx context.Context, d identity.Device) error {
	_, err := r.fleet.Device(ctx, d)
	return err
}

// reach reaches devices: over the bus, in whatever process their session is,
// and through the gateway where it is in this one.
type reach struct{ h *hub }

// desired is a patch of desired properties as it travels on the bus.
type desired struct {
	Version int64  `json:"version"`
	Patch   []byte `json:"patch"`
}

// Desired implements twins.Sessions.
func (r *reach) Desired(ctx context.Context, d identity.Device, version int64, patch []byte) error {
	b, err := json.Marshal(desired{version, patch})
	if err != nil {
		return fmt.Errorf("desired properties of %s: %w", d, err)
	}
	return r.sessions().request(ctx, d, stream.VerbDesired, b)
}

// Notify implements messages.Sessions.
func (r *reach) Notify(ctx context.Context, d identity.Device) {
	if err := r.sessions().request(ctx, d, stream.VerbMessages, nil); err != nil {
		r.h.log.WarnContext(ctx, "messages wait for the device's next session", "device", d, "err", err)
	}
}

func (r *reach) sessions() *sessions { return &sessions{bus: r.h.stream.Bus()} }

// Method implements calls.Bus.
func (r *reach) Method(ctx context.Context, d identity.Device, call []byte) ([]byte, error) {
	return r.h.stream.Bus().Request(ctx, d, stream.VerbMethod, call)
}

// Await implements calls.Bus.
func (r *reach) Await() (address string, body <-chan []byte, stop func(), err error) {
	return r.h.stream.Bus().Await()
}

// Send implements calls.Bus.
func (r *reach) Send(address string, body []byte) error { return r.h.stream.Bus().Send(address, body) }

// Call implements calls.Sessions.
func (r *reach) Call(d identity.Device, topic string, body []byte) error {
	return r.h.gateway.Call(d, topic, body)
}

// Deliver implements messages.Sessions.
func (r *reach) Deliver(d identity.Device, m messages.Sending) (packet uint16, err error) {
	return r.h.gateway.Deliver(d, gateway.Delivery(m))
}

// tellDesired does stream.VerbDesired on the session that this process holds.
func (h *hub) tellDesired(d identity.Device, body []byte) bool {
	var p desired
	if err := json.Unmarshal(body, &p); err != nil {
		h.log.Error("desired properties on the bus", "device", d, "err", err)
		return false
	}
	return h.gateway.Publish(d, iothub.DesiredPatch{Version: uint64(p.Version)}.String(), p.Patch)
}
