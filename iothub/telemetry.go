package iothub

import (
	"fmt"
	"strings"
	"time"
)

// MaxMessage is the most bytes of a message: body, property names and values.
const MaxMessage = 256 << 10

// systemNames has the full names of the properties that bags abbreviate.
var systemNames = map[string]string{
	"$.mid":   "message-id",
	"$.cid":   "correlation-id",
	"$.uid":   "user-id",
	"$.ct":    "content-type",
	"$.ce":    "content-encoding",
	"$.to":    "to",
	"$.exp":   "absolute-expiry-time",
	"$.ctime": CreationTime,
	"$.sub":   "dt-subject",
	"$.ifid":  "iothub-interface-id",
	"$.on":    "iothub-output-name",
}

// Names of properties that are not in systemNames.
const (
	CreationTime = "iothub-creation-time-utc" // the device's

	ConnectionDevice = "iothub-connection-device-id" // these are the hub's
	ConnectionAuth   = "iothub-connection-auth-method"
	EnqueuedTime     = "iothub-enqueuedtime"
	MessageSource    = "iothub-message-source"
	MessageType      = "iothub-MessageType"
	Retained         = "mqtt-retain"
	DataSchema       = "dt-dataschema"
)

// stamped are the names that only the hub gives; a device that sends one is
// refused, for it would be believed.
func stamped(name string) bool {
	switch name {
	case EnqueuedTime, MessageSource, MessageType, Retained, DataSchema:
		return true
	}
	return strings.HasPrefix(name, "iothub-connection-")
}

// authMethod is how each device of this hub authenticates.
const authMethod = `{"scope":"device","type":"x509","issuer":"iothub"}`

// NewTelemetry makes a message of a device's events, taken at a time and
// stamped by the hub. It keeps body. A key alone (null) is left out, as absent.
func NewTelemetry(t Events, body []byte, now time.Time) (Message, error) {
	if n := len(body) + t.Bag.size(); n > MaxMessage {
		return Message{}, fmt.Errorf("message has %d bytes, at most %d are allowed", n, MaxMessage)
	}
	now = now.UTC()
	m := Message{Device: t.Device, Kind: Telemetry, Time: now, Body: body, System: map[string]string{
		ConnectionDevice: string(t.Device),
		ConnectionAuth:   authMethod,
		EnqueuedTime:     now.Format(time.RFC3339Nano),
		MessageSource:    "Telemetry",
	}}
	for _, p := range t.Bag {
		name, system := systemNames[p.Key]
		switch {
		case stamped(p.Key):
			return Message{}, fmt.Errorf("property %q is the hub's to give", p.Key)
		case p.Null:
			continue
		case p.Key == CreationTime:
			name, system = p.Key, true
		case strings.HasPrefix(p.Key, "$.") && !system:
			name, system = p.Key, true // the protocol's, of a version not known here
		}
		if !system {
			m.set(p.Key, p.Value)
			continue
		}
		if _, dup := m.System[name]; dup {
			return Message{}, fmt.Errorf("property %q comes twice", name)
		}
		m.System[name] = p.Value
	}
	return m, nil
}

func (m *Message) set(name, value string) {
	if m.Properties == nil {
		m.Properties = map[string]string{}
	}
	m.Properties[name] = value
}

// MarkRetained notes that the device published with RETAIN, which this
// protocol accepts and does not follow.
func (m *Message) MarkRetained() { m.set(Retained, "true") }

// MarkModel notes the DTDL model that the device named when it connected, if it
// did.
func (m *Message) MarkModel(id string) {
	if id != "" {
		m.System[DataSchema] = id
	}
}

// MarkWill notes that the message is the will of a device that went away.
func (m *Message) MarkWill() { m.set(MessageType, "Will") }
