package iothub

import (
	"encoding/json"
	"time"

	"holdfast/identity"
)

// The kinds of events about sessions and about security.
const (
	Lifecycle Kind = "lifecycle" // a device connected or disconnected
	Security  Kind = "security"  // a record of the ledger; the only kind that may be of no device
)

// Connection is the record of a Lifecycle event.
type Connection struct {
	Session string `json:"session"`         // the same for both ends of a session
	Remote  string `json:"remote"`          // address and port
	Class   string `json:"class,omitempty"` // of the certificate
	Mode    string `json:"mode,omitempty"`  // how far the session is open
	TLS     string `json:"tls,omitempty"`
	Suite   string `json:"suite,omitempty"`
	Group   string `json:"key_exchange,omitempty"`
	Cause   string `json:"cause,omitempty"` // why it ended
}

// NewConnected makes the event of a session that began.
func NewConnected(d identity.Device, c Connection, now time.Time) Message {
	return newConnection(d, "deviceConnected", c, now)
}

// NewDisconnected makes the event of a session that ended.
func NewDisconnected(d identity.Device, c Connection, now time.Time) Message {
	return newConnection(d, "deviceDisconnected", c, now)
}

func newConnection(d identity.Device, op string, c Connection, now time.Time) Message {
	body, _ := json.Marshal(c) // texts always marshal
	m := hubMessage(d, Lifecycle, "deviceConnectionStateEvents", body, now)
	m.Properties = map[string]string{"opType": op, "deviceId": string(d)}
	return m
}

// NewSecurity makes the event of a record of the ledger: op is its kind, body
// its JSON, and at when it was made. d may be empty.
func NewSecurity(d identity.Device, op, seq string, body []byte, at time.Time) Message {
	m := hubMessage(d, Security, "securityEvents", body, at)
	m.Properties = map[string]string{"opType": op, "seq": seq}
	if d != "" {
		m.Properties["deviceId"] = string(d)
	}
	return m
}
