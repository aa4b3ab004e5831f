package mqtt_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/mqtt"
)

// examples5 is examples for MQTT 5.
var examples5 = []struct {
	name   string
	from   mqtt.Side
	packet mqtt.Packet
	hex    string
}{
	{"connect", mqtt.FromClient, &mqtt.Connect{Version: mqtt.V5, ClientID: "p", Clean: true, KeepAlive: 60},
		"10 0e 00044d515454 05 02 003c 00 000170"},
	{"connect without an id, with a password alone", mqtt.FromClient, &mqtt.Connect{Version: mqtt.V5, Password: []byte("x")},
		"10 10 00044d515454 05 40 0000 00 0000 000178"},
	{"connect in full", mqtt.FromClient, &mqtt.Connect{Version: mqtt.V5, ClientID: "p", KeepAlive: 10,
		Properties: mqtt.Properties{{ID: mqtt.SessionExpiry, Number: 3600}, {ID: mqtt.ReceiveMaximum, Number: 5},
			{ID: mqtt.MaximumPacketSize, Number: 1 << 16}, {ID: mqtt.UserProperty, Key: "a", Text: "b"}, {ID: mqtt.UserProperty, Key: "a", Text: "c"}},
		Will: &mqtt.Will{Topic: "t", Payload: []byte("x"), QoS: 1, Properties: mqtt.Properties{{ID: mqtt.WillDelay, Number: 9}, {ID: mqtt.CorrelationData, Data: []byte{0, 1}}}}},
		"10 3a 00044d515454 05 0c 000a 1b 1100000e10 210005 2700010000 26 000161 000162 26 000161 000163 000170 0a 1800000009 090002 0001 000174 000178"},
	{"connack", mqtt.FromServer, &mqtt.Connack{SessionPresent: true, Properties: mqtt.Properties{{ID: mqtt.MaximumQoS, Number: 1}, {ID: mqtt.RetainAvailable}}},
		"20 07 01 00 04 2401 2500"},
	{"connack refused", mqtt.FromServer, &mqtt.Connack{Code: mqtt.NotAuthorized, Properties: mqtt.Properties{{ID: mqtt.ReasonString, Text: "no"}}},
		"20 08 00 87 05 1f 00026e6f"},
	{"publish", mqtt.FromClient, &mqtt.Publish{Topic: "a", Payload: []byte("x"), QoS: 1, ID: 1, Properties: mqtt.Properties{
		{ID: mqtt.PayloadFormat, Number: 1}, {ID: mqtt.MessageExpiry, Number: 60}, {ID: mqtt.ContentType, Text: "t"}, {ID: mqtt.ResponseTopic, Text: "r"}}},
		"32 16 000161 0001 0f 0101 020000003c 03000174 08000172 78"},
	{"publish with an alias alone", mqtt.FromClient, &mqtt.Publish{Payload: []byte("x"), Properties: mqtt.Properties{{ID: mqtt.TopicAlias, Number: 7}}},
		"30 07 0000 03 230007 78"},
	{"publish of two subscriptions", mqtt.FromServer, &mqtt.Publish{Topic: "a", Payload: []byte{}, Properties: mqtt.Properties{
		{ID: mqtt.SubscriptionID, Number: 1}, {ID: mqtt.SubscriptionID, Number: 200}}}, "30 09 000161 05 0b01 0bc801"},
	{"puback", mqtt.FromClient, &mqtt.Puback{ID: 1}, "40 02 0001"},
	{"puback with a reason", mqtt.FromServer, &mqtt.Puback{ID: 1, Code: mqtt.NotAuthorized}, "40 04 0001 87 00"},
	{"subscribe", mqtt.FromClient, &mqtt.Subscribe{ID: 7, Properties: mqtt.Properties{{ID: mqtt.SubscriptionID, Number: 1 << 20}},
		Filters: []mqtt.Filter{{Filter: "a", QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2}}},
		"82 0b 0007 04 0b808040 000161 2d"},
	{"suback", mqtt.FromServer, &mqtt.Suback{ID: 7, Codes: []byte{1, byte(mqtt.NotAuthorized)}}, "90 05 0007 00 01 87"},
	{"unsubscribe", mqtt.FromClient, &mqtt.Unsubscribe{ID: 8, Filters: []string{"a"}}, "a2 06 0008 00 000161"},
	{"unsuback", mqtt.FromServer, &mqtt.Unsuback{ID: 8, Codes: []byte{byte(mqtt.NoSubscriptionExisted)}}, "b0 04 0008 00 11"},
	{"pingreq", mqtt.FromClient, &mqtt.Pingreq{}, "c0 00"},
	{"disconnect", mqtt.FromClient, &mqtt.Disconnect{}, "e0 00"},
	{"disconnect with a will", mqtt.FromClient, &mqtt.Disconnect{Code: mqtt.DisconnectWithWill, Properties: mqtt.Properties{{ID: mqtt.SessionExpiry}}},
		"e0 07 04 05 1100000000"},
	{"disconnect by the server", mqtt.FromServer, &mqtt.Disconnect{Code: mqtt.SessionTakenOver}, "e0 02 8e 00"},
}

