package iothub

import (
	"fmt"
	"strconv"
	"strings"

	"holdfast/identity"
)

// MaxRequestID is the longest $rid in bytes.
const MaxRequestID = 128

// Topic is a parsed topic name: Events, Attest, AttestResult, Posture or Logs.
// Its String is the topic again.
type Topic interface {
	String() string
	sealed()
}

// Events is a device's telemetry: devices/{device}/messages/events/{bag}.
type Events struct {
	Device identity.Device
	Bag    Bag
}

// AttestOp is what an attestation request asks for.
type AttestOp string

// The attestation requests.
const (
	AttestNonce    AttestOp = "nonce"
	AttestEvidence AttestOp = "evidence"
)

// Attest is a device's request: $hub/attest/{op}/?$rid={id}.
type Attest struct {
	Op        AttestOp
	RequestID string // opaque, echoed as it came
}

// AttestResult answers it: $hub/attest/res/{status}/?$rid={id}. Status is an
// HTTP status.
type AttestResult struct {
	Status    int
	RequestID string
}

// Posture carries a device's posture to it: $hub/posture/?$version={n}.
type Posture struct{ Version uint64 }

// Logs is a device's shipment of logs: $hub/logs/?$first={n}.
type Logs struct{ First uint64 }

func (Events) sealed()       {}
func (Attest) sealed()       {}
func (AttestResult) sealed() {}
func (Posture) sealed()      {}
func (Logs) sealed()         {}

// String returns the topic.
func (t Events) String() string {
	return "devices/" + string(t.Device) + "/messages/events/" + t.Bag.String()
}

// String returns the topic.
func (t Attest) String() string { return "$hub/attest/" + string(t.Op) + "/?$rid=" + t.RequestID }

// String returns the topic.
func (t AttestResult) String() string {
	return "$hub/attest/res/" + strconv.Itoa(t.Status) + "/?$rid=" + t.RequestID
}

// String returns the topic.
func (t Posture) String() string {
	return "$hub/posture/?$version=" + strconv.FormatUint(t.Version, 10)
}

// String returns the topic.
func (t Logs) String() string { return "$hub/logs/?$first=" + strconv.FormatUint(t.First, 10) }

// ParseTopic reads a topic name. Nothing of a topic but its bag is ever
// decoded: the levels are compared byte by byte, so that no other spelling of
// a device's topic exists.
func ParseTopic(s string) (Topic, error) {
	switch {
	case strings.HasPrefix(s, "devices/"):
		return parseEvents(s)
	case strings.HasPrefix(s, "$hub/"):
		return parseHub(s)
	}
	return nil, fmt.Errorf("topic %.100q is unknown", s)
}

func parseEvents(s string) (Topic, error) {
	id, rest, _ := strings.Cut(strings.TrimPrefix(s, "devices/"), "/")
	d, err := identity.ParseDevice(id)
	if err != nil {
		return nil, fmt.Errorf("topic %.100q: %w", s, err)
	}
	bag, ok := strings.CutPrefix(rest, "messages/events/")
	if !ok && rest != "messages/events" {
		return nil, fmt.Errorf("topic %.100q is unknown", s)
	}
	if !ok {
		return Events{Device: d}, nil
	}
	b, err := ParseBag(bag)
	if err != nil {
		return nil, fmt.Errorf("topic %.100q: %w", s, err)
	}
	return Events{Device: d, Bag: b}, nil
}

func parseHub(s string) (Topic, error) {
	name, query, ok := strings.Cut(strings.TrimPrefix(s, "$hub/"), "/?")
	if !ok {
		return nil, fmt.Errorf("topic %.100q is unknown", s)
	}
	var t Topic
	var err error
	switch name {
	case "attest/nonce", "attest/evidence":
		op := AttestOp(strings.TrimPrefix(name, "attest/"))
		var id string
		id, err = requestID(query)
		t = Attest{Op: op, RequestID: id}
	case "logs":
		var n uint64
		n, err = number(query, "$first=")
		t = Logs{First: n}
	case "posture":
		var n uint64
		n, err = number(query, "$version=")
		t = Posture{Version: n}
	default:
		t, err = parseResult(name, query)
	}
	if err != nil {
		return nil, fmt.Errorf("topic %.100q: %w", s, err)
	}
	return t, nil
}

func parseResult(name, query string) (Topic, error) {
	text, ok := strings.CutPrefix(name, "attest/res/")
	if !ok {
		return nil, fmt.Errorf("%.100q is unknown", name)
	}
	status, err := strconv.Atoi(text)
	if err != nil || len(text) != 3 || status < 100 {
		return nil, fmt.Errorf("%.100q is no status", text)
	}
	id, err := requestID(query)
	return AttestResult{Status: status, RequestID: id}, err
}

// requestID reads $rid. It goes into another topic as it is, so it may not
// have what means something there.
func requestID(query string) (string, error) {
	id, ok := strings.CutPrefix(query, "$rid=")
	if !ok || id == "" || len(id) > MaxRequestID {
		return "", fmt.Errorf("want $rid= with 1 to %d bytes", MaxRequestID)
	}
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c > '~' || strings.IndexByte("/&+#?", c) >= 0 {
			return "", fmt.Errorf("request id: byte %d is not allowed", i)
		}
	}
	return id, nil
}

// number reads a decimal number in its shortest form.
func number(query, name string) (uint64, error) {
	text, ok := strings.CutPrefix(query, name)
	n, err := strconv.ParseUint(text, 10, 64)
	if !ok || err != nil || strconv.FormatUint(n, 10) != text {
		return 0, fmt.Errorf("want %s and a number", name)
	}
	return n, nil
}

// The topic filters that a device subscribes to.
const (
	AttestFilter  = "$hub/attest/res/#"
	PostureFilter = "$hub/posture/#"

	// AnyDeviceboundFilter means the device's own messages, whatever it looks
	// like: the clients of ThreadX and Azure's C SDK ask in this form.
	AnyDeviceboundFilter = "devices/+/messages/devicebound/#"
)

// DeviceboundFilter selects the messages to one device.
func DeviceboundFilter(d identity.Device) string {
	return "devices/" + string(d) + "/messages/devicebound/#"
}
