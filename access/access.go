// Package access says what a device's session may do: which topics it may
// publish to and which filters it may subscribe to. A device has its own
// topics and nobody else's; in quarantine only what it needs to come out of it.
package access

import (
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
)

// Mode is how far a session is open. The zero value opens nothing.
type Mode string

// The modes.
const (
	Full       Mode = "full"
	Quarantine Mode = "quarantine" // attestation, posture and logs only
)

// MaxSubscriptions is the most subscriptions of one session.
const MaxSubscriptions = 64

// Publish returns why a session of d in mode m may not publish to t, or nil.
func Publish(d identity.Device, m Mode, t iothub.Topic) error {
	if m != Full && m != Quarantine {
		return fault.New(fault.Denied, "session is not open")
	}
	switch t := t.(type) {
	case iothub.Events:
		if t.Device != d {
			return fault.New(fault.Denied, "topic of device %s", t.Device)
		}
		if m != Full {
			return fault.New(fault.Denied, "telemetry in quarantine")
		}
		return nil
	case iothub.Attest, iothub.Logs:
		return nil
	}
	return fault.New(fault.Denied, "topic is not a device's to publish")
}

// Subscribe returns the filter that a session of d in mode m is granted when it
// asks for filter, or why it may not have it. A filter is granted in exactly
// the forms that the protocol has; the form with "+" for the device is granted
// as the device's own.
func Subscribe(d identity.Device, m Mode, filter string) (string, error) {
	if m != Full && m != Quarantine {
		return "", fault.New(fault.Denied, "session is not open")
	}
	own := iothub.DeviceboundFilter(d)
	switch filter {
	case iothub.AttestFilter, iothub.PostureFilter:
		return filter, nil
	case iothub.AnyDeviceboundFilter, own:
		if m != Full {
			return "", fault.New(fault.Denied, "messages in quarantine")
		}
		return own, nil
	}
	return "", fault.New(fault.Denied, "filter is unknown")
}
