package access_test

import (
	"strings"
	"testing"

	"holdfast/access"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/mqtt"
)

// others are topics that belong to another device than meter-7, whatever their
// form: in small letters, in capitals, escaped.
var others = []string{
	"devices/meter-8/messages/events/", "devices/meter-8/messages/events/a=b", "devices/meter-8/messages/devicebound/", "devices/meter-8/messages/devicebound/a=b",
	"devices/METER-7/messages/devicebound/", "devices/meter%2D7/messages/devicebound/", "devices/meter-70/messages/devicebound/", "devices/meter/messages/devicebound/",
}

// FuzzAccess asks for topics and filters as a hostile device would: in no mode
// does it get what is another device's, and in no mode that is none anything.
func FuzzAccess(f *testing.F) {
	for _, s := range append(others, iothub.AnyDeviceboundFilter, iothub.DeviceboundFilter("meter-7"), "#", "+/#", "devices/#", "devices/+/messages/events/#",
		"$iothub/#", "$hub/posture/#", "$hub/attest/res/#", "devices/meter-7/messages/events", "devices/meter-7/messages/events/a=b", "devices/meter-7\x00/messages/events/", "devices/\xc1\xad/messages/events/") {
		f.Add(s)
	}
	const own = identity.Device("meter-7")
	f.Fuzz(func(t *testing.T, s string) {
		topic, parseErr := iothub.ParseTopic(s)
		for _, m := range []access.Mode{access.Full, access.Quarantine, access.Provision, "", "FULL"} {
			known := m == access.Full || m == access.Quarantine || m == access.Provision
			if parseErr == nil && access.Publish(own, m, topic) == nil {
				if !known {
					t.Errorf("mode %q may publish to %q", m, s)
				}
				if strings.HasPrefix(s, "devices/") && !strings.HasPrefix(s+"/", "devices/meter-7/messages/events/") {
					t.Errorf("%s may publish to %q", own, s)
				}
			}
			granted, err := access.Subscribe(own, m, s)
			if err != nil {
				continue
			}
			if !known {
				t.Errorf("mode %q may subscribe to %q", m, s)
			}
			for _, other := range others {
				if mqtt.Match(granted, other) {
					t.Errorf("%q is granted as %q, which selects %s", s, granted, other)
				}
			}
		}
	})
}
