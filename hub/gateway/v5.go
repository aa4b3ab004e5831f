package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast/fault"
	"holdfast/iothub"
	"holdfast/mqtt"
)

// What MQTT 5 clients are told in CONNACK.
const (
	maxAliases  = 8       // topics that a session may give a number
	maxAliased  = 2 << 10 // bytes of such a topic
	keepAliveUp = 1177    // seconds of keep-alive that MaxSilence allows
)

var (
	errAlias         = reasoned{mqtt.TopicAliasInvalid, errors.New("topic alias is out of range, or its topic too long")}
	errUnknownAlias  = reasoned{mqtt.ProtocolError, errors.New("topic alias has no topic")}
	errRetained      = reasoned{mqtt.RetainNotSupported, errors.New("messages are not retained")}
	errSubscribeID   = reasoned{mqtt.SubscriptionIDsNotKnown, errors.New("subscription identifiers are not served")}
	errAuthMethod    = reasoned{mqtt.BadAuthMethod, errors.New("devices are known by certificate only")}
	errExpiryChanged = reasoned{mqtt.ProtocolError, errors.New("session that was not to be kept gets an expiry [MQTT-3.14.2-2]")}
	errWillDPS       = errors.New("a registration has none")
	errWillQoS       = errors.New("quality of service 2 is not served")
	errWillTopic     = errors.New("topic is not telemetry")
)

// reasoned is an error with the reason code that MQTT 5 has for it.
type reasoned struct {
	code mqtt.Code
	error
}

func (r reasoned) Unwrap() error { return r.error }

// reasonOf returns the reason code that tells a client of an error.
func reasonOf(err error) mqtt.Code {
	if r, ok := errors.AsType[reasoned](err); ok {
		return r.code
	}
	switch fault.Of(err) {
	case fault.Denied:
		return mqtt.NotAuthorized
	case fault.Unavailable:
		return mqtt.QuotaExceeded
	}
	if code := mqtt.ReasonOf(err); code != mqtt.UnspecifiedError {
		return code
	}
	return mqtt.TopicNameInvalid // what is left is a topic, a bag or logs that cannot be read
}

// goodbyes has the reason codes of DISCONNECT for the causes that a client can
// be told of; a violation has its own.
var goodbyes = map[Cause]mqtt.Code{
	Silent:   mqtt.KeepAliveTimeout,
	Replaced: mqtt.SessionTakenOver,
	Revoked:  mqtt.NotAuthorized,
	Unstored: mqtt.ImplementationError,
	Shutdown: mqtt.ServerShuttingDown,
	Crashed:  mqtt.UnspecifiedError,
}

// goodbyeTimeout bounds the wait for a last DISCONNECT to be taken.
const goodbyeTimeout = time.Second

// goodbye returns the DISCONNECT that tells a client of MQTT 5 why its session
// ends, nothing where there is none to be told. s.mu is held.
func (s *Session) goodbye(c Cause, err error) []byte {
	if s.version != mqtt.V5 || !s.live {
		return nil
	}
	code, ok := goodbyes[c]
	if c == Violation {
		code, ok = reasonOf(err), true
	}
	if !ok {
		return nil
	}
	b, err := mqtt.AppendTo(nil, mqtt.V5, &mqtt.Disconnect{Code: code, Properties: reasonText(err)})
	if err != nil || len(b) > int(s.maxPacket) {
		return nil
	}
	return b
}

// reasonText says in words what a peer may know of an error.
func reasonText(err error) mqtt.Properties {
	text := ""
	if e, ok := errors.AsType[*mqtt.Error](err); ok {
		text = e.Error()
	} else if err != nil && fault.Of(err) != fault.Internal {
		text = fault.Public(err)
	}
	if text == "" || mqtt.CheckText(text) != nil {
		return nil
	}
	return mqtt.Properties{{ID: mqtt.ReasonString, Text: text}}
}

// codes5 translates return codes of CONNACK to reason codes.
var codes5 = map[mqtt.Code]mqtt.Code{
	mqtt.Accepted:         mqtt.Success,
	mqtt.RefusedVersion:   mqtt.UnsupportedVersion,
	mqtt.RefusedClientID:  mqtt.ClientIDNotValid,
	mqtt.RefusedNotNow:    mqtt.ServerUnavailable,
	mqtt.RefusedUsername:  mqtt.BadUsername,
	mqtt.RefusedForbidden: mqtt.NotAuthorized,
}

