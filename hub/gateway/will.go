package gateway

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"holdfast/access"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/mqtt"
)

// will is the message that the gateway takes as the device's when its session
// ends without a word.
type will struct {
	events iothub.Events
	body   []byte
	retain bool
	delay  time.Duration // of MQTT 5
}

// wills has those that wait for their delay to pass.
type wills struct {
	mu    sync.Mutex
	waits map[identity.Device]*waiting
}

type waiting struct {
	timer   *time.Timer
	publish func()
}

// put starts the delay of a device's will.
func (w *wills) put(d identity.Device, delay time.Duration, publish func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waits == nil {
		w.waits = map[identity.Device]*waiting{}
	}
	wait := &waiting{publish: publish}
	w.waits[d] = wait
	wait.timer = time.AfterFunc(delay, func() {
		if w.take(d, wait) != nil {
			publish()
		}
	})
}

// take takes a device's will out, nil if there is none or, where one is given,
// if it is another.
func (w *wills) take(d identity.Device, only *waiting) *waiting {
	w.mu.Lock()
	defer w.mu.Unlock()
	wait := w.waits[d]
	if wait == nil || only != nil && wait != only {
		return nil
	}
	delete(w.waits, d)
	wait.timer.Stop()
	return wait
}

// publishAll publishes what waits, when the gateway ends.
func (w *wills) publishAll() {
	w.mu.Lock()
	waits := w.waits
	w.waits = nil
	w.mu.Unlock()
	for _, wait := range waits {
		wait.timer.Stop()
		wait.publish()
	}
}

// settleWill decides on the will of an earlier connection, when a new one is
// admitted: a session that goes on has none (MQTT 5, section 3.1.3.2.2), one
// that ends here has it now.
func (s *Session) settleWill() {
	if s.register != nil {
		return
	}
	if wait := s.g.wills.take(s.device, nil); wait != nil && !s.Resumed() {
		wait.publish()
	}
}

// lastWill publishes the will of a session that ended, or lets it wait.
func (s *Session) lastWill(ctx context.Context, cause Cause, mode access.Mode) {
	w := s.will
	if w == nil || mode != access.Full {
		return
	}
	if cause == Left || cause == Revoked || cause == Expired || cause == Shutdown {
		return
	}
	next, replaced := s.g.reg.successor(s)
	delay := min(w.delay, time.Duration(s.expiry)*time.Second)
	switch {
	case delay > 0 && replaced && next.Resumed():
		return
	case delay > 0 && !replaced:
		s.g.wills.put(s.device, delay, func() { s.publishWill(ctx) })
		return
	}
	s.publishWill(ctx)
}

// publishWill stores the will as telemetry (MQTT-3.1.2-8).
func (s *Session) publishWill(ctx context.Context) {
	m, err := iothub.NewTelemetry(s.will.events, s.will.body, time.Now())
	if err != nil {
		return // it was made once before, to check it
	}
	m.MarkModel(s.model)
	m.MarkWill()
	if s.will.retain {
		m.MarkRetained()
	}
	log, device := s.g.log, string(s.device)
	s.g.cfg.Telemetry.Append(m, func(err error) {
		if err != nil {
			log.WarnContext(ctx, "will not stored", slog.String("device", device), slog.Any("err", err))
		}
	})
}

// newWill returns the will of a CONNECT, which may only be the device's own
// telemetry.
func (s *Session) newWill(w *mqtt.Will) (*will, error) {
	topic, err := iothub.ParseTopic(w.Topic)
	if err != nil {
		return nil, err
	}
	events, ok := topic.(iothub.Events)
	switch {
	case s.register != nil:
		return nil, errWillDPS
	case w.QoS == mqtt.ExactlyOnce:
		return nil, errWillQoS
	case !ok:
		return nil, errWillTopic
	}
	if err := access.Publish(s.device, access.Full, topic); err != nil {
		return nil, err
	}
	if events.Bag, err = joined(events.Bag, w.Properties, s.opened); err != nil {
		return nil, err
	}
	m, err := iothub.NewTelemetry(events, w.Payload, s.opened)
	if err != nil {
		return nil, err
	}
	delay, _ := w.Properties.Number(mqtt.WillDelay)
	return &will{events: events, body: m.Body, retain: w.Retain, delay: time.Duration(delay) * time.Second}, nil
}
