package link

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"holdfast/fault"
	"holdfast/iothub"
	"holdfast/mqtt"
	"holdfast/posture"
	"holdfast/release"
)

// Publish sends a message with quality of service 1 and waits for the hub's
// PUBACK: once it returns nil the hub has the message. At most 16 messages are
// on their way at a time; more callers wait.
func (s *Session) Publish(ctx context.Context, topic iothub.Topic, body []byte) error {
	if err := s.publish(ctx, topic, body); err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	return nil
}

func (s *Session) publish(ctx context.Context, topic iothub.Topic, body []byte) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-s.done:
		return s.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
	id, acked := s.expectAck()
	defer s.forgetAck(id)
	p := &mqtt.Publish{Topic: topic.String(), Payload: body, QoS: mqtt.AtLeastOnce, ID: id}
	if err := s.send(p); err != nil {
		return err
	}
	select {
	case <-acked:
		return nil
	case <-s.done:
		return s.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// expectAck takes a packet identifier that is not in use.
func (s *Session) expectAck() (uint16, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		s.mu.lastID++
		if _, used := s.mu.acks[s.mu.lastID]; s.mu.lastID != 0 && !used {
			break
		}
	}
	acked := make(chan struct{})
	s.mu.acks[s.mu.lastID] = acked
	return s.mu.lastID, acked
}

func (s *Session) forgetAck(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.acks, id)
}

// Attest sends a request to $hub/attest and returns the hub's answer. An
// answer of failure is an error of the kind that its body names.
func (s *Session) Attest(ctx context.Context, op iothub.AttestOp, body []byte) ([]byte, error) {
	answer, err := s.request(ctx, func(rid string) iothub.Topic { return iothub.Attest{Op: op, RequestID: rid} }, body)
	if err != nil {
		return nil, fmt.Errorf("attest %s: %w", op, err)
	}
	return answer, nil
}

// Progress reports of an update. Once it returns nil, the hub has kept the
// report. A hub that does not speak of updates is told nothing, which is an
// error of the kind fault.Unavailable.
func (s *Session) Progress(ctx context.Context, p release.Progress) error {
	body, err := json.Marshal(p)
	if err == nil && !s.updates {
		err = fault.New(fault.Unavailable, "the hub takes no reports of updates")
	}
	if err == nil {
		_, err = s.request(ctx, func(rid string) iothub.Topic { return iothub.UpdateProgress{RequestID: rid} }, body)
	}
	if err != nil {
		return fmt.Errorf("report update: %w", err)
	}
	return nil
}

// request sends a request and returns the body of its answer.
func (s *Session) request(ctx context.Context, topic func(rid string) iothub.Topic, body []byte) ([]byte, error) {
	rid, answered := s.expectAnswer()
	defer s.forgetAnswer(rid)
	if err := s.send(&mqtt.Publish{Topic: topic(rid).String(), Payload: body}); err != nil {
		return nil, err
	}
	select {
	case a := <-answered:
		if a.status/100 != 2 {
			return nil, failure(a)
		}
		return a.body, nil
	case <-s.done:
		return nil, s.Err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// failure is the error that an answer's body tells.
func failure(a answer) error {
	var body struct {
		Error struct {
			Kind    fault.Kind `json:"kind"`
			Message string     `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(a.body, &body) != nil || body.Error.Kind == "" {
		return fault.New(fault.Internal, "hub answers %d", a.status)
	}
	return fault.New(body.Error.Kind, "%s", body.Error.Message)
}

func (s *Session) expectAnswer() (string, <-chan answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.lastRID++
	rid, answered := strconv.FormatUint(s.mu.lastRID, 10), make(chan answer, 1)
	s.mu.requests[rid] = answered
	return rid, answered
}

func (s *Session) forgetAnswer(rid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.requests, rid)
}

// handle takes one packet of an open session.
func (s *Session) handle(p mqtt.Packet) error {
	switch p := p.(type) {
	case *mqtt.Publish:
		return s.message(p)
	case *mqtt.Puback:
		s.acknowledge(p.ID)
	case *mqtt.Pingresp:
	default:
		return fmt.Errorf("hub sends packet type %d in an open session", p.Type())
	}
	return nil
}

// acknowledge wakes who waits for a PUBACK. One that nobody waits for any more
// is late, not wrong.
func (s *Session) acknowledge(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if acked := s.mu.acks[id]; acked != nil {
		close(acked)
		delete(s.mu.acks, id)
	}
}

func (s *Session) message(p *mqtt.Publish) error {
	topic, err := iothub.ParseTopic(p.Topic)
	if err != nil {
		return fmt.Errorf("hub sends to an unknown topic: %w", err)
	}
	switch t := topic.(type) {
	case iothub.AttestResult:
		s.answer(t.RequestID, t.Status, p.Payload)
	case iothub.UpdateResult:
		s.answer(t.RequestID, t.Status, p.Payload)
	case iothub.UpdateOffer:
		newest(s.offers, bytes.Clone(p.Payload))
	case iothub.Posture:
		if err := s.posture(p.Payload); err != nil {
			return err
		}
	}
	if p.QoS == mqtt.AtLeastOnce {
		return s.send(&mqtt.Puback{ID: p.ID})
	}
	return nil
}

// answer wakes who waits for the answer to a request.
func (s *Session) answer(rid string, status int, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answered := s.mu.requests[rid]; answered != nil {
		answered <- answer{status, bytes.Clone(body)}
		delete(s.mu.requests, rid)
	}
}

func (s *Session) posture(body []byte) error {
	var r posture.Report
	if err := json.Unmarshal(body, &r); err != nil {
		return fmt.Errorf("hub sends a posture that cannot be read: %w", err)
	}
	newest(s.postures, r)
	return nil
}

// newest replaces what waits in a channel with room for one to be taken. Only
// the session's reader may call it: then there is room.
func newest[T any](c chan T, v T) {
	select {
	case <-c:
	default:
	}
	c <- v
}
