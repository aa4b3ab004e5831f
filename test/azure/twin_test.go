package azure_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/mqtt"
	"holdfast/operator"
)

const (
	twinResults = "$iothub/twin/res/#"
	desiredOnes = "$iothub/twin/PATCH/properties/desired/#"
	methodCalls = "$iothub/methods/POST/#"
)

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func TestTwinRoundTrip(t *testing.T) {
	w := newWorld(t)
	d := w.connect(t, "meter-7", w.certificate("meter-7"), twinResults, desiredOnes)
	d.publish("$iothub/twin/GET/?$rid=a1", " ")
	d.expectMessage("$iothub/twin/res/200/?$rid=a1", `{"desired":{"$version":1},"reported":{"$version":1}}`)

	d.publish("$iothub/twin/PATCH/properties/reported/?$rid=reported_prop", `{"fw":"1.0","n":4503599627370495,"gone":null}`)
	d.expectMessage("$iothub/twin/res/204/?$rid=reported_prop&$version=2", "")

	tw, err := w.operator.MergeTwin(t.Context(), "meter-7", operator.SetTwin{Desired: raw(`{"interval":5,"x":{"y":1}}`), Tags: raw(`{"site":"A"}`)}, "")
	if err != nil {
		t.Fatal(err)
	}
	d.expectMessage("$iothub/twin/PATCH/properties/desired/?$version=2", `{"interval":5,"x":{"y":1},"$version":2}`)
	if string(tw.Reported) != `{"fw":"1.0","n":4503599627370495,"$version":2}` || string(tw.Tags) != `{"site":"A"}` {
		t.Errorf("twin %s %s", tw.Reported, tw.Tags)
	}

	if _, err := w.operator.MergeTwin(t.Context(), "meter-7", operator.SetTwin{Desired: raw(`{"x":null}`)}, tw.ETag); err != nil {
		t.Fatal(err)
	}
	d.expectMessage("$iothub/twin/PATCH/properties/desired/?$version=3", `{"x":null,"$version":3}`)
	_, err = w.operator.MergeTwin(t.Context(), "meter-7", operator.SetTwin{Desired: raw(`{"z":1}`)}, tw.ETag)
	if fault.Of(err) != fault.Conflict {
		t.Errorf("change with an old ETag: %v", err)
	}
	if _, err := w.operator.ReplaceTwin(t.Context(), "meter-7", operator.SetTwin{Desired: raw(`{"only":true}`)}, ""); err != nil {
		t.Fatal(err)
	}
	d.expectMessage("$iothub/twin/PATCH/properties/desired/?$version=4", `{"only":true,"$version":4}`)

	w.restart()
	d = w.connect(t, "meter-7", w.certificate("meter-7"), twinResults)
	d.publish("$iothub/twin/GET/?$rid=1", "")
	d.expectMessage("$iothub/twin/res/200/?$rid=1", `{"desired":{"only":true,"$version":4},"reported":{"fw":"1.0","n":4503599627370495,"$version":2}}`)
	checkEvents(t, w, "twin", 5)
}

