package iothub

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdfast/fault"
)

// Code is an error code of the protocol: an HTTP status times a thousand and a
// number below it.
type Code int

// The codes that this hub gives.
const (
	CodeArgument       Code = 400004 // a value breaks a rule
	CodeFormat         Code = 400006 // it is not in the form that is wanted
	CodeDeserialize    Code = 400012 // it is no JSON, or not the JSON that is wanted
	CodeUnauthorized   Code = 401002
	CodeForbidden      Code = 403000 // the session may not, in quarantine
	CodeQueueFull      Code = 403004 // the device's queue of messages is full
	CodeDisabled       Code = 403012
	CodeInFlight       Code = 403800 // too many calls of the device's methods at once
	CodeDeviceNotFound Code = 404001
	CodeNotOnline      Code = 404103 // the device has no session, or did not subscribe
	CodeConflict       Code = 409000
	CodePrecondition   Code = 412001 // the thing has changed: another ETag
	CodeTooLarge       Code = 413001
	CodeThrottled      Code = 429001
	CodeBacklog        Code = 429002 // too much waits for the device
	CodeInternal       Code = 500001
	CodeBadAnswer      Code = 502000 // the device answered with what is no answer
	CodeUnavailable    Code = 503000
	CodeTimeout        Code = 504101 // the device did not answer in time
)

// codeNames has the protocol's words for codes.
var codeNames = map[Code]string{
	CodeArgument: "ArgumentInvalid", CodeFormat: "InvalidFormat", CodeDeserialize: "DeserializationError",
	CodeUnauthorized: "Unauthorized", CodeForbidden: "Forbidden", CodeQueueFull: "DeviceMaximumQueueDepthExceeded",
	CodeDisabled: "DeviceDisabled", CodeInFlight: "DeviceMaximumActiveMethodsExceeded", CodeDeviceNotFound: "DeviceNotFound",
	CodeNotOnline: "DeviceNotOnline", CodeConflict: "Conflict", CodePrecondition: "PreconditionFailed",
	CodeTooLarge: "MessageTooLarge", CodeThrottled: "ThrottlingException", CodeBacklog: "ThrottleBacklogLimitExceeded", CodeInternal: "ServerError",
	CodeBadAnswer: "BadGateway", CodeUnavailable: "ServiceUnavailable", CodeTimeout: "GatewayTimeout",
}

// Status returns the HTTP status that the code belongs to.
func (c Code) Status() int { return int(c) / 1000 }

// String returns the protocol's word for the code.
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return fmt.Sprintf("Error%d", int(c))
}

// kind returns what sort of fault a code is.
func (c Code) kind() fault.Kind {
	switch c.Status() {
	case 401, 403:
		if c == CodeQueueFull || c == CodeInFlight {
			return fault.Unavailable
		}
		return fault.Denied
	case 404:
		return fault.NotFound
	case 409, 412:
		return fault.Conflict
	case 429, 502, 503, 504:
		return fault.Unavailable
	case 400, 413:
		return fault.Invalid
	}
	return fault.Internal
}

// Failure is an error that has a code of the protocol. It is a fault too, of
// the kind that the code belongs to.
type Failure struct {
	Code  Code
	fault error
}

// Fail makes a Failure with a text that the peer may read. A %w in the format
// keeps its operand as the cause, and its text is public too.
func Fail(c Code, format string, args ...any) error {
	return &Failure{Code: c, fault: fault.New(c.kind(), format, args...)}
}

// Error returns the text.
func (f *Failure) Error() string { return f.fault.Error() }

// Unwrap returns the fault.
func (f *Failure) Unwrap() error { return f.fault }

// CodeOf returns the code of an error: a Failure's own, or that of the kind of
// fault.
func CodeOf(err error) Code {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Code
	}
	switch fault.Of(err) {
	case fault.Invalid, fault.Integrity:
		return CodeArgument
	case fault.Denied:
		return CodeForbidden
	case fault.NotFound:
		return CodeDeviceNotFound
	case fault.Conflict:
		return CodeConflict
	case fault.Unavailable, fault.Pending:
		return CodeUnavailable
	}
	return CodeInternal
}

// ErrorBody is how the protocol tells a device of an error. Clients know an
// error by errorCode, some of them by nothing else.
type ErrorBody struct {
	ErrorCode  Code      `json:"errorCode"`
	TrackingID string    `json:"trackingId"` // finds the cause in the hub's log
	Message    string    `json:"message"`
	Time       time.Time `json:"timestampUtc"`
}

// Refusal returns the status and the body that tell a device of err.
func Refusal(err error, tracking string, now time.Time) (status int, body []byte) {
	c := CodeOf(err)
	body, _ = json.Marshal(ErrorBody{c, tracking, fault.Public(err), now.UTC()}) // numbers, texts and a time always marshal
	return c.Status(), body
}
