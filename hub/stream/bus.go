package stream

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"holdfast/fault"
	"holdfast/identity"
)

// The verbs of the bus, each an act on the live session of a device.
const (
	VerbRevoke     = "revoke"     // end the session, for good
	VerbQuarantine = "quarantine" // cut the session down
	VerbRestore    = "restore"    // open it again
	VerbPosture    = "posture"    // publish the body (a posture.Report) to the device
	VerbDesired    = "desired"    // tell the device of changed desired properties
	VerbMethod     = "method"     // call a method; what the device answers comes by Send
	VerbUpdate     = "update"     // publish the body (an offer) to the device
	VerbMessages   = "messages"   // messages wait for the device: deliver them
)

// Bus reaches the process that holds a device's session. A request travels on
// the subject device.<identity.Device.Subject()>.<verb>.
//
// Each process holds one wildcard subscription, not one per session: a session
// costs no memory here. So a process that does not hold the session answers
// too, and says so. Embedded there is one process, whose answer is final; with
// an external cluster a requester has to gather the answers of all processes
// until one held the session.
type Bus struct {
	conn *nats.Conn

	mu    sync.Mutex
	local Handler // of this process, while it serves
}

const requestTimeout = 10 * time.Second

// failed is the header of the answer where the handler panicked.
const failed = "Holdfast-Failed"

// notHeld is the header of the answer of a process without the session.
const notHeld = "Holdfast-Not-Held"

// Request asks whoever holds the device's session to do verb and returns the
// answer. fault.NotFound: nobody holds it, the device is offline.
// fault.Unavailable: no answer until ctx ended, or for 10 s.
func (b *Bus) Request(ctx context.Context, device identity.Device, verb string, body []byte) ([]byte, error) {
	if !b.conn.IsConnected() {
		return b.here(device, verb, body)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	msg, err := b.conn.RequestWithContext(ctx, "device."+device.Subject()+"."+verb, body)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fault.New(fault.NotFound, "device %s is offline", device)
	case err != nil && !b.conn.IsConnected(): // it was cut off meanwhile
		return b.here(device, verb, body)
	case err != nil && ctx.Err() != nil:
		return nil, fault.Hide(fault.Unavailable, "the session did not answer in time", err)
	case err != nil:
		return nil, fmt.Errorf("request %s of %s: %w", verb, device, err)
	case msg.Header.Get(failed) != "":
		return nil, fmt.Errorf("request %s of %s: handler panicked: %s", verb, device, msg.Header.Get(failed))
	case msg.Header.Get(notHeld) != "":
		return nil, fault.New(fault.NotFound, "device %s is offline", device)
	}
	return msg.Data, nil
}

// here asks this process alone, while there is no way to others: a session that
// is held here is revoked whatever became of the cluster. Whether another holds
// it remains open.
func (b *Bus) here(device identity.Device, verb string, body []byte) ([]byte, error) {
	b.mu.Lock()
	handle := b.local
	b.mu.Unlock()
	if handle != nil {
		if reply, handled := handle(device, verb, body); handled {
			return reply, nil
		}
	}
	return nil, fault.New(fault.Unavailable, "the bus to the device's session is cut")
}

func (b *Bus) serveHere(h Handler) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.local = h
}

// Handler does verb on the session of device; handled is false when this
// process does not hold it.
type Handler func(device identity.Device, verb string, body []byte) (reply []byte, handled bool)

// maxRequests is how many requests one process works on at a time.
const maxRequests = 256

// Serve answers requests until ctx ends. Requests for one device are handled
// one after another in their order; those of others do not wait for them.
func (b *Bus) Serve(ctx context.Context, handle Handler) error {
	requests := make(chan *nats.Msg, 16*maxRequests) // above this they are dropped and time out
	sub, err := b.conn.ChanSubscribe("device.*.*", requests)
	if err != nil {
		return fmt.Errorf("serve bus: %w", err)
	}
	defer sub.Unsubscribe()
	b.serveHere(handle)
	defer b.serveHere(nil)
	if err := b.conn.Flush(); err != nil {
		return fmt.Errorf("serve bus: %w", err)
	}
	lanes := newLanes(maxRequests)
	defer lanes.wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case msg := <-requests:
			lanes.run(msg.Subject[:strings.LastIndexByte(msg.Subject, '.')], func() { answer(msg, handle) })
		}
	}
}

func answer(msg *nats.Msg, handle Handler) {
	reply := nats.NewMsg(msg.Reply)
	defer func() {
		if p := recover(); p != nil { // the requester logs it
			reply.Header.Set(failed, strconv.Quote(fmt.Sprint(p)))
		}
		_ = msg.RespondMsg(reply) // who asked finds out by its deadline
	}()
	token, verb, _ := strings.Cut(strings.TrimPrefix(msg.Subject, "device."), ".")
	device, err := parseSubject(token)
	handled := false
	if err == nil {
		reply.Data, handled = handle(device, verb, msg.Data)
	}
	if !handled {
		reply.Header.Set(notHeld, "1")
	}
}

// parseSubject is the inverse of identity.Device.Subject.
func parseSubject(token string) (identity.Device, error) {
	id, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(token))
	if err != nil {
		return "", fmt.Errorf("subject token: %w", err)
	}
	return identity.ParseDevice(string(id))
}

// Await makes an address and returns it with a channel on which the first body
// arrives that is sent to it; stop gives the address up.
func (b *Bus) Await() (address string, body <-chan []byte, stop func(), err error) {
	address = b.conn.NewRespInbox()
	out := make(chan []byte, 1)
	sub, err := b.conn.Subscribe(address, func(m *nats.Msg) {
		select {
		case out <- m.Data:
		default: // it has its answer
		}
	})
	if err != nil {
		return "", nil, nil, fmt.Errorf("await an answer: %w", err)
	}
	if err := b.conn.Flush(); err != nil { // another process may answer at once
		_ = sub.Unsubscribe()
		return "", nil, nil, fmt.Errorf("await an answer: %w", err)
	}
	return address, out, func() { _ = sub.Unsubscribe() }, nil
}

// Send sends a body to whoever awaits it at an address. Nobody may.
func (b *Bus) Send(address string, body []byte) error {
	if err := b.conn.Publish(address, body); err != nil {
		return fmt.Errorf("send an answer: %w", err)
	}
	return nil
}
