package calls_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/fault"
	"holdfast/hub/calls"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
)

// bench is Calls with a bus and a device.
type bench struct {
	*calls.Calls

	mu       sync.Mutex
	online   bool
	full     bool  // it does not read what it is sent
	refuse   error // what the ledger says
	inboxes  map[string]chan []byte
	recorded []string
	got      []published // by the device
}

type published struct {
	topic iothub.MethodCall
	body  string
}

func (b *bench) Exists(_ context.Context, d identity.Device) error {
	if d != "d" {
		return fault.New(fault.NotFound, "no device")
	}
	return nil
}

func (b *bench) Record(_ context.Context, kind string, _ identity.Device, _ any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.recorded = append(b.recorded, kind)
	return b.refuse
}

func (b *bench) Method(_ context.Context, d identity.Device, call []byte) ([]byte, error) {
	reply, handled := b.Deliver(d, call)
	if !handled {
		return nil, fault.New(fault.NotFound, "offline")
	}
	return reply, nil
}

func (b *bench) Await() (string, <-chan []byte, func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	address := fmt.Sprint("inbox.", len(b.inboxes))
	b.inboxes[address] = make(chan []byte, 1)
	return address, b.inboxes[address], func() {}, nil
}

func (b *bench) Send(address string, body []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.inboxes[address] <- body:
	default:
	}
	return nil
}

func (b *bench) Call(_ identity.Device, topic string, body []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.online {
		return fault.New(fault.NotFound, "offline")
	}
	if b.full {
		return fault.New(fault.Unavailable, "it does not read")
	}
	parsed, err := iothub.ParseTopic(topic)
	if err != nil {
		panic(err)
	}
	b.got = append(b.got, published{parsed.(iothub.MethodCall), string(body)})
	return nil
}

// last returns what the device got last.
func (b *bench) last() published {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.got[len(b.got)-1]
}

// pass lets time pass, and what happens meanwhile.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func run(t *testing.T, f func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{online: true, inboxes: map[string]chan []byte{}}
		var err error
		if b.Calls, err = calls.New(calls.Config{Registry: b, Bus: b, Sessions: b, Ledger: b, Log: slog.New(slog.DiscardHandler)}); err != nil {
			t.Fatal(err)
		}
		f(t, b)
	})
}

func (b *bench) call(t *testing.T, in operator.CallMethod) <-chan string {
	out := make(chan string, 1)
	go func() {
		r, err := b.CallMethod(t.Context(), "tester", "d", "m", in)
		if err != nil {
			out <- iothub.CodeOf(err).String()
			return
		}
		out <- fmt.Sprint(r.Status, " ", string(r.Payload))
	}()
	return out
}

func TestCall(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		for _, c := range []struct{ payload, sent, answer, want string }{
			{``, `null`, ``, `200 null`},
			{`null`, `null`, `null`, `200 null`},
			{`{"a": "<&>"}`, `{"a":"<&>"}`, ` {"b":1.10} `, `200  {"b":1.10} `},
			{`"text"`, `"text"`, `{`, `BadGateway`},
			{`1`, `1`, `"` + strings.Repeat("x", calls.MaxPayload) + `"`, `BadGateway`},
		} {
			out := b.call(t, operator.CallMethod{Payload: json.RawMessage(c.payload)})
			got := b.last()
			if got.body != c.sent || got.topic.Name != "m" {
				t.Errorf("device got %+v, want %s", got, c.sent)
			}
			b.Answered("other", iothub.MethodResult{Status: 666, RequestID: got.topic.RequestID}, nil)
			b.Answered("d", iothub.MethodResult{Status: 666, RequestID: "other"}, nil)
			b.Answered("d", iothub.MethodResult{Status: 200, RequestID: got.topic.RequestID}, []byte(c.answer))
			b.Answered("d", iothub.MethodResult{Status: 666, RequestID: got.topic.RequestID}, nil)
			if r := <-out; r != c.want {
				t.Errorf("answer %s, want %s", r, c.want)
			}
		}
	})
}

