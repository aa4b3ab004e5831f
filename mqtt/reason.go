package mqtt

import "errors"

// Code is a return code of CONNACK in MQTT 3.1.1 (section 3.2.2.3), or a reason
// code of MQTT 5 (section 2.4).
type Code byte

// The return codes of CONNACK in MQTT 3.1.1.
const (
	Accepted         Code = 0
	RefusedVersion   Code = 1
	RefusedClientID  Code = 2
	RefusedNotNow    Code = 3
	RefusedUsername  Code = 4
	RefusedForbidden Code = 5
)

// The reason codes of MQTT 5 that this hub gives or is given.
const (
	Success                 Code = 0x00
	DisconnectWithWill      Code = 0x04
	NoMatchingSubscribers   Code = 0x10
	NoSubscriptionExisted   Code = 0x11
	UnspecifiedError        Code = 0x80
	MalformedPacket         Code = 0x81
	ProtocolError           Code = 0x82
	ImplementationError     Code = 0x83
	UnsupportedVersion      Code = 0x84
	ClientIDNotValid        Code = 0x85
	BadUsername             Code = 0x86
	NotAuthorized           Code = 0x87
	ServerUnavailable       Code = 0x88
	ServerBusy              Code = 0x89
	ServerShuttingDown      Code = 0x8b
	BadAuthMethod           Code = 0x8c
	KeepAliveTimeout        Code = 0x8d
	SessionTakenOver        Code = 0x8e
	FilterInvalid           Code = 0x8f
	TopicNameInvalid        Code = 0x90
	PacketIDInUse           Code = 0x91
	ReceiveMaximumExceeded  Code = 0x93
	TopicAliasInvalid       Code = 0x94
	PacketTooLarge          Code = 0x95
	QuotaExceeded           Code = 0x97
	AdministrativeAction    Code = 0x98
	PayloadFormatInvalid    Code = 0x99
	RetainNotSupported      Code = 0x9a
	QoSNotSupported         Code = 0x9b
	SharedNotSupported      Code = 0x9e
	SubscriptionIDsNotKnown Code = 0xa1
)

// codes has the reason codes that the packets of MQTT 5 may carry.
var codes = map[Type]string{
	CONNACK:    "\x00\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8c\x90\x95\x97\x99\x9a\x9b\x9c\x9d\x9f",
	PUBACK:     "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	SUBACK:     "\x00\x01\x02\x80\x83\x87\x8f\x91\x97\x9e\xa1\xa2",
	UNSUBACK:   "\x00\x11\x80\x83\x87\x8f\x91",
	DISCONNECT: "\x00\x04\x80\x81\x82\x83\x87\x89\x8b\x8d\x8e\x8f\x90\x93\x94\x95\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f\xa0\xa1\xa2",
}

func checkCode(t Type, c Code) error {
	for _, known := range []byte(codes[t]) {
		if c == Code(known) {
			return nil
		}
	}
	return ErrReason
}

// ReasonOf returns the reason code that tells a peer of an error of this
// package.
func ReasonOf(err error) Code {
	var e *Error
	if !errors.As(err, &e) {
		return UnspecifiedError
	}
	switch e {
	case ErrTooLarge:
		return PacketTooLarge
	case ErrTopicAlias:
		return TopicAliasInvalid
	case ErrTopic, ErrWildcard:
		return TopicNameInvalid
	case ErrFilter, ErrLevel:
		return FilterInvalid
	case ErrVersion:
		return UnsupportedVersion
	case ErrClientID:
		return ClientIDNotValid
	case ErrFlags, ErrLength, ErrOverlong, ErrTruncated, ErrTrailing, ErrUTF8, ErrNUL, ErrQoS, ErrSubscribeQoS,
		ErrConnectFlags, ErrWillFlags, ErrWillQoS, ErrProperty, ErrType, ErrReason:
		return MalformedPacket
	}
	return ProtocolError
}
