package iothub

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"holdfast/identity"
)

// MaxMethod is the longest name of a method in bytes, and MaxOperation that of
// a DPS operation's id, for which NetX has 100 bytes.
const (
	MaxMethod    = 128
	MaxOperation = 100
)

// Devicebound is a message to a device: devices/{device}/messages/devicebound/{bag}.
type Devicebound struct {
	Device identity.Device
	Bag    Bag
}

// TwinGet asks for the twin's properties: $iothub/twin/GET/?$rid={id}.
type TwinGet struct{ RequestID string }

// ReportedPatch changes the reported properties:
// $iothub/twin/PATCH/properties/reported/?$rid={id}.
type ReportedPatch struct{ RequestID string }

// TwinResult answers TwinGet and ReportedPatch:
// $iothub/twin/res/{status}/?$rid={id}[&$version={n}].
type TwinResult struct {
	Status    int
	RequestID string
	Version   uint64 // of the reported properties, with status 204; zero: none
}

// DesiredPatch tells of changed desired properties:
// $iothub/twin/PATCH/properties/desired/?$version={n}.
type DesiredPatch struct{ Version uint64 }

// MethodCall calls a method: $iothub/methods/POST/{name}/?$rid={id}.
type MethodCall struct {
	Name      string // one that CheckMethod passes
	RequestID string
}

// MethodResult answers it: $iothub/methods/res/{status}/?$rid={id}. Status is
// whatever number the device's program gives.
type MethodResult struct {
	Status    int
	RequestID string
}

// IssueCertificate asks for a certificate:
// $iothub/credentials/POST/issueCertificate/?$rid={id}.
type IssueCertificate struct{ RequestID string }

// CredentialResult answers it: $iothub/credentials/res/{status}/?$rid={id}.
type CredentialResult struct {
	Status    int
	RequestID string
}

// Register registers with DPS: $dps/registrations/PUT/iotdps-register/?$rid={id}.
type Register struct{ RequestID string }

// OperationStatus asks how far a registration is:
// $dps/registrations/GET/iotdps-get-operationstatus/?$rid={id}&operationId={op}.
type OperationStatus struct {
	RequestID   string
	OperationID string
}

// RegisterResult answers both:
// $dps/registrations/res/{status}/?$rid={id}[&retry-after={s}].
type RegisterResult struct {
	Status     int
	RequestID  string
	RetryAfter int // seconds; zero: none
}

func (Devicebound) sealed()      {}
func (TwinGet) sealed()          {}
func (ReportedPatch) sealed()    {}
func (TwinResult) sealed()       {}
func (DesiredPatch) sealed()     {}
func (MethodCall) sealed()       {}
func (MethodResult) sealed()     {}
func (IssueCertificate) sealed() {}
func (CredentialResult) sealed() {}
func (Register) sealed()         {}
func (OperationStatus) sealed()  {}
func (RegisterResult) sealed()   {}

// String returns the topic.
func (t Devicebound) String() string {
	return "devices/" + string(t.Device) + "/messages/devicebound/" + t.Bag.String()
}

// String returns the topic.
func (t TwinGet) String() string { return "$iothub/twin/GET/?$rid=" + t.RequestID }

// String returns the topic.
func (t ReportedPatch) String() string {
	return "$iothub/twin/PATCH/properties/reported/?$rid=" + t.RequestID
}

// String returns the topic.
func (t TwinResult) String() string {
	s := "$iothub/twin/res/" + strconv.Itoa(t.Status) + "/?$rid=" + t.RequestID
	if t.Version > 0 {
		s += "&$version=" + strconv.FormatUint(t.Version, 10)
	}
	return s
}

// String returns the topic.
func (t DesiredPatch) String() string {
	return "$iothub/twin/PATCH/properties/desired/?$version=" + strconv.FormatUint(t.Version, 10)
}

// String returns the topic.
func (t MethodCall) String() string {
	return "$iothub/methods/POST/" + t.Name + "/?$rid=" + t.RequestID
}

// String returns the topic.
func (t MethodResult) String() string {
	return "$iothub/methods/res/" + strconv.Itoa(t.Status) + "/?$rid=" + t.RequestID
}

// String returns the topic.
func (t IssueCertificate) String() string {
	return "$iothub/credentials/POST/issueCertificate/?$rid=" + t.RequestID
}

// String returns the topic.
func (t CredentialResult) String() string {
	return "$iothub/credentials/res/" + strconv.Itoa(t.Status) + "/?$rid=" + t.RequestID
}

// String returns the topic.
func (t Register) String() string {
	return "$dps/registrations/PUT/iotdps-register/?$rid=" + t.RequestID
}

// String returns the topic.
func (t OperationStatus) String() string {
	return "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=" + t.RequestID + "&operationId=" + t.OperationID
}

