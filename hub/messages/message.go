package messages

import (
	"crypto/rand"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
)

// Limits of messages to devices.
const (
	MaxQueue      = 50       // messages that wait for one device
	MaxBytes      = 64 << 10 // body, names and values
	MaxDeliveries = 10       // times that a message is sent
	MinExpiry     = time.Minute
	MaxExpiry     = 48 * time.Hour
	DefaultExpiry = time.Hour
)

// maxTopic is the longest topic that MQTT carries; the properties travel in it.
const maxTopic = 65535

// Ack says which fates of a message become a feedback event.
type Ack string

// The values of Ack; the empty one is none.
const (
	AckNone     Ack = "none"
	AckPositive Ack = "positive"
	AckNegative Ack = "negative"
	AckFull     Ack = "full"
)

// wants reports whether a fate is asked for.
func (a Ack) wants(o iothub.Outcome) bool {
	return a == AckFull || a == AckPositive && o == iothub.Success || a == AckNegative && o != iothub.Success
}

// Message is a message to a device as it is stored.
type Message struct {
	Number     int64           `json:"-"` // its place in the order; the store's to give
	Device     identity.Device `json:"-"`
	Deliveries int             `json:"-"` // how often it was sent
	Packet     uint16          `json:"-"` // packet identifier that it was sent under last
	Expires    time.Time       `json:"-"`
	Enqueued   time.Time       `json:"enqueued"`

	ID              string            `json:"id"`
	CorrelationID   string            `json:"correlation_id,omitempty"`
	ContentType     string            `json:"content_type,omitempty"`
	ContentEncoding string            `json:"content_encoding,omitempty"`
	Properties      map[string]string `json:"properties,omitempty"`
	Ack             Ack               `json:"ack,omitempty"`
	Body            []byte            `json:"body,omitempty"`
}

// newMessage makes a message of what an operator asks for, or says what is
// wrong with it.
func newMessage(d identity.Device, in operator.SendMessage, now time.Time) (Message, error) {
	m := Message{Device: d, Enqueued: now.UTC(), ID: in.ID, CorrelationID: in.CorrelationID, ContentType: in.ContentType,
		ContentEncoding: in.ContentEncoding, Properties: in.Properties, Ack: Ack(in.Ack), Body: []byte(in.Body)}
	if m.ID == "" {
		m.ID = rand.Text()
	}
	if in.Base64 != nil {
		if in.Body != "" {
			return m, iothub.Fail(iothub.CodeArgument, "give the body as text or as base64, not both")
		}
		m.Body = in.Base64
	}
	life := DefaultExpiry
	if in.Expires != 0 {
		life = time.Duration(in.Expires) * time.Second
	}
	if in.Expires < 0 || in.Expires > int64(MaxExpiry/time.Second) || life < MinExpiry {
		return m, iothub.Fail(iothub.CodeArgument, "expiry: want %d to %d seconds", MinExpiry/time.Second, MaxExpiry/time.Second)
	}
	m.Expires = m.Enqueued.Add(life)
	return m, m.check()
}

func (m Message) check() error {
	switch m.Ack {
	case "", AckNone, AckPositive, AckNegative, AckFull:
	default:
		return iothub.Fail(iothub.CodeArgument, "ack %.100q: want none, positive, negative or full", string(m.Ack))
	}
	size := len(m.Body)
	for k, v := range m.Properties {
		if k == "" || strings.HasPrefix(k, "$.") || strings.HasPrefix(k, "iothub-") {
			return iothub.Fail(iothub.CodeArgument, "property %.100q is the protocol's to give", k)
		}
		size += len(k) + len(v)
	}
	if size > MaxBytes {
		return iothub.Fail(iothub.CodeTooLarge, "message has %d bytes, at most %d are allowed", size, MaxBytes)
	}
	topic := m.topic().String()
	if len(topic) > maxTopic {
		return iothub.Fail(iothub.CodeTooLarge, "properties take %d bytes as they are sent, at most %d are allowed", len(topic), maxTopic)
	}
	if _, err := iothub.ParseTopic(topic); err != nil { // the device would not understand it either
		return iothub.Fail(iothub.CodeArgument, "properties: %w", err)
	}
	return nil
}

// topic returns the topic in which a message travels, with all its properties.
func (m Message) topic() iothub.Topic {
	bag := iothub.Bag{}
	for _, p := range []iothub.Property{
		{Key: "$.mid", Value: m.ID},
		{Key: "$.cid", Value: m.CorrelationID},
		{Key: "$.to", Value: "/devices/" + string(m.Device) + "/messages/devicebound"},
		{Key: "$.ct", Value: m.ContentType},
		{Key: "$.ce", Value: m.ContentEncoding},
		{Key: "$.exp", Value: m.Expires.UTC().Format("2006-01-02T15:04:05.000Z")},
		{Key: "iothub-ack", Value: string(m.Ack)},
	} {
		if p.Value != "" {
			bag = append(bag, p)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(m.Properties)) {
		bag = append(bag, iothub.Property{Key: k, Value: m.Properties[k]})
	}
	return iothub.Devicebound{Device: m.Device, Bag: bag}
}

// feedback returns the event that tells of a fate, none if nobody asked.
func (m Message) feedback(o iothub.Outcome, now time.Time) []iothub.Message {
	if !m.Ack.wants(o) {
		return nil
	}
	return []iothub.Message{iothub.NewFeedback(iothub.Fate{MessageID: m.ID, Enqueued: m.Enqueued, Outcome: o, Device: m.Device}, now)}
}

// view shows a message to an operator, without its body.
func (m Message) view() operator.Message {
	return operator.Message{Enqueued: m.Enqueued, Until: m.Expires, Deliveries: m.Deliveries, Bytes: len(m.Body),
		SendMessage: operator.SendMessage{ID: m.ID, CorrelationID: m.CorrelationID, ContentType: m.ContentType,
			ContentEncoding: m.ContentEncoding, Properties: m.Properties, Ack: string(m.Ack)}}
}