func TestExamples5(t *testing.T) {
	for _, e := range examples5 {
		t.Run(e.name, func(t *testing.T) {
			want := unhex(t, e.hex)
			got, err := mqtt.AppendTo([]byte("before"), mqtt.V5, e.packet)
			if err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
				t.Fatalf("AppendTo = %x, %v, want %x", got, err, want)
			}
			for _, piece := range []int{1, 3, 1 << 10} {
				ps, err := decodeAs(mqtt.V5, e.from, bytes.Repeat(want, 2), piece)
				if diff := cmp.Diff([]mqtt.Packet{e.packet, e.packet}, ps); err != nil || diff != "" {
					t.Fatalf("in pieces of %d: %v\n%s", piece, err, diff)
				}
			}
		})
	}
}

// Forms that are allowed beside the ones that are sent.
func TestLongForms5(t *testing.T) {
	for hex, want := range map[string]mqtt.Packet{
		"40 03 0001 00":    &mqtt.Puback{ID: 1},
		"40 03 0001 10":    &mqtt.Puback{ID: 1, Code: mqtt.NoMatchingSubscribers},
		"40 04 0001 00 00": &mqtt.Puback{ID: 1},
		"e0 01 00":         &mqtt.Disconnect{},
		"e0 02 04 00":      &mqtt.Disconnect{Code: mqtt.DisconnectWithWill},
	} {
		ps, err := decodeAs(mqtt.V5, mqtt.FromClient, unhex(t, hex), 1)
		if diff := cmp.Diff([]mqtt.Packet{want}, ps); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", hex, err, diff)
		}
	}
}

func TestDecodeRefuses5(t *testing.T) {
	const connect = "00044d515454 05 02 003c "
	for _, c := range []struct {
		name string
		from mqtt.Side
		hex  string
		want error
	}{
		{"auth", mqtt.FromClient, "f0 02 18 00", mqtt.ErrType},
		{"pubrec", mqtt.FromClient, "50 02 0001", mqtt.ErrType},
		{"no properties", mqtt.FromClient, "10 0a " + connect, mqtt.ErrTruncated},
		{"properties past the end", mqtt.FromClient, "10 0e " + connect + "7f 000161", mqtt.ErrTruncated},
		{"overlong length of properties", mqtt.FromClient, "10 0f " + connect + "8000 000161", mqtt.ErrOverlong},
		{"length of properties without an end", mqtt.FromClient, "10 0e " + connect + "80808080", mqtt.ErrLength},
		{"half a property", mqtt.FromClient, "10 11 " + connect + "03 110000 000161", mqtt.ErrTruncated},
		{"property 0", mqtt.FromClient, "10 10 " + connect + "02 0000 000161", mqtt.ErrProperty},
		{"property 0x7f", mqtt.FromClient, "10 10 " + connect + "02 7f00 000161", mqtt.ErrProperty},
		{"property 0xff", mqtt.FromClient, "10 10 " + connect + "02 ff00 000161", mqtt.ErrProperty},
		{"property of another packet", mqtt.FromClient, "10 11 " + connect + "03 230001 000161", mqtt.ErrProperty},
		{"property of the will", mqtt.FromClient, "10 13 " + connect + "05 1800000000 000161", mqtt.ErrProperty},
		{"property twice", mqtt.FromClient, "10 14 " + connect + "06 210001 210001 000161", mqtt.ErrPropertyTwice},
		{"receive maximum 0", mqtt.FromClient, "10 11 " + connect + "03 210000 000161", mqtt.ErrPropertyValue},
		{"maximum packet size 0", mqtt.FromClient, "10 13 " + connect + "05 2700000000 000161", mqtt.ErrPropertyValue},
		{"request problem 2", mqtt.FromClient, "10 10 " + connect + "02 1702 000161", mqtt.ErrPropertyValue},
		{"authentication data alone", mqtt.FromClient, "10 12 " + connect + "04 16000100 000161", mqtt.ErrAuthData},
		{"user property not utf-8", mqtt.FromClient, "10 14 " + connect + "06 260001ff0000 000161", mqtt.ErrUTF8},
		{"user property with U+0000", mqtt.FromClient, "10 14 " + connect + "06 260000000100 000161", mqtt.ErrNUL},
		{"empty topic without an alias", mqtt.FromClient, "30 03 0000 00", mqtt.ErrTopic},
		{"topic alias 0", mqtt.FromClient, "30 06 0000 03 230000", mqtt.ErrTopicAlias},
		{"response topic with a wildcard", mqtt.FromClient, "30 08 000161 04 08000123", mqtt.ErrWildcard},
		{"payload format 2", mqtt.FromClient, "30 06 000161 02 0102", mqtt.ErrPropertyValue},
		{"too many properties", mqtt.FromClient, "30 8a0a 000161 850a" + strings.Repeat("2600000000", 257), mqtt.ErrTooManyProperties},
		{"puback with an unknown reason", mqtt.FromClient, "40 03 0001 01", mqtt.ErrReason},
		{"puback with a tail", mqtt.FromClient, "40 05 0001 00 00 00", mqtt.ErrTrailing},
		{"subscription id 0", mqtt.FromClient, "82 09 0001 02 0b00 000161 00", mqtt.ErrPropertyValue},
		{"two subscription ids", mqtt.FromClient, "82 0b 0001 04 0b01 0b01 000161 00", mqtt.ErrPropertyTwice},
		{"retain handling 3", mqtt.FromClient, "82 07 0001 00 000161 30", mqtt.ErrSubscribeQoS},
		{"reserved option", mqtt.FromClient, "82 07 0001 00 000161 40", mqtt.ErrSubscribeQoS},
		{"disconnect with an unknown reason", mqtt.FromClient, "e0 01 05", mqtt.ErrReason},
		{"connack of 3.1.1", mqtt.FromServer, "20 03 00 05 00", mqtt.ErrReason},
		{"suback code", mqtt.FromServer, "90 04 0001 00 03", mqtt.ErrSubackCode},
		{"unsuback of nothing", mqtt.FromServer, "b0 03 0001 00", mqtt.ErrReason},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, piece := range []int{1, 5, 1 << 16} {
				ps, err := decodeAs(mqtt.V5, c.from, unhex(t, c.hex), piece)
				if !errors.Is(err, c.want) || len(ps) > 0 {
					t.Errorf("in pieces of %d: %v, %v, want %v", piece, ps, err, c.want)
				}
			}
		})
	}
}

