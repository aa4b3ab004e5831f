// Package access says what a device's session may do: which topics it may
// publish to and which filters it may subscribe to. A device has its own
// topics and nobody else's; in quarantine only what it needs to come out of it.
package access

import (
	"slices"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
)

// Mode is how far a session is open. The zero value opens nothing.
type Mode string

// The modes.
const (
	Full       Mode = "full"
	Quarantine Mode = "quarantine" // attestation, posture, logs and updates only
	Provision  Mode = "provision"  // a session with DPS: registration only
)

// closed refuses what m is not open for, and what is no mode at all.
func closed(m Mode, open ...Mode) error {
	switch {
	case slices.Contains(open, m):
		return nil
	case m == Full || m == Quarantine || m == Provision:
		return fault.New(fault.Denied, "not open in %s", m)
	}
	return fault.New(fault.Denied, "session is not open")
}

// MaxSubscriptions is the most subscriptions of one session.
const MaxSubscriptions = 64

// Publish returns why a session of d in mode m may not publish to t, or nil.
func Publish(d identity.Device, m Mode, t iothub.Topic) error {
	switch t := t.(type) {
	case iothub.Events:
		if t.Device != d {
			return fault.New(fault.Denied, "topic of device %s", t.Device)
		}
		return closed(m, Full)
	case iothub.TwinGet, iothub.ReportedPatch, iothub.MethodResult, iothub.IssueCertificate:
		return closed(m, Full)
	case iothub.Attest, iothub.Logs, iothub.UpdateProgress:
		return closed(m, Full, Quarantine)
	case iothub.Register, iothub.OperationStatus:
		return closed(m, Provision)
	}
	return fault.New(fault.Denied, "topic is not a device's to publish")
}

// Subscribe returns the filter that a session of d in mode m is granted when it
// asks for filter, or why it may not have it. A filter is granted in exactly
// the forms that the protocol has; the form with "+" for the device is granted
// as the device's own.
func Subscribe(d identity.Device, m Mode, filter string) (string, error) {
	own := iothub.DeviceboundFilter(d)
	switch filter {
	case iothub.AttestFilter, iothub.PostureFilter, iothub.UpdateFilter:
		return filter, closed(m, Full, Quarantine)
	case iothub.TwinFilter, iothub.DesiredFilter, iothub.MethodFilter, iothub.CredentialFilter:
		return filter, closed(m, Full)
	case iothub.RegisterFilter:
		return filter, closed(m, Provision)
	case iothub.AnyDeviceboundFilter, own:
		return own, closed(m, Full)
	}
	return "", fault.New(fault.Denied, "filter is unknown")
}
