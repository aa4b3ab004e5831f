package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"holdfast/access"
	"holdfast/fault"
	"holdfast/hub/gateway"
	"holdfast/iothub"
	"holdfast/mqtt"
)

// Requests of one kind are answered in their order, those of different kinds
// beside one another.
func TestRequests(t *testing.T) {
	hold := make(chan bool)
	b := start(t, &fakeHub{answer: func(ctx context.Context, s *gateway.Session, r iothub.Request, payload []byte) (iothub.Topic, []byte, error) {
		switch r := r.(type) {
		case iothub.Attest:
			<-hold
		case iothub.ReportedPatch:
			if string(payload) == "null" {
				return nil, nil, iothub.Fail(iothub.CodeDeserialize, "not an object")
			}
			return iothub.TwinResult{Status: 204, RequestID: r.RequestID, Version: 7}, nil, nil
		}
		return r.Result(200), append([]byte("of "), s.Device()...), nil
	}})
	c := b.open(t, "pump-01")
	c.subscribe(iothub.TwinFilter, iothub.AttestFilter, iothub.CredentialFilter)
	c.send(
		&mqtt.Publish{Topic: "$hub/attest/nonce/?$rid=0"},
		&mqtt.Publish{Topic: "$iothub/twin/GET/?$rid=1", Payload: []byte(" ")},
		&mqtt.Publish{Topic: "$iothub/twin/PATCH/properties/reported/?$rid=2", Payload: []byte("{}")},
		&mqtt.Publish{Topic: "$iothub/twin/PATCH/properties/reported/?$rid=3", Payload: []byte("null")},
	)
	for _, want := range []string{"$iothub/twin/res/200/?$rid=1", "$iothub/twin/res/204/?$rid=2&$version=7", "$iothub/twin/res/400/?$rid=3"} {
		p := expect[*mqtt.Publish](c)
		if p.Topic != want || p.QoS != 0 || want == "$iothub/twin/res/200/?$rid=1" && string(p.Payload) != "of pump-01" {
			t.Fatalf("answer %+v %s, want %s", p, p.Payload, want)
		}
		var e iothub.ErrorBody
		if strings.Contains(want, "400") && (json.Unmarshal(p.Payload, &e) != nil || e.ErrorCode != iothub.CodeDeserialize || e.TrackingID == "") {
			t.Errorf("error body %s", p.Payload)
		}
	}
	hold <- true
	if p := expect[*mqtt.Publish](c); p.Topic != "$hub/attest/res/200/?$rid=0" {
		t.Errorf("answer %+v", p)
	}
	c.send(&mqtt.Publish{Topic: "$iothub/credentials/POST/issueCertificate/?$rid=4", QoS: 1, ID: 9})
	if p := expect[*mqtt.Publish](c); p.Topic != "$iothub/credentials/res/200/?$rid=4" {
		t.Errorf("answer %+v", p)
	}
	if ack := expect[*mqtt.Puback](c); ack.ID != 9 {
		t.Errorf("PUBACK %d", ack.ID)
	}
}

// Who asks faster than the hub answers is refused.
func TestTooManyRequests(t *testing.T) {
	began, hold := make(chan bool, 100), make(chan bool)
	b := start(t, &fakeHub{answer: func(_ context.Context, _ *gateway.Session, r iothub.Request, _ []byte) (iothub.Topic, []byte, error) {
		began <- true
		<-hold
		return r.Result(200), nil, nil
	}})
	c := b.open(t, "pump-01")
	c.subscribe(iothub.TwinFilter)
	for range 17 {
		c.send(&mqtt.Publish{Topic: "$iothub/twin/GET/?$rid=1"})
	}
	if p := expect[*mqtt.Publish](c); p.Topic != "$iothub/twin/res/429/?$rid=1" || !strings.Contains(string(p.Payload), `"errorCode":429`) {
		t.Errorf("answer %s %s", p.Topic, p.Payload)
	}
	close(hold)
	for range 16 {
		if p := expect[*mqtt.Publish](c); p.Topic != "$iothub/twin/res/200/?$rid=1" {
			t.Errorf("answer %+v", p)
		}
	}
}

func TestMethodResult(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.open(t, "pump-01")
	c.subscribe(iothub.MethodFilter)
	if !b.Publish("pump-01", iothub.MethodCall{Name: "reboot", RequestID: "1a"}.String(), []byte("null")) {
		t.Fatal("not sent")
	}
	if p := expect[*mqtt.Publish](c); p.Topic != "$iothub/methods/POST/reboot/?$rid=1a" || string(p.Payload) != "null" {
		t.Errorf("got %+v", p)
	}
	c.send(&mqtt.Publish{Topic: "$iothub/methods/res/200/?$rid=1a", Payload: []byte("{}"), QoS: 1, ID: 3})
	expect[*mqtt.Puback](c)
	want := result{"pump-01", iothub.MethodResult{Status: 200, RequestID: "1a"}, []byte("{}")}
	if got := b.hub.results; len(got) != 1 || got[0].device != want.device || got[0].topic != want.topic || string(got[0].payload) != "{}" {
		t.Errorf("results %+v", got)
	}
}

func message(body string, done chan<- error) gateway.Delivery {
	return gateway.Delivery{
		Topic: iothub.Devicebound{Device: "pump-01", Bag: iothub.Bag{{Key: "$.to", Value: "/devices/pump-01"}}},
		Body:  []byte(body), Done: func(err error) { done <- err },
	}
}

