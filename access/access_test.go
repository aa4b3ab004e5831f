package access_test

import (
	"strings"
	"testing"

	"holdfast/access"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
)

const self = identity.Device("pump-01")

func TestPublish(t *testing.T) {
	for _, c := range []struct {
		topic            string
		full, quarantine bool
	}{
		{"devices/pump-01/messages/events/", true, false},
		{"devices/pump-01/messages/events/a=b", true, false},
		{"devices/pump-02/messages/events/", false, false},
		{"devices/PUMP-01/messages/events/", false, false},
		{"devices/pump-011/messages/events/", false, false},
		{"$hub/attest/nonce/?$rid=1", true, true},
		{"$hub/attest/evidence/?$rid=1", true, true},
		{"$hub/logs/?$first=1", true, true},
		{"$hub/attest/res/200/?$rid=1", false, false},
		{"$hub/posture/?$version=1", false, false},
		{"$hub/update/progress/?$rid=1", true, true},
		{"$hub/update/?$version=1", false, false},
		{"$hub/update/res/204/?$rid=1", false, false},
		{"$iothub/twin/GET/?$rid=1", true, false},
		{"$iothub/twin/PATCH/properties/reported/?$rid=1", true, false},
		{"$iothub/methods/res/200/?$rid=1", true, false},
		{"$iothub/credentials/POST/issueCertificate/?$rid=1", true, false},
		{"devices/pump-01/messages/devicebound/", false, false},
		{"$iothub/twin/PATCH/properties/desired/?$version=1", false, false},
		{"$iothub/twin/res/200/?$rid=1", false, false},
		{"$iothub/methods/POST/a/?$rid=1", false, false},
		{"$iothub/credentials/res/200/?$rid=1", false, false},
		{"$dps/registrations/PUT/iotdps-register/?$rid=1", false, false},
		{"$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1&operationId=o", false, false},
		{"$dps/registrations/res/200/?$rid=1", false, false},
	} {
		topic, err := iothub.ParseTopic(c.topic)
		if err != nil {
			t.Fatal(err)
		}
		check(t, c.topic, access.Full, access.Publish(self, access.Full, topic), c.full)
		check(t, c.topic, access.Quarantine, access.Publish(self, access.Quarantine, topic), c.quarantine)
		request := strings.HasPrefix(c.topic, "$dps/registrations/PUT/") || strings.HasPrefix(c.topic, "$dps/registrations/GET/")
		check(t, c.topic, access.Provision, access.Publish(self, access.Provision, topic), request)
		check(t, c.topic, "", access.Publish(self, "", topic), false)
		check(t, c.topic, "FULL", access.Publish(self, "FULL", topic), false)
	}
	check(t, "nil", access.Full, access.Publish(self, access.Full, nil), false)
}

func TestSubscribe(t *testing.T) {
	for _, c := range []struct {
		filter           string
		full, quarantine bool
	}{
		{"$hub/attest/res/#", true, true},
		{"$hub/posture/#", true, true},
		{"$hub/update/#", true, true},
		{"$hub/update/progress/#", false, false},
		{"devices/pump-01/messages/devicebound/#", true, false},
		{"devices/+/messages/devicebound/#", true, false},
		{"$iothub/twin/res/#", true, false},
		{"$iothub/twin/PATCH/properties/desired/#", true, false},
		{"$iothub/methods/POST/#", true, false},
		{"$iothub/credentials/res/#", true, false},
		{"$dps/registrations/res/#", false, false},
		{"$iothub/#", false, false},
		{"$iothub/twin/#", false, false},
		{"$iothub/methods/res/#", false, false},
		{"devices/pump-02/messages/devicebound/#", false, false},
		{"devices/pump-01/messages/events/#", false, false},
		{"devices/+/messages/events/#", false, false},
		{"devices/#", false, false},
		{"devices/pump-01/#", false, false},
		{"+/+/messages/devicebound/#", false, false},
		{"#", false, false},
		{"+/#", false, false},
		{"$hub/#", false, false},
		{"$hub/+/#", false, false},
		{"$hub/attest/#", false, false},
		{"$SYS/#", false, false},
		{"", false, false},
	} {
		for m, open := range map[access.Mode]bool{access.Full: c.full, access.Quarantine: c.quarantine, access.Provision: c.filter == iothub.RegisterFilter, "": false} {
			got, err := access.Subscribe(self, m, c.filter)
			check(t, c.filter, m, err, open)
			if want := strings.Replace(c.filter, "+", string(self), 1); open && got != want {
				t.Errorf("%s is granted as %s, want %s", c.filter, got, want)
			}
		}
	}
}

func check(t *testing.T, what string, m access.Mode, err error, open bool) {
	t.Helper()
	if (err == nil) != open || err != nil && fault.Of(err) != fault.Denied {
		t.Errorf("%s in mode %q: %v, want open %v", what, m, err, open)
	}
}
