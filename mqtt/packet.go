package mqtt

// Version is the protocol level of a connection.
type Version byte

// The levels that are spoken.
const (
	V311 Version = 4 // MQTT 3.1.1; a zero Version means it too
	V5   Version = 5 // MQTT 5.0
)

// Type is the type of a control packet (section 2.2.1).
type Type byte

// The packet types. PUBREC, PUBREL and PUBCOMP (5 to 7) belong to quality of
// service 2, AUTH (15) to authentication inside MQTT: they are not spoken.
const (
	CONNECT     Type = 1
	CONNACK     Type = 2
	PUBLISH     Type = 3
	PUBACK      Type = 4
	SUBSCRIBE   Type = 8
	SUBACK      Type = 9
	UNSUBSCRIBE Type = 10
	UNSUBACK    Type = 11
	PINGREQ     Type = 12
	PINGRESP    Type = 13
	DISCONNECT  Type = 14
)

// Packet is a control packet. Properties and reason codes are of MQTT 5 alone,
// except the codes of CONNACK and SUBACK.
type Packet interface {
	// Type returns the packet's type.
	Type() Type
	// Append is AppendTo of MQTT 3.1.1, but a Connect goes by its own Version.
	Append(dst []byte) ([]byte, error)

	flags() byte
	check(Version) error
	body(dst []byte, v Version) []byte
}

// QoS is a quality of service.
type QoS byte

// The qualities of service.
const (
	AtMostOnce  QoS = 0
	AtLeastOnce QoS = 1
	ExactlyOnce QoS = 2
)

// Connect is a client's first packet (section 3.1). A decoded one aliases
// nothing. Username and Password are nil where their flag is not set.
type Connect struct {
	Version   Version // zero means V311 when encoding
	ClientID  string
	Clean     bool
	KeepAlive uint16 // seconds, zero turns it off
	Will      *Will
	Username  *string
	Password  []byte

	Properties Properties
}

// Will is the message that a server publishes when the client goes away
// without a DISCONNECT (section 3.1.2.5).
type Will struct {
	Topic   string
	Payload []byte
	QoS     QoS
	Retain  bool

	Properties Properties
}

// Connack answers a Connect (section 3.2).
type Connack struct {
	SessionPresent bool
	Code           Code
	Properties     Properties
}

// Publish carries a message either way (section 3.3). The Payload of a decoded
// one is valid only until the next step of the Decoder. ID is zero for quality
// of service 0. The Topic is empty where a TopicAlias of MQTT 5 stands for it.
type Publish struct {
	Topic   string
	Payload []byte
	ID      uint16
	QoS     QoS
	Retain  bool
	Dup     bool

	Properties Properties
}

// Puback acknowledges a Publish of quality of service 1 (section 3.4).
type Puback struct {
	ID         uint16
	Code       Code
	Properties Properties
}

// Filter is one topic filter of a Subscribe with the highest quality of
// service that the client wants its messages with.
type Filter struct {
	Filter string
	QoS    QoS

	// Of MQTT 5 (section 3.8.3.1).
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0 to 2
}

// Subscribe asks for messages (section 3.8).
type Subscribe struct {
	ID         uint16
	Filters    []Filter
	Properties Properties
}

// SubackFailure is the return code of a filter that was not granted.
const SubackFailure = 0x80

// Suback answers a Subscribe with one code for each filter (section 3.9): the
// granted quality of service, or SubackFailure; in MQTT 5 a reason code.
type Suback struct {
	ID         uint16
	Codes      []byte
	Properties Properties
}

// Unsubscribe ends subscriptions (section 3.10).
type Unsubscribe struct {
	ID         uint16
	Filters    []string
	Properties Properties
}

// Unsuback answers an Unsubscribe (section 3.11), in MQTT 5 with one reason code
// for each filter.
type Unsuback struct {
	ID         uint16
	Codes      []byte
	Properties Properties
}

// Pingreq keeps a connection alive (section 3.12).
type Pingreq struct{}

// Pingresp answers a Pingreq (section 3.13).
type Pingresp struct{}

// Disconnect is a client's last packet (section 3.14), in MQTT 5 a server's too.
type Disconnect struct {
	Code       Code
	Properties Properties
}

// Type returns CONNECT.
func (*Connect) Type() Type { return CONNECT }

// Type returns CONNACK.
func (*Connack) Type() Type { return CONNACK }

// Type returns PUBLISH.
func (*Publish) Type() Type { return PUBLISH }

// Type returns PUBACK.
func (*Puback) Type() Type { return PUBACK }

// Type returns SUBSCRIBE.
func (*Subscribe) Type() Type { return SUBSCRIBE }

// Type returns SUBACK.
func (*Suback) Type() Type { return SUBACK }

// Type returns UNSUBSCRIBE.
func (*Unsubscribe) Type() Type { return UNSUBSCRIBE }

// Type returns UNSUBACK.
func (*Unsuback) Type() Type { return UNSUBACK }

// Type returns PINGREQ.
func (*Pingreq) Type() Type { return PINGREQ }

// Type returns PINGRESP.
func (*Pingresp) Type() Type { return PINGRESP }

// Type returns DISCONNECT.
func (*Disconnect) Type() Type { return DISCONNECT }
