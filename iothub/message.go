// Package iothub has the words of the Azure IoT Hub device protocol: topics,
// property bags, and the message that travels in them. Devices in the field
// speak it, so it is also the protocol of our own runtime.
package iothub

import (
	"time"

	"holdfast/identity"
)

// Kind says what a stored message is.
type Kind string

// The kinds of stored messages.
const (
	Telemetry Kind = "telemetry" // devices/{id}/messages/events/
	Log       Kind = "log"       // $hub/logs
)

// Message is one message from a device as the hub keeps it. Time is when the
// hub took it. Properties are the device's; System are the properties with
// names of the protocol ($.mid, $.ct ...) and those that the hub stamps
// (iothub-connection-device-id, iothub-enqueuedtime ...), by their full names.
type Message struct {
	Device     identity.Device   `json:"device"`
	Kind       Kind              `json:"kind"`
	Time       time.Time         `json:"time"`
	Properties map[string]string `json:"properties,omitempty"`
	System     map[string]string `json:"system,omitempty"`
	Body       []byte            `json:"body"`
}
