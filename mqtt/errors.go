package mqtt

// Error is a broken rule of the protocol. Rule is the number of the normative
// statement or the section of MQTT 3.1.1, or of 5.0 where it says so. The values below are all there are;
// compare with errors.Is.
type Error struct {
	Rule string
	Text string
}

// Error returns the text and the rule.
func (e *Error) Error() string { return "mqtt: " + e.Text + " [" + e.Rule + "]" }

// What breaks the framing.
var (
	ErrType      = &Error{"2.2.1", "packet type is reserved or not for this direction"}
	ErrFlags     = &Error{"MQTT-2.2.2-2", "reserved flag bits of the fixed header are wrong"}
	ErrLength    = &Error{"2.2.3", "remaining length takes more than four bytes"}
	ErrOverlong  = &Error{"2.2.3", "remaining length is not in its shortest form"}
	ErrTooLarge  = &Error{"2.2.3", "packet is larger than allowed here"}
	ErrTruncated = &Error{"2.2.3", "packet ends before its last field"}
	ErrTrailing  = &Error{"2.2.3", "packet goes on after its last field"}
)

// What breaks a field.
var (
	ErrUTF8     = &Error{"MQTT-1.5.3-1", "text is not UTF-8"}
	ErrNUL      = &Error{"MQTT-1.5.3-2", "text has the character U+0000"}
	ErrTooLong  = &Error{"1.5.3", "field has more than 65535 bytes"}
	ErrPacketID = &Error{"MQTT-2.3.1-1", "packet identifier is zero"}
	ErrTopic    = &Error{"MQTT-4.7.3-1", "topic is empty"}
	ErrWildcard = &Error{"MQTT-3.3.2-2", "topic name has a wildcard"}
	ErrFilter   = &Error{"MQTT-4.7.1-2", "multi-level wildcard is not the last level"}
	ErrLevel    = &Error{"MQTT-4.7.1-3", "single-level wildcard does not fill its level"}
)

// What breaks a packet.
var (
	ErrProtocol       = &Error{"MQTT-3.1.2-1", "protocol name is not MQTT"}
	ErrVersion        = &Error{"MQTT-3.1.2-2", "protocol level is not served"}
	ErrConnectFlags   = &Error{"MQTT-3.1.2-3", "reserved connect flag is set"}
	ErrWillFlags      = &Error{"MQTT-3.1.2-13", "will flags are set without a will"}
	ErrWillQoS        = &Error{"MQTT-3.1.2-14", "quality of service of the will is 3"}
	ErrWillTopic      = &Error{"3.1.3.2", "topic of the will is empty or has a wildcard"}
	ErrPassword       = &Error{"MQTT-3.1.2-22", "password without a user name"}
	ErrClientID       = &Error{"MQTT-3.1.3-8", "empty client identifier without a clean session"}
	ErrConnack        = &Error{"3.2.2", "acknowledge flags or return code are reserved"}
	ErrSession        = &Error{"MQTT-3.2.2-4", "refused connection claims a session"}
	ErrDup            = &Error{"MQTT-3.3.1-2", "duplicate flag on quality of service 0"}
	ErrQoS            = &Error{"MQTT-3.3.1-4", "quality of service of a message is 3"}
	ErrNoFilters      = &Error{"MQTT-3.8.3-3", "subscribe without a topic filter"}
	ErrSubscribeQoS   = &Error{"MQTT-3-8.3-4", "requested quality of service is reserved"}
	ErrNoTopics       = &Error{"MQTT-3.10.3-2", "unsubscribe without a topic filter"}
	ErrTooManyFilters = &Error{"3.8.3", "packet has more topic filters than allowed"}
	ErrSubackCode     = &Error{"MQTT-3.9.3-2", "return code of a subscription is reserved"}
	ErrNoSubackCodes  = &Error{"3.9.3", "subscribe acknowledgement without a return code"}
)

// What breaks a packet of MQTT 5.
var (
	ErrProperties        = &Error{"5.0 2.2.2", "MQTT 3.1.1 has no properties"}
	ErrProperty          = &Error{"5.0 2.2.2.2", "property is unknown or not for this packet"}
	ErrPropertyTwice     = &Error{"5.0 2.2.2.2", "property comes twice"}
	ErrPropertyValue     = &Error{"5.0 2.2.2.2", "value of a property is out of range"}
	ErrTooManyProperties = &Error{"5.0 2.2.2", "packet has more properties than allowed"}
	ErrTopicAlias        = &Error{"MQTT-3.3.2-8", "topic alias is zero"}
	ErrAuthData          = &Error{"5.0 3.1.2.11.10", "authentication data without a method"}
	ErrReason            = &Error{"5.0 2.4", "reason code is not one of the packet's"}
)