// settings take in what a CONNECT asks for beside its names.
func (s *Session) settings(c *mqtt.Connect) (mqtt.Code, error) {
	s.version, s.clean = c.Version, c.Clean
	s.maxSent, s.maxPacket = maxInFlight, 1<<28
	if c.Version != mqtt.V5 {
		if !c.Clean {
			s.expiry = mqtt.SessionNeverExpires
		}
		return mqtt.Accepted, nil
	}
	if _, ok := c.Properties.Text(mqtt.AuthMethod); ok {
		return mqtt.RefusedForbidden, errAuthMethod
	}
	s.expiry, _ = c.Properties.Number(mqtt.SessionExpiry)
	if n, ok := c.Properties.Number(mqtt.ReceiveMaximum); ok {
		s.maxSent = min(s.maxSent, uint16(n))
	}
	if n, ok := c.Properties.Number(mqtt.MaximumPacketSize); ok {
		s.maxPacket = min(n, s.maxPacket)
	}
	return mqtt.Accepted, nil
}

// offer has the properties of the CONNACK that opens a session.
func (s *Session) offer() mqtt.Properties {
	ps := mqtt.Properties{
		{ID: mqtt.ReceiveMaximum, Number: uint32(s.limits.InFlight)},
		{ID: mqtt.MaximumQoS, Number: uint32(mqtt.AtLeastOnce)},
		{ID: mqtt.RetainAvailable},
		{ID: mqtt.MaximumPacketSize, Number: mqtt.DefaultLimit},
		{ID: mqtt.TopicAliasMaximum, Number: maxAliases},
		{ID: mqtt.SubscriptionIDAvailable},
		{ID: mqtt.SharedAvailable},
	}
	if s.assigned {
		ps = append(ps, mqtt.Property{ID: mqtt.AssignedClientID, Text: string(s.device)})
	}
	if s.silence == MaxSilence {
		ps = append(ps, mqtt.Property{ID: mqtt.ServerKeepAlive, Number: keepAliveUp})
	}
	return ps
}

// resolve gives a message its topic where a number stands for it.
func (s *Session) resolve(p *mqtt.Publish) error {
	if len(p.Properties) == 0 {
		return nil
	}
	n, ok := p.Properties.Number(mqtt.TopicAlias)
	switch {
	case !ok:
		return nil
	case n > maxAliases || len(p.Topic) > maxAliased:
		return errAlias
	case p.Topic != "":
		if s.aliases == nil {
			s.aliases = map[uint16]string{}
		}
		s.aliases[uint16(n)] = p.Topic
		return nil
	}
	if p.Topic, ok = s.aliases[uint16(n)]; !ok {
		return errUnknownAlias
	}
	return nil
}

// joined adds the properties of a message of MQTT 5 to its bag.
func joined(bag iothub.Bag, ps mqtt.Properties, now time.Time) (iothub.Bag, error) {
	if len(ps) == 0 {
		return bag, nil
	}
	var more iothub.Bag
	for key, value := range ps.User() {
		more = append(more, iothub.Property{Key: key, Value: value})
	}
	if text, ok := ps.Text(mqtt.ContentType); ok {
		more = append(more, iothub.Property{Key: "$.ct", Value: text})
	}
	if b, ok := ps.Data(mqtt.CorrelationData); ok {
		if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
			return nil, errors.New("correlation data is not UTF-8 text")
		}
		more = append(more, iothub.Property{Key: "$.cid", Value: string(b)})
	}
	if n, ok := ps.Number(mqtt.MessageExpiry); ok {
		at := now.UTC().Add(time.Duration(n) * time.Second)
		more = append(more, iothub.Property{Key: "$.exp", Value: at.Format(time.RFC3339)})
	}
	all, err := bag.Join(more)
	if err != nil {
		return nil, fmt.Errorf("user properties: %w", err)
	}
	return all, nil
}

// spread are the properties of MQTT 5 of a message whose bag is in its topic
// too, for clients that look in either place.
func spread(t iothub.Topic) mqtt.Properties {
	m, ok := t.(iothub.Devicebound)
	if !ok {
		return nil
	}
	var ps mqtt.Properties
	for _, p := range m.Bag {
		ps = append(ps, mqtt.Property{ID: mqtt.UserProperty, Key: p.Key, Text: p.Value})
		switch p.Key {
		case "$.ct":
			ps = append(ps, mqtt.Property{ID: mqtt.ContentType, Text: p.Value})
		case "$.cid":
			ps = append(ps, mqtt.Property{ID: mqtt.CorrelationData, Data: []byte(p.Value)})
		}
	}
	return ps
}

// refusedFilter is the code of a filter that is not granted.
func (s *Session) refusedFilter(filter string, full bool) byte {
	switch {
	case s.version != mqtt.V5:
		return mqtt.SubackFailure
	case strings.HasPrefix(filter, "$share/"):
		return byte(mqtt.SharedNotSupported)
	case full:
		return byte(mqtt.QuotaExceeded)
	}
	return byte(mqtt.NotAuthorized)
}
