package iothub

import (
	"encoding/json"
	"time"

	"holdfast/identity"
)

// The kinds of events about sessions and about security. They alone may be of no
// device.
const (
	Lifecycle Kind = "lifecycle" // a device connected or disconnected
	Security  Kind = "security"  // a record of the ledger
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

// Missing is the record of a Lifecycle event that stands for others.
type Missing struct {
	Count int       `json:"count"` // events that are not in the stream
	From  time.Time `json:"from"`  // when the first of them was made
	To    time.Time `json:"to"`    // and the last
}

// NewMissing makes the event that says that others are missing. It is of no
// device.
func NewMissing(count int, from, to, now time.Time) Message {
	body, _ := json.Marshal(Missing{count, from.UTC(), to.UTC()}) // a number and times always marshal
	m := hubMessage("", Lifecycle, "deviceConnectionStateEvents", body, now)
	m.Properties = map[string]string{"opType": "eventsMissing"}
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
