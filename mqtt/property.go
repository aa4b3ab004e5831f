package mqtt

import (
	"encoding/binary"
	"iter"
)

// MaxProperties is the most properties of one packet.
const MaxProperties = 256

// PropertyID names a property of MQTT 5 (section 2.2.2.2).
type PropertyID byte

// The properties.
const (
	PayloadFormat           PropertyID = 0x01
	MessageExpiry           PropertyID = 0x02 // seconds
	ContentType             PropertyID = 0x03
	ResponseTopic           PropertyID = 0x08
	CorrelationData         PropertyID = 0x09
	SubscriptionID          PropertyID = 0x0b
	SessionExpiry           PropertyID = 0x11 // seconds; SessionNeverExpires
	AssignedClientID        PropertyID = 0x12
	ServerKeepAlive         PropertyID = 0x13 // seconds
	AuthMethod              PropertyID = 0x15
	AuthData                PropertyID = 0x16
	RequestProblem          PropertyID = 0x17
	WillDelay               PropertyID = 0x18 // seconds
	RequestResponse         PropertyID = 0x19
	ResponseInformation     PropertyID = 0x1a
	ServerReference         PropertyID = 0x1c
	ReasonString            PropertyID = 0x1f
	ReceiveMaximum          PropertyID = 0x21
	TopicAliasMaximum       PropertyID = 0x22
	TopicAlias              PropertyID = 0x23
	MaximumQoS              PropertyID = 0x24
	RetainAvailable         PropertyID = 0x25
	UserProperty            PropertyID = 0x26
	MaximumPacketSize       PropertyID = 0x27
	WildcardAvailable       PropertyID = 0x28
	SubscriptionIDAvailable PropertyID = 0x29
	SharedAvailable         PropertyID = 0x2a
)

// SessionNeverExpires is the SessionExpiry of a session without an end.
const SessionNeverExpires = 1<<32 - 1

// Property is a property of a packet: a Number, or a Text, or Data, by its ID;
// a UserProperty has a Key and a Text. The Data of a decoded one is valid only
// until the next step of the Decoder, except in a CONNECT.
type Property struct {
	ID     PropertyID
	Number uint32
	Key    string
	Text   string
	Data   []byte
}

// Properties are the properties of a packet in their order.
type Properties []Property

// Number returns the number of a property, if it is there.
func (ps Properties) Number(id PropertyID) (uint32, bool) {
	p, ok := ps.find(id)
	return p.Number, ok
}

// Text returns the text of a property, if it is there.
func (ps Properties) Text(id PropertyID) (string, bool) {
	p, ok := ps.find(id)
	return p.Text, ok
}

// Data returns the bytes of a property, if it is there.
func (ps Properties) Data(id PropertyID) ([]byte, bool) {
	p, ok := ps.find(id)
	return p.Data, ok
}

// User yields the user properties in their order. Keys may come twice.
func (ps Properties) User() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, p := range ps {
			if p.ID == UserProperty && !yield(p.Key, p.Text) {
				return
			}
		}
	}
}

func (ps Properties) find(id PropertyID) (Property, bool) {
	for _, p := range ps {
		if p.ID == id {
			return p, true
		}
	}
	return Property{}, false
}

// form is how the value of a property is encoded.
type form byte

const (
	formByte form = iota + 1
	formTwo
	formFour
	formVarint
	formText
	formData
	formPair
)

// place is a set of packets that properties stand in.
type place uint16

// inWill is the place of the will's properties in a CONNECT.
const inWill place = 1

func in(ts ...Type) place {
	var p place
	for _, t := range ts {
		p |= 1 << t
	}
	return p
}

// rule says what a property is like: its form, its places, and its smallest and
// largest number.
type rule struct {
	form     form
	places   place
	min, max uint32
}

const any32 = 1<<32 - 1

// rules is the table of section 2.2.2.2.
var rules = [...]rule{
	PayloadFormat:           {formByte, in(PUBLISH) | inWill, 0, 1},
	MessageExpiry:           {formFour, in(PUBLISH) | inWill, 0, any32},
	ContentType:             {formText, in(PUBLISH) | inWill, 0, 0},
	ResponseTopic:           {formText, in(PUBLISH) | inWill, 0, 0},
	CorrelationData:         {formData, in(PUBLISH) | inWill, 0, 0},
	SubscriptionID:          {formVarint, in(PUBLISH, SUBSCRIBE), 1, maxRemaining},
	SessionExpiry:           {formFour, in(CONNECT, CONNACK, DISCONNECT), 0, any32},
	AssignedClientID:        {formText, in(CONNACK), 0, 0},
	ServerKeepAlive:         {formTwo, in(CONNACK), 0, any32},
	AuthMethod:              {formText, in(CONNECT, CONNACK), 0, 0},
	AuthData:                {formData, in(CONNECT, CONNACK), 0, 0},
	RequestProblem:          {formByte, in(CONNECT), 0, 1},
	WillDelay:               {formFour, inWill, 0, any32},
	RequestResponse:         {formByte, in(CONNECT), 0, 1},
	ResponseInformation:     {formText, in(CONNACK), 0, 0},
	ServerReference:         {formText, in(CONNACK, DISCONNECT), 0, 0},
	ReasonString:            {formText, in(CONNACK, PUBACK, SUBACK, UNSUBACK, DISCONNECT), 0, 0},
	ReceiveMaximum:          {formTwo, in(CONNECT, CONNACK), 1, any32},
	TopicAliasMaximum:       {formTwo, in(CONNECT, CONNACK), 0, any32},
	TopicAlias:              {formTwo, in(PUBLISH), 1, any32},
	MaximumQoS:              {formByte, in(CONNACK), 0, 1},
	RetainAvailable:         {formByte, in(CONNACK), 0, 1},
	UserProperty:            {formPair, in(CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, DISCONNECT) | inWill, 0, 0},
	MaximumPacketSize:       {formFour, in(CONNECT, CONNACK), 1, any32},
	WildcardAvailable:       {formByte, in(CONNACK), 0, 1},
	SubscriptionIDAvailable: {formByte, in(CONNACK), 0, 1},
	SharedAvailable:         {formByte, in(CONNACK), 0, 1},
}