func TestProperties(t *testing.T) {
	ps := mqtt.Properties{{ID: mqtt.UserProperty, Key: "a", Text: "1"}, {ID: mqtt.ContentType, Text: "t"},
		{ID: mqtt.UserProperty, Key: "a", Text: "2"}, {ID: mqtt.CorrelationData, Data: []byte("d")}, {ID: mqtt.MessageExpiry, Number: 3}}
	var user []string
	for k, v := range ps.User() {
		user = append(user, k+v)
	}
	text, ok1 := ps.Text(mqtt.ContentType)
	data, ok2 := ps.Data(mqtt.CorrelationData)
	n, ok3 := ps.Number(mqtt.MessageExpiry)
	_, ok4 := ps.Text(mqtt.ResponseTopic)
	if diff := cmp.Diff([]string{"a1", "a2"}, user); diff != "" || text != "t" || string(data) != "d" || n != 3 || !ok1 || !ok2 || !ok3 || ok4 {
		t.Errorf("%q, %q, %d\n%s", text, data, n, diff)
	}
}

// FuzzDecode5 checks that what decodes encodes to something that decodes to the
// same, and that the pieces in which bytes arrive make no difference.
func FuzzDecode5(f *testing.F) {
	for _, e := range examples5 {
		f.Add(unhex(f, e.hex), e.from == mqtt.FromServer, 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, server bool, piece int) {
		from := mqtt.FromClient
		if server {
			from = mqtt.FromServer
		}
		whole, err := decodeAs(mqtt.V5, from, b, len(b)+1)
		pieces, err2 := decodeAs(mqtt.V5, from, b, 1+piece&0xff)
		if diff := cmp.Diff(whole, pieces); diff != "" || (err == nil) != (err2 == nil) {
			t.Fatalf("%v, in pieces %v\n%s", err, err2, diff)
		}
		v := mqtt.V5
		for _, p := range whole {
			if c, ok := p.(*mqtt.Connect); ok {
				v = c.Version
			}
			b, err := mqtt.AppendTo(nil, v, p)
			if err != nil {
				t.Fatalf("%#v: %v", p, err)
			}
			again, err := decodeAs(v, from, b, len(b))
			if diff := cmp.Diff([]mqtt.Packet{p}, again); err != nil || diff != "" {
				t.Fatalf("%x: %v\n%s", b, err, diff)
			}
		}
	})
}
