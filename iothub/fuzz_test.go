package iothub_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/iothub"
)

// FuzzTopic checks that a topic that is read has one meaning: its String is
// read as the same, and its device is spelled in it as it is.
func FuzzTopic(f *testing.F) {
	f.Add("devices/pump-01/messages/events/%24.mid=1&a=b&c")
	f.Add("$hub/attest/evidence/?$rid=1")
	f.Add("$hub/attest/res/200/?$rid=1")
	f.Add("$hub/logs/?$first=1")
	f.Add("$hub/posture/?$version=1")
	f.Add("$hub/update/?$version=1")
	f.Add("$hub/update/progress/?$rid=1")
	f.Add("$hub/update/res/204/?$rid=1")
	f.Add("devices/pump-01/messages/devicebound/%24.to=%2F")
	f.Add("$iothub/twin/res/204/?$rid=1&$version=2")
	f.Add("$iothub/methods/POST/reboot/?$rid=1a")
	f.Add("$iothub/methods/res/-1/?$rid=1a")
	f.Add("$iothub/credentials/POST/issueCertificate/?$rid=1")
	f.Add("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1&operationId=4.a")
	f.Add("$dps/registrations/res/202/?$rid=1&retry-after=3")
	f.Fuzz(func(t *testing.T, s string) {
		topic, err := iothub.ParseTopic(s)
		if err != nil {
			return
		}
		again, err := iothub.ParseTopic(topic.String())
		if diff := cmp.Diff(topic, again); err != nil || diff != "" {
			t.Fatalf("%q became %q: %v\n%s", s, topic, err, diff)
		}
		e, ok := topic.(iothub.Events)
		if !ok {
			return
		}
		if !strings.HasPrefix(s, "devices/"+string(e.Device)+"/messages/events") {
			t.Fatalf("%q was read as %q", s, e.Device)
		}
		if m, err := iothub.NewTelemetry(e, nil, time.Time{}); err == nil && m.System[iothub.ConnectionDevice] != string(e.Device) {
			t.Fatalf("%q says it is from %q", s, m.System[iothub.ConnectionDevice])
		}
	})
}

// FuzzBag checks that a bag that is read is read the same from its String.
func FuzzBag(f *testing.F) {
	f.Add("?a=b&c&d=&%24.mid=%2f")
	f.Fuzz(func(t *testing.T, s string) {
		bag, err := iothub.ParseBag(s)
		if err != nil {
			return
		}
		again, err := iothub.ParseBag(bag.String())
		if diff := cmp.Diff(bag, again); err != nil || diff != "" {
			t.Fatalf("%q became %q: %v\n%s", s, bag, err, diff)
		}
	})
}

// FuzzUsername checks that no user name makes the parser panic.
func FuzzUsername(f *testing.F) {
	f.Add("hub.example.com:8883/pump-01/?api-version=2021-04-12&DeviceClientType=x%2F1")
	f.Add("0ne001/registrations/pump-01/api-version=2019-03-31&ClientVersion=x")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := iothub.ParseUsername(s)
		if err == nil && !strings.Contains(s, "/"+string(u.Device)+"/") {
			t.Fatalf("%q names %q", s, u.Device)
		}
		if r, rerr := iothub.ParseRegistration(s); rerr == nil && (err == nil || !strings.Contains(s, "/"+string(r.ID)+"/")) {
			t.Fatalf("%q names %q with DPS and %q with the hub", s, r.ID, u.Device)
		}
	})
}