func TestDeliver(t *testing.T) {
	b := start(t, &fakeHub{})
	done := make(chan error, 100)
	if _, err := b.Deliver("pump-01", message("", done)); fault.Of(err) != fault.NotFound {
		t.Errorf("without a session: %v", err)
	}
	c := b.open(t, "pump-01")
	if _, err := b.Deliver("pump-01", message("", done)); fault.Of(err) != fault.NotFound {
		t.Errorf("without a subscription: %v", err)
	}
	c.subscribe(iothub.AnyDeviceboundFilter)
	again := message("2", done)
	again.Packet = 77 // of a session that this one does not go on with
	for _, m := range []gateway.Delivery{message("1", done), again} {
		if _, err := b.Deliver("pump-01", m); err != nil {
			t.Fatal(err)
		}
	}
	first, second := expect[*mqtt.Publish](c), expect[*mqtt.Publish](c)
	if first.Topic != "devices/pump-01/messages/devicebound/%24.to=%2Fdevices%2Fpump-01" || first.QoS != 1 || first.Dup || second.Dup || first.ID == second.ID || second.ID == 77 {
		t.Errorf("got %+v and %+v", first, second)
	}
	c.send(&mqtt.Puback{ID: first.ID})
	if err := <-done; err != nil {
		t.Error(err)
	}
	b.SetMode("pump-01", access.Quarantine)
	if _, err := b.Deliver("pump-01", message("", done)); fault.Of(err) != fault.NotFound {
		t.Errorf("in quarantine: %v", err)
	}
	c.send(&mqtt.Disconnect{})
	if err := <-done; !errors.Is(err, gateway.ErrUnacknowledged) {
		t.Errorf("never acknowledged: %v", err)
	}
}

func TestDeliverAtMostOnce(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.open(t, "pump-01")
	c.send(&mqtt.Subscribe{ID: 1, Filters: []mqtt.Filter{{Filter: iothub.AnyDeviceboundFilter}}})
	expect[*mqtt.Suback](c)
	done := make(chan error, 1)
	if _, err := b.Deliver("pump-01", message("1", done)); err != nil {
		t.Fatal(err)
	}
	if p := expect[*mqtt.Publish](c); p.QoS != 0 || <-done != nil {
		t.Errorf("got %+v", p)
	}
}

func TestDeliverLimit(t *testing.T) {
	b := start(t, &fakeHub{})
	c := b.open(t, "pump-01")
	c.subscribe(iothub.AnyDeviceboundFilter)
	done := make(chan error, 100)
	for range 64 { // the limit
		if _, err := b.Deliver("pump-01", message("", done)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Deliver("pump-01", message("", done)); fault.Of(err) != fault.Unavailable {
		t.Errorf("message 65: %v", err)
	}
	c.send(&mqtt.Puback{ID: 999})
	c.send(&mqtt.Disconnect{})
	for range 64 {
		if err := <-done; err == nil {
			t.Error("acknowledged")
		}
	}
}

func TestProvisioning(t *testing.T) {
	mode := access.Provision
	b := start(t, &fakeHub{
		admit: func(_ context.Context, p gateway.Peer) (gateway.Admission, error) {
			if r := p.Registration; r != nil && (r.Scope != "0ne1" || r.ID != "PUMP-01" || p.Device != "pump-01") {
				return gateway.Admission{}, errors.New("another registration")
			} else if r == nil {
				return gateway.Admission{Mode: access.Full}, nil
			}
			return gateway.Admission{Mode: mode}, nil
		},
		answer: func(_ context.Context, s *gateway.Session, r iothub.Request, _ []byte) (iothub.Topic, []byte, error) {
			if s.Registration().Scope != "0ne1" {
				return nil, nil, errors.New("another scope")
			}
			return iothub.RegisterResult{Status: 202, RequestID: "1", RetryAfter: 3}, []byte("{}"), nil
		},
	})
	hub := b.open(t, "pump-01")
	user := "0ne1/registrations/PUMP-01/api-version=2019-03-31"
	connect := func() *client {
		c := b.dial(t, "pump-01")
		c.send(&mqtt.Connect{ClientID: "PUMP-01", Username: &user})
		return c
	}
	c := connect()
	if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.Accepted {
		t.Fatalf("CONNACK %+v", ack)
	}
	if codes := c.subscribe(iothub.RegisterFilter, iothub.TwinFilter, iothub.AttestFilter); codes[0] != 1 || codes[1] != 0x80 || codes[2] != 0x80 {
		t.Errorf("SUBACK %v", codes)
	}
	c.send(&mqtt.Publish{Topic: "$dps/registrations/PUT/iotdps-register/?$rid=1", QoS: 1, ID: 1})
	if p := expect[*mqtt.Publish](c); p.Topic != "$dps/registrations/res/202/?$rid=1&retry-after=3" {
		t.Errorf("answer %+v", p)
	}
	expect[*mqtt.Puback](c)
	if b.SetMode("pump-01", access.Full); len(b.Sessions()) != 2 {
		t.Errorf("%d sessions", len(b.Sessions()))
	}
	hub.alive() // a registration replaces no session with the hub
	c.send(&mqtt.Publish{Topic: telemetry, QoS: 1, ID: 2})
	c.expectEnd()
	b.hub.awaitClosed(t, gateway.Violation, "provision")

	mode = access.Full // what the hub may not say
	c = connect()
	if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.RefusedNotNow {
		t.Errorf("CONNACK %+v", ack)
	}
	b.hub.awaitRefused(t, "admitted in mode full")
}