// String returns the topic.
func (t RegisterResult) String() string {
	s := "$dps/registrations/res/" + strconv.Itoa(t.Status) + "/?$rid=" + t.RequestID
	if t.RetryAfter > 0 {
		s += "&retry-after=" + strconv.Itoa(t.RetryAfter)
	}
	return s
}

// Result implements Request. Of an accepted patch, set its Version too.
func (t TwinGet) Result(status int) Topic { return TwinResult{Status: status, RequestID: t.RequestID} }

// Result implements Request. Of an accepted patch, set its Version too.
func (t ReportedPatch) Result(status int) Topic {
	return TwinResult{Status: status, RequestID: t.RequestID}
}

// Result implements Request.
func (t IssueCertificate) Result(status int) Topic {
	return CredentialResult{Status: status, RequestID: t.RequestID}
}

// Result implements Request. While a client has to ask again, set RetryAfter too.
func (t Register) Result(status int) Topic {
	return RegisterResult{Status: status, RequestID: t.RequestID}
}

// Result implements Request. While a client has to ask again, set RetryAfter too.
func (t OperationStatus) Result(status int) Topic {
	return RegisterResult{Status: status, RequestID: t.RequestID}
}

// CheckMethod returns what makes a name no method's: it becomes a level of a
// topic. A component's command is named component*command.
func CheckMethod(name string) error {
	if name == "" || len(name) > MaxMethod {
		return fmt.Errorf("method name has %d bytes, want 1 to %d", len(name), MaxMethod)
	}
	return plain(name)
}

// plain lets through what means the same wherever it stands in a topic.
func plain(s string) error {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || strings.IndexByte("/&+#?", c) >= 0 {
			return fmt.Errorf("byte %d is not allowed", i)
		}
	}
	return nil
}

func parseIoTHub(name, query string) (Topic, error) {
	switch name {
	case "twin/GET":
		id, err := requestID(query)
		return TwinGet{id}, err
	case "twin/PATCH/properties/reported":
		id, err := requestID(query)
		return ReportedPatch{id}, err
	case "twin/PATCH/properties/desired":
		n, err := number(query, "$version=")
		return DesiredPatch{n}, err
	case "credentials/POST/issueCertificate":
		id, err := requestID(query)
		return IssueCertificate{id}, err
	}
	if status, ok := strings.CutPrefix(name, "twin/res/"); ok {
		return parseTwinResult(status, query)
	}
	if status, ok := strings.CutPrefix(name, "credentials/res/"); ok {
		code, err := httpStatus(status)
		if err != nil {
			return nil, err
		}
		id, err := requestID(query)
		return CredentialResult{Status: code, RequestID: id}, err
	}
	return parseMethod(name, query)
}

func parseMethod(name, query string) (Topic, error) {
	id, err := requestID(query)
	if err != nil {
		return nil, err
	}
	if method, ok := strings.CutPrefix(name, "methods/POST/"); ok {
		return MethodCall{Name: method, RequestID: id}, CheckMethod(method)
	}
	status, ok := strings.CutPrefix(name, "methods/res/")
	n, err := strconv.ParseInt(status, 10, 32)
	switch {
	case !ok:
		return nil, errUnknown
	case err != nil || strconv.FormatInt(n, 10) != status:
		return nil, fmt.Errorf("%.100q is no status", status)
	}
	return MethodResult{Status: int(n), RequestID: id}, nil
}

func parseTwinResult(status, query string) (Topic, error) {
	code, err := httpStatus(status)
	if err != nil {
		return nil, err
	}
	rid, version, ok := strings.Cut(query, "&")
	t := TwinResult{Status: code}
	if t.RequestID, err = requestID(rid); err != nil || !ok {
		return t, err
	}
	if t.Version, err = number(version, "$version="); err == nil && t.Version == 0 {
		err = errors.New("version is zero")
	}
	return t, err
}

func parseDPS(name, query string) (Topic, error) {
	rid, rest, more := strings.Cut(query, "&")
	id, err := requestID(rid)
	if err != nil {
		return nil, err
	}
	switch {
	case name == "PUT/iotdps-register" && !more:
		return Register{id}, nil
	case name == "GET/iotdps-get-operationstatus":
		op, ok := strings.CutPrefix(rest, "operationId=")
		if !ok || op == "" || len(op) > MaxOperation {
			return nil, fmt.Errorf("want operationId= with 1 to %d bytes", MaxOperation)
		}
		return OperationStatus{RequestID: id, OperationID: op}, plain(op)
	}
	status, ok := strings.CutPrefix(name, "res/")
	if !ok {
		return nil, errUnknown
	}
	t := RegisterResult{RequestID: id}
	if t.Status, err = httpStatus(status); err != nil || !more {
		return t, err
	}
	n, err := number(rest, "retry-after=")
	if err == nil && (n == 0 || n > maxRetryAfter) {
		err = errors.New("retry-after is out of range")
	}
	t.RetryAfter = int(n)
	return t, err
}

const maxRetryAfter = 24 * 60 * 60 // seconds
