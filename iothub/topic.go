package iothub

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"holdfast/identity"
)

// MaxRequestID is the longest $rid in bytes.
const MaxRequestID = 128

// Topic is a parsed topic name. Its String is the topic again. The types are
//   - what a device sends: Events, Logs, MethodResult, and the requests Attest,
//     UpdateProgress, TwinGet, ReportedPatch, IssueCertificate, Register,
//     OperationStatus;
//   - what the hub sends: Devicebound, Posture, UpdateOffer, DesiredPatch,
//     MethodCall, and the results AttestResult, UpdateResult, TwinResult,
//     CredentialResult, RegisterResult.
type Topic interface {
	String() string
	sealed()
}

// Request is a topic that asks for an answer with the same $rid.
type Request interface {
	Topic
	// Result returns the topic of an answer with a status.
	Result(status int) Topic
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

// UpdateOffer carries what the hub wants the device to run:
// $hub/update/?$version={n}.
type UpdateOffer struct{ Version uint64 }

// UpdateProgress is a device's report of an update:
// $hub/update/progress/?$rid={id}.
type UpdateProgress struct{ RequestID string }

// UpdateResult answers it: $hub/update/res/{status}/?$rid={id}. Status is an
// HTTP status.
type UpdateResult struct {
	Status    int
	RequestID string
}

func (Events) sealed()         {}
func (Attest) sealed()         {}
func (AttestResult) sealed()   {}
func (Posture) sealed()        {}
func (Logs) sealed()           {}
func (UpdateOffer) sealed()    {}
func (UpdateProgress) sealed() {}
func (UpdateResult) sealed()   {}

// Result implements Request.
func (t UpdateProgress) Result(status int) Topic {
	return UpdateResult{Status: status, RequestID: t.RequestID}
}

// String returns the topic.
func (t UpdateOffer) String() string {
	return "$hub/update/?$version=" + strconv.FormatUint(t.Version, 10)
}

// String returns the topic.
func (t UpdateProgress) String() string { return "$hub/update/progress/?$rid=" + t.RequestID }

// String returns the topic.
func (t UpdateResult) String() string {
	return "$hub/update/res/" + strconv.Itoa(t.Status) + "/?$rid=" + t.RequestID
}

// Result implements Request.
func (t Attest) Result(status int) Topic { return AttestResult{Status: status, RequestID: t.RequestID} }

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
		return parseMessages(s)
	case strings.HasPrefix(s, "$hub/"):
		return parseQuery(s, "$hub/", parseHub)
	case strings.HasPrefix(s, "$iothub/"):
		return parseQuery(s, "$iothub/", parseIoTHub)
	case strings.HasPrefix(s, "$dps/registrations/"):
		return parseQuery(s, "$dps/registrations/", parseDPS)
	}
	return nil, fmt.Errorf("topic %.100q is unknown", s)
}

func parseMessages(s string) (Topic, error) {
	id, rest, _ := strings.Cut(strings.TrimPrefix(s, "devices/"), "/")
	d, err := identity.ParseDevice(id)
	if err != nil {
		return nil, fmt.Errorf("topic %.100q: %w", s, err)
	}
	events, toHub := strings.CutPrefix(rest, "messages/events")
	bound, toDevice := strings.CutPrefix(rest, "messages/devicebound")
	bag, ok := strings.CutPrefix(events, "/")
	switch {
	case toDevice:
		bag, ok = strings.CutPrefix(bound, "/")
		if !ok {
			return nil, fmt.Errorf("topic %.100q is unknown", s)
		}
	case !toHub || !ok && events != "":
		return nil, fmt.Errorf("topic %.100q is unknown", s)
	}
	b, err := ParseBag(bag)
	if err != nil {
		return nil, fmt.Errorf("topic %.100q: %w", s, err)
	}
	if toDevice {
		return Devicebound{Device: d, Bag: b}, nil
	}
	return Events{Device: d, Bag: b}, nil
}

// parseQuery reads a topic of the form {prefix}{name}/?{query}.
func parseQuery(s, prefix string, parse func(name, query string) (Topic, error)) (Topic, error) {
	name, query, ok := strings.Cut(strings.TrimPrefix(s, prefix), "/?")
	if !ok {
		return nil, fmt.Errorf("topic %.100q is unknown", s)
	}
	t, err := parse(name, query)
	if err != nil {
		return nil, fmt.Errorf("topic %.100q: %w", s, err)
	}
	return t, nil
}

func parseHub(name, query string) (Topic, error) {
	switch name {
	case "attest/nonce", "attest/evidence":
		id, err := requestID(query)
		return Attest{Op: AttestOp(strings.TrimPrefix(name, "attest/")), RequestID: id}, err
	case "logs":
		n, err := number(query, "$first=")
		return Logs{First: n}, err
	case "posture":
		n, err := number(query, "$version=")
		return Posture{Version: n}, err
	case "update":
		n, err := number(query, "$version=")
		return UpdateOffer{Version: n}, err
	case "update/progress":
		id, err := requestID(query)
		return UpdateProgress{RequestID: id}, err
	}
	service, status, ok := strings.Cut(name, "/res/")
	if !ok || service != "attest" && service != "update" {
		return nil, errUnknown
	}
	code, err := httpStatus(status)
	if err != nil {
		return nil, err
	}
	id, err := requestID(query)
	if service == "update" {
		return UpdateResult{Status: code, RequestID: id}, err
	}
	return AttestResult{Status: code, RequestID: id}, err
}

var errUnknown = errors.New("the name is unknown")

// httpStatus reads a status of three digits.
func httpStatus(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || len(text) != 3 || n < 100 {
		return 0, fmt.Errorf("%.100q is no status", text)
	}
	return n, nil
}

// requestID reads $rid. It goes into another topic as it is, so it may not
// have what means something there.
func requestID(query string) (string, error) {
	id, ok := strings.CutPrefix(query, "$rid=")
	if !ok || id == "" || len(id) > MaxRequestID {
		return "", fmt.Errorf("want $rid= with 1 to %d bytes", MaxRequestID)
	}
	if err := plain(id); err != nil {
		return "", fmt.Errorf("request id: %w", err)
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
	AttestFilter     = "$hub/attest/res/#"
	PostureFilter    = "$hub/posture/#"
	UpdateFilter     = "$hub/update/#" // offers, and answers to reports
	TwinFilter       = "$iothub/twin/res/#"
	DesiredFilter    = "$iothub/twin/PATCH/properties/desired/#"
	MethodFilter     = "$iothub/methods/POST/#"
	CredentialFilter = "$iothub/credentials/res/#"
	RegisterFilter   = "$dps/registrations/res/#"

	// AnyDeviceboundFilter means the device's own messages, whatever it looks
	// like: the clients of ThreadX and Azure's C SDK ask in this form.
	AnyDeviceboundFilter = "devices/+/messages/devicebound/#"
)

// DeviceboundFilter selects the messages to one device.
func DeviceboundFilter(d identity.Device) string {
	return "devices/" + string(d) + "/messages/devicebound/#"
}