// checkEvents waits until the stream has n events of a kind.
func checkEvents(t testing.TB, w *world, kind string, n int) []operator.Event {
	t.Helper()
	var got []operator.Event
	enough := errors.New("enough")
	err := w.operator.Events(t.Context(), operator.EventQuery{Kind: kind, Follow: true}, func(e operator.Event) error {
		got = append(got, e)
		if len(got) == n {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("%d events of kind %s: %v", len(got), kind, err)
	}
	return got
}

func TestTwinPatchesThatAreRefused(t *testing.T) {
	w := newWorld(t)
	d := w.connect(t, "meter-7", w.certificate("meter-7"), twinResults)
	for i, c := range []struct {
		body string
		code int
	}{
		{`{"a":`, 400012}, {`[]`, 400012}, {`{"a":1,"a":2}`, 400012}, {`{"$x":1}`, 400004}, {`{"a.b":1}`, 400004},
		{`{"a":4503599627370496}`, 400004}, {strings.Repeat(`{"a":`, 1000), 400004}, {``, 400012},
		{`{"a":"` + strings.Repeat("x", 4097) + `"}`, 400004}, {`{"a":[` + strings.Repeat(`1,`, 5000) + `1]}`, 413001},
	} {
		d.publish(fmt.Sprintf("$iothub/twin/PATCH/properties/reported/?$rid=%d", i), c.body)
		p := d.receive()
		var e struct {
			ErrorCode           int
			TrackingID, Message string
			TimestampUTC        time.Time
		}
		if err := json.Unmarshal(p.Payload, &e); err != nil || e.ErrorCode != c.code || e.TrackingID == "" || e.Message == "" || e.TimestampUTC.IsZero() ||
			p.Topic != fmt.Sprintf("$iothub/twin/res/%d/?$rid=%d", c.code/1000, i) {
			t.Errorf("%.40s: %s %s, want %d", c.body, p.Topic, p.Payload, c.code)
		}
	}
	tw, err := w.operator.Twin(t.Context(), "meter-7")
	if err != nil || string(tw.Reported) != `{"$version":1}` {
		t.Errorf("twin %s, %v", tw.Reported, err)
	}
	if _, err := w.operator.Twin(t.Context(), "meter-unknown"); fault.Of(err) != fault.NotFound {
		t.Errorf("twin of an unknown device: %v", err)
	}
	if _, err := w.operator.MergeTwin(t.Context(), "meter-7", operator.SetTwin{Desired: raw(`{"a b":1}`)}, ""); fault.Of(err) != fault.Invalid {
		t.Errorf("bad desired properties: %v", err)
	}
}

func TestMethods(t *testing.T) {
	w := newWorld(t)
	d := w.connect(t, "meter-7", w.certificate("meter-7"), methodCalls)
	type outcome struct {
		res operator.MethodResult
		err error
	}
	call := func(method string, in operator.CallMethod) chan outcome {
		out := make(chan outcome, 1)
		go func() {
			r, err := w.operator.CallMethod(t.Context(), "meter-7", method, in)
			out <- outcome{r, err}
		}()
		return out
	}
	// answer takes the next call and returns its request id.
	take := func(method, payload string) string {
		t.Helper()
		p := d.receive()
		rid, ok := strings.CutPrefix(p.Topic, "$iothub/methods/POST/"+method+"/?$rid=")
		if !ok || string(p.Payload) != payload {
			t.Fatalf("call %s %s, want %s %s", p.Topic, p.Payload, method, payload)
		}
		return rid
	}
	out := call("reboot", operator.CallMethod{Payload: raw(`{"delay": 3}`), Timeout: 10})
	d.publish("$iothub/methods/res/200/?$rid="+take("reboot", `{"delay":3}`), `{"ok":true}`)
	if o := <-out; o.err != nil || o.res.Status != 200 || string(o.res.Payload) != `{"ok":true}` {
		t.Errorf("answer %+v", o)
	}
	out = call("empty", operator.CallMethod{})
	d.publish("$iothub/methods/res/-5/?$rid="+take("empty", `null`), ``)
	if o := <-out; o.err != nil || o.res.Status != -5 || string(o.res.Payload) != `null` {
		t.Errorf("empty answer %+v", o)
	}
	out = call("garbled", operator.CallMethod{})
	d.publish("$iothub/methods/res/200/?$rid="+take("garbled", `null`), `{`)
	if o := <-out; o.err == nil || !strings.Contains(o.err.Error(), "BadGateway") {
		t.Errorf("answer that is no JSON: %+v", o)
	}
	out = call("slow", operator.CallMethod{Timeout: 1})
	rid := take("slow", `null`)
	if o := <-out; o.err == nil || !strings.Contains(o.err.Error(), "GatewayTimeout") {
		t.Errorf("no answer: %+v", o)
	}
	d.publish("$iothub/methods/res/200/?$rid="+rid, `{}`) // too late
	d.publish("$iothub/methods/res/200/?$rid=made-up", `{}`)

	// Ten at once, answered backwards; one more is refused.
	var outs []chan outcome
	var rids []string
	for i := range 10 {
		outs = append(outs, call("many", operator.CallMethod{Payload: raw(fmt.Sprint(i))}))
		rids = append(rids, take("many", fmt.Sprint(i)))
	}
	if o := <-call("many", operator.CallMethod{}); o.err == nil || !strings.Contains(o.err.Error(), "DeviceMaximumActiveMethodsExceeded") {
		t.Errorf("eleventh call: %+v", o)
	}
	for i := 9; i >= 0; i-- {
		d.publish("$iothub/methods/res/200/?$rid="+rids[i], fmt.Sprintf(`{"i":%d}`, i))
	}
	for i, out := range outs {
		if o := <-out; o.err != nil || string(o.res.Payload) != fmt.Sprintf(`{"i":%d}`, i) {
			t.Errorf("answer %d: %+v", i, o)
		}
	}
	if o := <-call("bad/name", operator.CallMethod{}); o.err == nil {
		t.Error("a name with a slash is called")
	}
}

func TestMethodOfAnotherDeviceCannotBeAnswered(t *testing.T) {
	w := newWorld(t)
	d := w.connect(t, "meter-7", w.certificate("meter-7"), methodCalls)
	thief := w.connect(t, "meter-8", w.certificate("meter-8"), methodCalls)
	out := make(chan string, 1)
	go func() {
		r, err := w.operator.CallMethod(t.Context(), "meter-7", "unlock", operator.CallMethod{Timeout: 20})
		out <- fmt.Sprint(r.Status, err)
	}()
	p := d.receive()
	rid := p.Topic[strings.Index(p.Topic, "?"):]
	thief.publish("$iothub/methods/res/666/"+rid, `{}`)
	thief.sync()
	d.publish("$iothub/methods/res/200/"+rid, `{}`)
	if got := <-out; got != "200 <nil>" {
		t.Errorf("answer %s", got)
	}
}

func TestMethodOfADeviceThatIsAway(t *testing.T) {
	w := newWorld(t)
	d := w.connect(t, "meter-7", w.certificate("meter-7"))
	_, err := w.operator.CallMethod(t.Context(), "meter-7", "x", operator.CallMethod{})
	if fault.Of(err) != fault.NotFound || !strings.Contains(err.Error(), "DeviceNotOnline") {
		t.Errorf("not subscribed: %v", err)
	}
	d.leave()
	if _, err = w.operator.CallMethod(t.Context(), "meter-7", "x", operator.CallMethod{}); fault.Of(err) != fault.NotFound {
		t.Errorf("not connected: %v", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		r, err := w.operator.CallMethod(t.Context(), "meter-7", "x", operator.CallMethod{Connect: 20})
		if err != nil || r.Status != 7 {
			t.Errorf("connected meanwhile: %+v, %v", r, err)
		}
	})
	d = w.connect(t, "meter-7", w.certificate("meter-7"), methodCalls)
	p := d.receive()
	d.publish("$iothub/methods/res/7/"+p.Topic[strings.Index(p.Topic, "?"):], "")
	wg.Wait()
	if _, err = w.operator.CallMethod(t.Context(), "meter-0", "x", operator.CallMethod{}); fault.Of(err) != fault.NotFound {
		t.Errorf("unknown device: %v", err)
	}
}

const bound = "devices/meter-7/messages/devicebound/"

func TestMessages(t *testing.T) {
	w := newWorld(t)
	cert := w.certificate("meter-7")
	w.kept(t, "meter-7", cert, "devices/+/messages/devicebound/#").leave()
	send := func(m operator.SendMessage) {
		t.Helper()
		if _, err := w.operator.SendMessage(t.Context(), "meter-7", m); err != nil {
			t.Fatal(err)
		}
	}
	send(operator.SendMessage{ID: "42", Body: "hello", Properties: map[string]string{"k": "v/&ä"}, Ack: "full"})
	send(operator.SendMessage{ID: "43", Base64: []byte{0, 0xff}, Ack: "negative"})
	w.restart()

	d := w.kept(t, "meter-7", cert)
	p := d.receive()
	prefix := bound + "%24.mid=42&%24.to=%2Fdevices%2Fmeter-7%2Fmessages%2Fdevicebound&%24.exp="
	if !strings.HasPrefix(p.Topic, prefix) || !strings.HasSuffix(p.Topic, "&iothub-ack=full&k=v%2F%26%C3%A4") || string(p.Payload) != "hello" || p.QoS != mqtt.AtLeastOnce || p.Dup {
		t.Errorf("message %+v", p)
	}
	d.auto = false // the second one stays unacknowledged
	if p = d.receive(); !strings.Contains(p.Topic, "mid=43") || string(p.Payload) != "\x00\xff" {
		t.Errorf("message %+v", p)
	}
	var fates []struct{ OriginalMessageID, StatusCode, DeviceID string }
	e := checkEvents(t, w, "feedback", 1)[0]
	if err := json.Unmarshal([]byte(e.Body), &fates); err != nil || len(fates) != 1 || fates[0].OriginalMessageID != "42" || fates[0].StatusCode != "Success" || fates[0].DeviceID != "meter-7" {
		t.Errorf("feedback %+v, %v", e, err)
	}
	packet := p.ID
	w.restart()

	d = w.kept(t, "meter-7", cert)
	if p = d.receive(); !strings.Contains(p.Topic, "mid=43") || !p.Dup || p.ID != packet {
		t.Errorf("message again %+v", p)
	}
	d.auto = false
	send(operator.SendMessage{ID: "44", Body: "at once"})
	if p = d.receive(); !strings.Contains(p.Topic, "mid=44") || p.Dup || p.ID == packet {
		t.Errorf("message %+v", p)
	}
	d.leave()
	ms, err := w.operator.Messages(t.Context(), "meter-7")
	if err != nil || len(ms) != 1 || ms[0].ID != "44" {
		t.Errorf("queue %+v, %v", ms, err)
	}
	purged, err := w.operator.PurgeMessages(t.Context(), "meter-7")
	if err != nil || purged.Messages != 1 {
		t.Errorf("purged %+v, %v", purged, err)
	}

	// A clean session gets what is sent to it, and nothing from before.
	send(operator.SendMessage{ID: "45", Body: "before", Ack: "full"})
	d = w.connect(t, "meter-7", cert, bound+"#")
	send(operator.SendMessage{ID: "46", Body: "after"})
	if p = d.receive(); !strings.Contains(p.Topic, "mid=46") {
		t.Errorf("message %+v", p)
	}
	if e := checkEvents(t, w, "feedback", 2)[1]; !strings.Contains(e.Body, `"45"`) || !strings.Contains(e.Body, `"Purged"`) {
		t.Errorf("feedback %+v", e)
	}
}

func TestMessagesThatAreRefused(t *testing.T) {
	w := newWorld(t)
	d := w.kept(t, "meter-7", w.certificate("meter-7"), bound+"#")
	d.leave()
	for name, m := range map[string]operator.SendMessage{
		"too large":        {Body: strings.Repeat("x", 64<<10+1)},
		"large properties": {Properties: map[string]string{"k": strings.Repeat("ä", 15000)}},
		"system property":  {Properties: map[string]string{"$.mid": "x"}},
		"short expiry":     {Expires: 59},
		"long expiry":      {Expires: 48*3600 + 1},
		"ack":              {Ack: "perhaps"},
		"two bodies":       {Body: "x", Base64: []byte("y")},
	} {
		if _, err := w.operator.SendMessage(t.Context(), "meter-7", m); fault.Of(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.operator.SendMessage(t.Context(), "meter-0", operator.SendMessage{}); fault.Of(err) != fault.NotFound {
		t.Errorf("unknown device: %v", err)
	}
	for range 50 {
		if _, err := w.operator.SendMessage(t.Context(), "meter-7", operator.SendMessage{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.operator.SendMessage(t.Context(), "meter-7", operator.SendMessage{}); err == nil || !strings.Contains(err.Error(), "DeviceMaximumQueueDepthExceeded") {
		t.Errorf("message 51: %v", err)
	}
	// What waited comes in its order, however much it is.
	ms, err := w.operator.Messages(t.Context(), "meter-7")
	if err != nil {
		t.Fatal(err)
	}
	d = w.kept(t, "meter-7", w.certificate("meter-7"))
	for i, m := range ms {
		if p := d.receive(); !strings.Contains(p.Topic, "mid="+m.ID+"&") {
			t.Fatalf("message %d is %s, want %s", i, p.Topic, m.ID)
		}
	}
}
