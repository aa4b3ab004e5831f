package operator

import (
	"encoding/json"
	"time"

	"holdfast/identity"
)

// Twin is a device's twin. Desired and reported properties hold their version
// as "$version".
type Twin struct {
	Device   identity.Device `json:"device"`
	ETag     string          `json:"etag" doc:"changes with tags and desired properties, not with what the device reports"`
	Tags     json.RawMessage `json:"tags" doc:"an object that the device does not see"`
	Desired  json.RawMessage `json:"desired" doc:"an object: what is wanted of the device"`
	Reported json.RawMessage `json:"reported" doc:"an object: what the device says of itself"`
}

// SetTwin changes a twin: with PATCH each given object is merged into its
// section (null deletes), with PUT it takes the section's place.
type SetTwin struct {
	Tags    json.RawMessage `json:"tags,omitempty" doc:"an object; absent: tags stay"`
	Desired json.RawMessage `json:"desired,omitempty" doc:"an object; absent: desired properties stay"`
}

// CallMethod calls a method on a device.
type CallMethod struct {
	Payload json.RawMessage `json:"payload,omitempty" doc:"argument, any JSON; absent: null"`
	Timeout int64           `json:"timeout_seconds,omitempty" minimum:"0" maximum:"300" doc:"for the device to answer; default 30"`
	Connect int64           `json:"connect_timeout_seconds,omitempty" minimum:"0" maximum:"300" doc:"for the device to connect; default 0"`
}

// MethodResult is what a device answered.
type MethodResult struct {
	Status  int             `json:"status" doc:"whatever number the device gave"`
	Payload json.RawMessage `json:"payload" doc:"JSON, or null where the device sent none"`
}

// SendMessage queues a message to a device. Body is text; Base64 is in its
// place where it is not.
type SendMessage struct {
	ID              string            `json:"id,omitempty" maxLength:"128" doc:"message id; made up when absent"`
	CorrelationID   string            `json:"correlation_id,omitempty" maxLength:"128"`
	ContentType     string            `json:"content_type,omitempty" maxLength:"128"`
	ContentEncoding string            `json:"content_encoding,omitempty" maxLength:"128"`
	Properties      map[string]string `json:"properties,omitempty" doc:"for the device's program"`
	Body            string            `json:"body,omitempty"`
	Base64          []byte            `json:"body_base64,omitempty"`
	Expires         int64             `json:"expires_seconds,omitempty" doc:"60 to 172800; default 3600"`
	Ack             string            `json:"ack,omitempty" enum:"none,positive,negative,full" doc:"which fates become an event of kind feedback; default none"`
}

// Message is a message that waits for its device.
type Message struct {
	SendMessage
	Enqueued   time.Time `json:"enqueued"`
	Until      time.Time `json:"until" doc:"when it expires"`
	Deliveries int       `json:"deliveries" doc:"how often it was sent"`
	Bytes      int       `json:"bytes" doc:"size of the body"`
}

// Purged says how many messages were taken out of a queue.
type Purged struct {
	Messages int `json:"messages"`
}