func TestCallThatIsNotAnswered(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		start := time.Now()
		out := b.call(t, operator.CallMethod{Timeout: 7})
		got := b.last()
		if r := <-out; r != "GatewayTimeout" || time.Since(start) != 7*time.Second {
			t.Errorf("%s after %s", r, time.Since(start))
		}
		b.Answered("d", iothub.MethodResult{RequestID: got.topic.RequestID}, nil)
		start = time.Now()
		if r := <-b.call(t, operator.CallMethod{}); r != "GatewayTimeout" || time.Since(start) != calls.DefaultTimeout {
			t.Errorf("%s after %s", r, time.Since(start))
		}
	})
}

func TestCallWaitsForTheDeviceToConnect(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.online = false
		if r := <-b.call(t, operator.CallMethod{}); r != "DeviceNotOnline" {
			t.Error(r)
		}
		start := time.Now()
		if r := <-b.call(t, operator.CallMethod{Connect: 3}); r != "DeviceNotOnline" || time.Since(start) > 3*time.Second || time.Since(start) < 2*time.Second {
			t.Errorf("%s after %s", r, time.Since(start))
		}
		out := b.call(t, operator.CallMethod{Connect: 5, Timeout: 1})
		pass(4 * time.Second)
		b.mu.Lock()
		b.online = true
		b.mu.Unlock()
		pass(500 * time.Millisecond)
		b.Answered("d", iothub.MethodResult{Status: 1, RequestID: b.last().topic.RequestID}, nil)
		if r := <-out; r != "1 null" {
			t.Error(r)
		}
	})
}

func TestTenCallsAtOnce(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		var outs []<-chan string
		seen := map[string]bool{}
		for range calls.MaxInFlight {
			outs = append(outs, b.call(t, operator.CallMethod{Timeout: 5}))
			seen[b.last().topic.RequestID] = true
		}
		if len(seen) != calls.MaxInFlight {
			t.Errorf("%d request ids", len(seen))
		}
		if r := <-b.call(t, operator.CallMethod{}); r != "DeviceMaximumActiveMethodsExceeded" {
			t.Error(r)
		}
		for _, out := range outs {
			if r := <-out; r != "GatewayTimeout" {
				t.Error(r)
			}
		}
		b.full = true
		for range calls.MaxInFlight + 1 { // what does not fit is not waited for
			if r := <-b.call(t, operator.CallMethod{}); r != "ThrottleBacklogLimitExceeded" {
				t.Error(r)
			}
		}
		b.full = false
		synctest.Wait()
		out := b.call(t, operator.CallMethod{}) // there is room again
		b.Answered("d", iothub.MethodResult{Status: 1, RequestID: b.last().topic.RequestID}, nil)
		if r := <-out; r != "1 null" {
			t.Error(r)
		}
	})
}

func TestCallsThatAreRefused(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		for _, c := range []struct {
			device identity.Device
			method string
			in     operator.CallMethod
			code   iothub.Code
		}{
			{"other", "m", operator.CallMethod{}, iothub.CodeDeviceNotFound},
			{"d", "", operator.CallMethod{}, iothub.CodeArgument},
			{"d", "a/b", operator.CallMethod{}, iothub.CodeArgument},
			{"d", "a+b", operator.CallMethod{}, iothub.CodeArgument},
			{"d", "ä", operator.CallMethod{}, iothub.CodeArgument},
			{"d", strings.Repeat("x", 200), operator.CallMethod{}, iothub.CodeArgument},
			{"d", "m", operator.CallMethod{Payload: []byte(`{`)}, iothub.CodeDeserialize},
			{"d", "m", operator.CallMethod{Payload: []byte(`"` + strings.Repeat("x", calls.MaxPayload) + `"`)}, iothub.CodeTooLarge},
			{"d", "m", operator.CallMethod{Timeout: 301}, iothub.CodeArgument},
			{"d", "m", operator.CallMethod{Timeout: -1}, iothub.CodeArgument},
			{"d", "m", operator.CallMethod{Connect: 301}, iothub.CodeArgument},
		} {
			if _, err := b.CallMethod(t.Context(), "tester", c.device, c.method, c.in); iothub.CodeOf(err) != c.code {
				t.Errorf("%s %q: %v", c.device, c.method, err)
			}
		}
		b.refuse = fault.New(fault.Unavailable, "the ledger is full")
		if _, err := b.CallMethod(t.Context(), "tester", "d", "m", operator.CallMethod{}); fault.Of(err) != fault.Unavailable {
			t.Errorf("without a record: %v", err)
		}
		if len(b.got) > 0 {
			t.Errorf("device got %v", b.got)
		}
	})
}