func ruleOf(id PropertyID) rule {
	if int(id) < len(rules) {
		return rules[id]
	}
	return rule{}
}

// check returns what is wrong with the properties of a packet.
func (ps Properties) check(v Version, at place) error {
	if v != V5 && len(ps) > 0 {
		return ErrProperties
	}
	if len(ps) > MaxProperties {
		return ErrTooManyProperties
	}
	var seen uint64
	for _, p := range ps {
		if err := p.check(at, seen&(1<<p.ID) != 0); err != nil {
			return err
		}
		seen |= 1 << p.ID
	}
	if seen&(1<<AuthData) != 0 && seen&(1<<AuthMethod) == 0 {
		return ErrAuthData
	}
	return nil
}

func (p Property) check(at place, again bool) error {
	r := ruleOf(p.ID)
	switch {
	case r.places&at == 0:
		return ErrProperty
	case again && p.ID != UserProperty && !(p.ID == SubscriptionID && at == in(PUBLISH)):
		return ErrPropertyTwice
	}
	switch r.form {
	case formText:
		if p.ID == ResponseTopic {
			return CheckTopic(p.Text)
		}
		return CheckText(p.Text)
	case formPair:
		if err := CheckText(p.Key); err != nil {
			return err
		}
		return CheckText(p.Text)
	case formData:
		if len(p.Data) > maxField {
			return ErrTooLong
		}
		return nil
	case formTwo:
		r.max = maxField
	}
	switch {
	case p.ID == TopicAlias && p.Number == 0:
		return ErrTopicAlias
	case p.Number < r.min || p.Number > r.max:
		return ErrPropertyValue
	}
	return nil
}

// append appends the properties with their length, in MQTT 5.
func (ps Properties) append(b []byte, v Version) []byte {
	if v != V5 {
		return b
	}
	n := 0
	for _, p := range ps {
		n += p.size()
	}
	b = binary.AppendUvarint(b, uint64(n))
	for _, p := range ps {
		b = p.append(b)
	}
	return b
}

func (p Property) size() int {
	switch ruleOf(p.ID).form {
	case formByte:
		return 2
	case formTwo:
		return 3
	case formFour:
		return 5
	case formVarint:
		return 1 + len(binary.AppendUvarint(nil, uint64(p.Number)))
	case formPair:
		return 5 + len(p.Key) + len(p.Text)
	}
	return 3 + len(p.Text) + len(p.Data)
}

func (p Property) append(b []byte) []byte {
	b = append(b, byte(p.ID))
	switch ruleOf(p.ID).form {
	case formByte:
		return append(b, byte(p.Number))
	case formTwo:
		return binary.BigEndian.AppendUint16(b, uint16(p.Number))
	case formFour:
		return binary.BigEndian.AppendUint32(b, p.Number)
	case formVarint:
		return binary.AppendUvarint(b, uint64(p.Number))
	case formPair:
		return text(text(b, p.Key), p.Text)
	case formData:
		return text(b, p.Data)
	}
	return text(b, p.Text)
}

// properties reads the properties of a packet of MQTT 5.
func (r *reader) properties(v Version) Properties {
	if v != V5 {
		return nil
	}
	n := r.varint()
	in := reader{b: r.take(int(n))}
	in.err = r.err
	var ps Properties
	for len(in.b) > 0 && in.err == nil && len(ps) <= MaxProperties {
		ps = append(ps, in.property())
	}
	if len(ps) > MaxProperties {
		in.err = ErrTooManyProperties
	}
	r.err = in.err
	return ps
}

func (r *reader) property() Property {
	p := Property{ID: PropertyID(r.uint8())}
	switch ruleOf(p.ID).form {
	case formByte:
		p.Number = uint32(r.uint8())
	case formTwo:
		p.Number = uint32(r.uint16())
	case formFour:
		p.Number = r.uint32()
	case formVarint:
		p.Number = r.varint()
	case formPair:
		p.Key, p.Text = r.text(), r.text()
	case formData:
		p.Data = r.bytes()
	case formText:
		p.Text = r.text()
	default:
		fail[Property](r, ErrProperty)
	}
	return p
}

// varint reads a variable byte integer in its shortest form.
func (r *reader) varint() uint32 {
	n, w := binary.Uvarint(r.b[:min(4, len(r.b))])
	switch {
	case w <= 0 && len(r.b) >= 4:
		fail[int](r, ErrLength)
	case w <= 0:
		fail[int](r, ErrTruncated)
	case w > 1 && r.b[w-1] == 0:
		fail[int](r, ErrOverlong)
	}
	if r.take(max(w, 0)); r.err != nil {
		return 0
	}
	return uint32(n)
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}
