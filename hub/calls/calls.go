// Package calls calls methods on devices. A call is never queued: the device
// is connected and has subscribed, or the call fails at once (or after the
// time that the caller gives it to connect).
//
// The process that takes a call and the one that holds the device's session
// may be two: the call travels on the bus to the one with the session, which
// remembers it until the device answers, and the answer travels back to an
// address that the caller made.
package calls

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
)

// Limits of calls.
const (
	MaxPayload     = 128 << 10 // bytes, each way
	MaxTimeout     = 300 * time.Second
	DefaultTimeout = 30 * time.Second
	MaxInFlight    = 10 // calls of one device at once
)

// redial is how often it is tried whether a device has connected.
const redial = 250 * time.Millisecond

// Registry knows the devices.
type Registry interface {
	// Exists returns a fault of kind NotFound for a device that is not registered.
	Exists(ctx context.Context, d identity.Device) error
}

// Bus reaches the process that holds a device's session, and brings answers
// back.
type Bus interface {
	// Method hands a call to Calls.Deliver of the process with the session and
	// returns its reply; a fault of kind NotFound when there is none.
	Method(ctx context.Context, d identity.Device, call []byte) ([]byte, error)
	// Await makes an address; the channel gets what is sent there first.
	Await() (address string, body <-chan []byte, stop func(), err error)
	// Send sends to an address, at which nobody may await anything any more.
	Send(address string, body []byte) error
}

// Sessions publishes to devices whose session this process holds.
type Sessions interface {
	// Call sends a call. The error is of kind fault.NotFound when the device has
	// no session that has subscribed, and fault.Unavailable when it does not read
	// fast enough for the call to fit.
	Call(d identity.Device, topic string, body []byte) error
}

// Ledger records what operators do.
type Ledger interface {
	Record(ctx context.Context, kind string, device identity.Device, details any) error
}

// KindCall is the kind of the ledger's record of a call. It is made before the
// device is asked: no call goes out that the ledger does not know.
const KindCall = "method.call"

// Config has what Calls works with. All fields are required.
type Config struct {
	Registry Registry
	Bus      Bus
	Sessions Sessions
	Ledger   Ledger
	Log      *slog.Logger
}

// Calls calls methods. It is safe for concurrent use.
type Calls struct {
	cfg Config

	mu      sync.Mutex
	waiting map[identity.Device]map[string]waiting // by request id
}

// waiting is a call that a device has not answered.
type waiting struct {
	reply string // address
	timer *time.Timer
}

// New makes Calls.
func New(cfg Config) (*Calls, error) {
	if cfg.Registry == nil || cfg.Bus == nil || cfg.Sessions == nil || cfg.Ledger == nil || cfg.Log == nil {
		return nil, errors.New("calls: config lacks a collaborator")
	}
	return &Calls{cfg: cfg, waiting: map[identity.Device]map[string]waiting{}}, nil
}

// call is a call as it travels on the bus.
type call struct {
	ID      string        `json:"id"` // of the request to the device
	Method  string        `json:"method"`
	Payload []byte        `json:"payload"`
	Timeout time.Duration `json:"timeout"`
	Reply   string        `json:"reply"` // address
}

// result is a device's answer as it travels back.
type result struct {
	Status  int    `json:"status"`
	Payload []byte `json:"payload"`
}

// CallMethod calls a method on a device for an operator and returns what the
// device answered. Its errors have the protocol's codes: CodeNotOnline,
// CodeTimeout, CodeInFlight, CodeBacklog, CodeBadAnswer.
func (c *Calls) CallMethod(ctx context.Context, by string, d identity.Device, method string, in operator.CallMethod) (operator.MethodResult, error) {
	out := operator.MethodResult{}
	k, connect, err := check(method, in)
	if err != nil {
		return out, err
	}
	if err := c.cfg.Registry.Exists(ctx, d); err != nil {
		return out, err
	}
	details := map[string]any{"by": by, "method": method, "payload": identity.Sum(k.Payload)}
	if err := c.cfg.Ledger.Record(ctx, KindCall, d, details); err != nil {
		return out, err
	}
	address, body, stop, err := c.cfg.Bus.Await()
	if err != nil {
		return out, err
	}
	defer stop()
	k.Reply = address
	if err := c.dial(ctx, d, k, connect); err != nil {
		return out, err
	}
	timer := time.NewTimer(k.Timeout)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return out, ctx.Err()
	case <-timer.C:
		return out, iothub.Fail(iothub.CodeTimeout, "device %s did not answer within %s", d, k.Timeout)
	case b := <-body:
		return answer(d, b)
	}
}

// check makes a call of what an operator asks for.
func check(method string, in operator.CallMethod) (k call, connect time.Duration, err error) {
	if err := iothub.CheckMethod(method); err != nil {
		return k, 0, iothub.Fail(iothub.CodeArgument, "method: %w", err)
	}
	k = call{ID: rand.Text(), Method: method, Payload: in.Payload, Timeout: time.Duration(in.Timeout) * time.Second}
	connect = time.Duration(in.Connect) * time.Second
	if k.Timeout == 0 {
		k.Timeout = DefaultTimeout
	}
	var payload bytes.Buffer
	switch {
	case len(k.Payload) == 0:
		payload.WriteString("null") // some clients do not take an empty body
	case len(k.Payload) > MaxPayload:
		return k, 0, iothub.Fail(iothub.CodeTooLarge, "payload has %d bytes, at most %d are allowed", len(k.Payload), MaxPayload)
	case json.Compact(&payload, k.Payload) != nil:
		return k, 0, iothub.Fail(iothub.CodeDeserialize, "payload is no JSON")
	}
	k.Payload = payload.Bytes()
	if in.Timeout < 0 || k.Timeout > MaxTimeout || in.Connect < 0 || connect > MaxTimeout {
		return k, 0, iothub.Fail(iothub.CodeArgument, "times to wait: want at most %d seconds", MaxTimeout/time.Second)
	}
	return k, connect, nil
}

// What Deliver replies when the device has calls enough, and when what it is
// sent already waits to be read.
const (
	refusedBusy = "busy"
	refusedFull = "full"
)

// dial hands a call to the device's session, waiting for one as long as it may.
func (c *Calls) dial(ctx context.Context, d identity.Device, k call, connect time.Duration) error {
	b, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("call %s of %s: %w", k.Method, d, err)
	}
	until := time.Now().Add(connect)
	for {
		reply, err := c.cfg.Bus.Method(ctx, d, b)
		switch {
		case err == nil && string(reply) == refusedBusy:
			return iothub.Fail(iothub.CodeInFlight, "%d calls of %s have not been answered", MaxInFlight, d)
		case err == nil && string(reply) == refusedFull:
			return iothub.Fail(iothub.CodeBacklog, "device %s has not read what it was sent: the call does not fit", d)
		case err == nil || fault.Of(err) != fault.NotFound:
			return err
		case time.Now().Add(redial).After(until):
			return iothub.Fail(iothub.CodeNotOnline, "device %s is not connected, or has not subscribed to methods", d)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(redial):
		}
	}
}

// answer makes an operator's answer of a device's.
func answer(d identity.Device, b []byte) (operator.MethodResult, error) {
	var r result
	if err := json.Unmarshal(b, &r); err != nil {
		return operator.MethodResult{}, fmt.Errorf("answer of %s on the bus: %w", d, err)
	}
	switch {
	case len(r.Payload) > MaxPayload:
		return operator.MethodResult{}, iothub.Fail(iothub.CodeBadAnswer, "device %s answered with %d bytes, at most %d are taken", d, len(r.Payload), MaxPayload)
	case len(r.Payload) > 0 && !json.Valid(r.Payload):
		return operator.MethodResult{}, iothub.Fail(iothub.CodeBadAnswer, "device %s answered with status %d and a body that is no JSON", d, r.Status)
	case len(r.Payload) == 0:
		r.Payload = []byte("null")
	}
	return operator.MethodResult{Status: r.Status, Payload: r.Payload}, nil
}

// Deliver takes a call from the bus to a device whose session this process
// holds; handled is false when it holds none that has subscribed.
func (c *Calls) Deliver(d identity.Device, b []byte) (reply []byte, handled bool) {
	var k call
	if err := json.Unmarshal(b, &k); err != nil {
		c.cfg.Log.Error("call on the bus", "device", d, "err", err)
		return nil, false
	}
	if !c.expect(d, k) {
		return []byte(refusedBusy), true
	}
	topic := iothub.MethodCall{Name: k.Method, RequestID: k.ID}
	err := c.cfg.Sessions.Call(d, topic.String(), k.Payload)
	if err == nil {
		return nil, true
	}
	c.take(d, k.ID)
	if fault.Of(err) == fault.Unavailable {
		return []byte(refusedFull), true
	}
	return nil, false
}

// expect remembers a call until it is answered or nobody waits any more.
func (c *Calls) expect(d identity.Device, k call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.waiting[d]
	if len(calls) >= MaxInFlight {
		return false
	}
	if calls == nil {
		calls = map[string]waiting{}
		c.waiting[d] = calls
	}
	calls[k.ID] = waiting{reply: k.Reply, timer: time.AfterFunc(k.Timeout, func() { c.take(d, k.ID) })}
	return true
}

// take forgets a call and says where its answer has to go.
func (c *Calls) take(d identity.Device, id string) (address string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, ok := c.waiting[d][id]
	if !ok {
		return "", false
	}
	w.timer.Stop()
	delete(c.waiting[d], id)
	if len(c.waiting[d]) == 0 {
		delete(c.waiting, d)
	}
	return w.reply, true
}

// Answered takes what a device answered. What it was not asked, or answers
// too late or twice, is dropped.
func (c *Calls) Answered(d identity.Device, r iothub.MethodResult, payload []byte) {
	address, ok := c.take(d, r.RequestID)
	if !ok {
		c.cfg.Log.Debug("answer that nobody waits for", "device", d)
		return
	}
	b, err := json.Marshal(result{Status: r.Status, Payload: payload})
	if err == nil {
		err = c.cfg.Bus.Send(address, b)
	}
	if err != nil {
		c.cfg.Log.Error("answer of a method", "device", d, "err", err)
	}
}
