package mqtt_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/mqtt"
)

func ptr[T any](v T) *T { return &v }

// examples has one packet for each form, with its bytes worked out by hand
// from the standard.
var examples = []struct {
	name   string
	from   mqtt.Side
	packet mqtt.Packet
	hex    string
}{
	{"connect", mqtt.FromClient, &mqtt.Connect{Version: mqtt.V311, ClientID: "pump-01", Clean: true, KeepAlive: 60},
		"10 13 00044d515454 04 02 003c 000770756d702d3031"},
	{"connect in full", mqtt.FromClient, &mqtt.Connect{Version: mqtt.V311, ClientID: "p", KeepAlive: 10,
		Will:     &mqtt.Will{Topic: "a/b", Payload: []byte("x"), QoS: 1, Retain: true},
		Username: ptr("u"), Password: []byte("pw")},
		"10 1c 00044d515454 04 ec 000a 000170 0003612f62 000178 000175 00027077"},
	{"connack", mqtt.FromServer, &mqtt.Connack{SessionPresent: true}, "20 02 01 00"},
	{"connack refused", mqtt.FromServer, &mqtt.Connack{Code: mqtt.RefusedForbidden}, "20 02 00 05"},
	{"publish 0", mqtt.FromClient, &mqtt.Publish{Topic: "a/b", Payload: []byte("hi"), Retain: true}, "31 07 0003612f62 6869"},
	{"publish 1", mqtt.FromServer, &mqtt.Publish{Topic: "a", Payload: []byte{}, QoS: 1, ID: 258, Dup: true}, "3a 05 000161 0102"},
	{"publish 2", mqtt.FromClient, &mqtt.Publish{Topic: "a", Payload: []byte{}, QoS: 2, ID: 1}, "34 05 000161 0001"},
	{"puback", mqtt.FromClient, &mqtt.Puback{ID: 0xffff}, "40 02 ffff"},
	{"subscribe", mqtt.FromClient, &mqtt.Subscribe{ID: 7, Filters: []mqtt.Filter{{Filter: "a/#", QoS: 1}, {Filter: "+"}}},
		"82 0c 0007 0003612f23 01 00012b 00"},
	{"suback", mqtt.FromServer, &mqtt.Suback{ID: 7, Codes: []byte{1, mqtt.SubackFailure}}, "90 04 0007 01 80"},
	{"unsubscribe", mqtt.FromClient, &mqtt.Unsubscribe{ID: 8, Filters: []string{"a"}}, "a2 05 0008 000161"},
	{"unsuback", mqtt.FromServer, &mqtt.Unsuback{ID: 8}, "b0 02 0008"},
	{"pingreq", mqtt.FromClient, &mqtt.Pingreq{}, "c0 00"},
	{"pingresp", mqtt.FromServer, &mqtt.Pingresp{}, "d0 00"},
	{"disconnect", mqtt.FromClient, &mqtt.Disconnect{}, "e0 00"},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decode feeds b in pieces and returns the packets, which it encodes and
// decodes once more so that they alias nothing of b.
func decode(from mqtt.Side, b []byte, piece int) (ps []mqtt.Packet, err error) {
	return decodeAs(mqtt.V311, from, b, piece)
}

func decodeAs(v mqtt.Version, from mqtt.Side, b []byte, piece int) (ps []mqtt.Packet, err error) {
	d := mqtt.NewDecoder(from, mqtt.DefaultLimit)
	d.Version = v
	for len(b) > 0 {
		n := min(piece, len(b))
		for p, err := range d.Feed(b[:n]) {
			if err != nil {
				return ps, err
			}
			ps = append(ps, own(p))
		}
		b = b[n:]
	}
	if d.Partial() {
		return ps, errors.New("partial")
	}
	return ps, nil
}

// own gives a packet bytes of its own.
func own(p mqtt.Packet) mqtt.Packet {
	switch p := p.(type) {
	case *mqtt.Publish:
		p.Payload = append([]byte{}, p.Payload...)
		for i := range p.Properties {
			p.Properties[i].Data = bytes.Clone(p.Properties[i].Data)
		}
	case *mqtt.Suback:
		p.Codes = bytes.Clone(p.Codes)
	case *mqtt.Unsuback:
		p.Codes = bytes.Clone(p.Codes)
	}
	return p
}

func TestExamples(t *testing.T) {
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			want := unhex(t, e.hex)
			got, err := e.packet.Append([]byte("before"))
			if err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
				t.Fatalf("Append = %x, %v, want %x", got, err, want)
			}
			for _, piece := range []int{1, 2, 3, 7, 1 << 10} {
				ps, err := decode(e.from, bytes.Repeat(want, 3), piece)
				if diff := cmp.Diff([]mqtt.Packet{e.packet, e.packet, e.packet}, ps); err != nil || diff != "" {
					t.Fatalf("in pieces of %d: %v\n%s", piece, err, diff)
				}
			}
		})
	}
}

func TestLongPacket(t *testing.T) {
	for _, n := range []int{0, 121, 122, 123, 16376, 16377, 16378, 200 << 10} {
		want := &mqtt.Publish{Topic: "abcd", Payload: bytes.Repeat([]byte{7}, n)}
		b, err := want.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(mqtt.FromClient, b, 1000)
		if diff := cmp.Diff([]mqtt.Packet{want}, got); err != nil || diff != "" {
			t.Fatalf("%d bytes: %v\n%s", n, err, diff)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	const connect = "10 13 00044d515454 "
	for _, c := range []struct {
		name string
		from mqtt.Side
		hex  string
		want error
	}{
		{"type 0", mqtt.FromClient, "00 00", mqtt.ErrType},
		{"type 15", mqtt.FromClient, "f0 00", mqtt.ErrType},
		{"pubrec", mqtt.FromClient, "50 02 0001", mqtt.ErrType},
		{"pubrel", mqtt.FromClient, "62 02 0001", mqtt.ErrType},
		{"pubcomp", mqtt.FromClient, "70 02 0001", mqtt.ErrType},
		{"connack from a client", mqtt.FromClient, "20 02 00 00", mqtt.ErrType},
		{"pingresp from a client", mqtt.FromClient, "d0 00", mqtt.ErrType},
		{"suback from a client", mqtt.FromClient, "90 03 0001 00", mqtt.ErrType},
		{"unsuback from a client", mqtt.FromClient, "b0 02 0001", mqtt.ErrType},
		{"connect from a server", mqtt.FromServer, connect, mqtt.ErrType},
		{"subscribe from a server", mqtt.FromServer, "82 06 0001 000161 00", mqtt.ErrType},
		{"unsubscribe from a server", mqtt.FromServer, "a2 05 0001 000161", mqtt.ErrType},
		{"pingreq from a server", mqtt.FromServer, "c0 00", mqtt.ErrType},
		{"disconnect from a server", mqtt.FromServer, "e0 00", mqtt.ErrType},
		{"connect flags", mqtt.FromClient, "11", mqtt.ErrFlags},
		{"puback flags", mqtt.FromClient, "41", mqtt.ErrFlags},
		{"subscribe flags", mqtt.FromClient, "80", mqtt.ErrFlags},
		{"unsubscribe flags", mqtt.FromClient, "a0", mqtt.ErrFlags},
		{"pingreq flags", mqtt.FromClient, "c8", mqtt.ErrFlags},
		{"disconnect flags", mqtt.FromClient, "e1", mqtt.ErrFlags},
		{"five bytes of length", mqtt.FromClient, "30 80808080", mqtt.ErrLength},
		{"overlong zero", mqtt.FromClient, "c0 8000", mqtt.ErrOverlong},
		{"overlong length", mqtt.FromClient, "30 878000", mqtt.ErrOverlong},
		{"too large", mqtt.FromClient, "30 ffffff7f", mqtt.ErrTooLarge},
		{"empty connect", mqtt.FromClient, "10 00", mqtt.ErrTruncated},
		{"string past the end", mqtt.FromClient, "30 04 ffff6161", mqtt.ErrTruncated},
		{"publish without id", mqtt.FromClient, "32 03 000161", mqtt.ErrTruncated},
		{"half a puback", mqtt.FromClient, "40 01 00", mqtt.ErrTruncated},
		{"subscribe without qos", mqtt.FromClient, "82 05 0001 000161", mqtt.ErrTruncated},
		{"pingreq with a body", mqtt.FromClient, "c0 01 00", mqtt.ErrTrailing},
		{"puback with a body", mqtt.FromClient, "40 03 000100", mqtt.ErrTrailing},
		{"connect with a tail", mqtt.FromClient, "10 0e 00044d515454 04 02 003c 000161 00", mqtt.ErrTrailing},
		{"user name without its flag", mqtt.FromClient, "10 10 00044d515454 04 02 003c 000161 000175", mqtt.ErrTrailing},
		{"protocol name", mqtt.FromClient, "10 0d 00044d515458 04 02 003c 000161", mqtt.ErrProtocol},
		{"mqtt 3.1", mqtt.FromClient, "10 0f 00064d5149736470 03 02 003c 000161", mqtt.ErrVersion},
		{"mqtt 3.1 as 4", mqtt.FromClient, "10 0f 00064d5149736470 04 02 003c 000161", mqtt.ErrVersion},
		{"mqtt 6", mqtt.FromClient, "10 0e 00044d515454 06 02 003c 00 000161", mqtt.ErrVersion},
		{"connect flag 0", mqtt.FromClient, "10 0d 00044d515454 04 03 003c 000161", mqtt.ErrConnectFlags},
		{"will qos without will", mqtt.FromClient, "10 0d 00044d515454 04 0a 003c 000161", mqtt.ErrWillFlags},
		{"will retain without will", mqtt.FromClient, "10 0d 00044d515454 04 22 003c 000161", mqtt.ErrWillFlags},
		{"will qos 3", mqtt.FromClient, "10 13 00044d515454 04 1e 003c 000161 000161 000162", mqtt.ErrWillQoS},
		{"will topic empty", mqtt.FromClient, "10 12 00044d515454 04 06 003c 000161 0000 000162", mqtt.ErrWillTopic},
		{"will topic with a wildcard", mqtt.FromClient, "10 13 00044d515454 04 06 003c 000161 000123 000162", mqtt.ErrWillTopic},
		{"password without user", mqtt.FromClient, "10 10 00044d515454 04 42 003c 000161 000170", mqtt.ErrPassword},
		{"no client id, session kept", mqtt.FromClient, "10 0c 00044d515454 04 00 003c 0000", mqtt.ErrClientID},
		{"client id not utf-8", mqtt.FromClient, "10 0d 00044d515454 04 02 003c 0001ff", mqtt.ErrUTF8},
		{"overlong utf-8", mqtt.FromClient, "30 04 0002c0af", mqtt.ErrUTF8},
		{"surrogate", mqtt.FromClient, "30 05 0003eda080", mqtt.ErrUTF8},
		{"U+0000", mqtt.FromClient, "30 05 0003610062", mqtt.ErrNUL},
		{"U+0000 in user name", mqtt.FromClient, "10 10 00044d515454 04 82 003c 000161 000100", mqtt.ErrNUL},
		{"empty topic", mqtt.FromClient, "30 02 0000", mqtt.ErrTopic},
		{"publish to #", mqtt.FromClient, "30 05 0003612f23", mqtt.ErrWildcard},
		{"publish to +", mqtt.FromClient, "30 05 00032b2f61", mqtt.ErrWildcard},
		{"qos 3", mqtt.FromClient, "36 05 000161 0001", mqtt.ErrQoS},
		{"dup at qos 0", mqtt.FromClient, "38 03 000161", mqtt.ErrDup},
		{"publish id 0", mqtt.FromClient, "32 05 000161 0000", mqtt.ErrPacketID},
		{"puback id 0", mqtt.FromClient, "40 02 0000", mqtt.ErrPacketID},
		{"subscribe id 0", mqtt.FromClient, "82 06 0000 000161 00", mqtt.ErrPacketID},
		{"unsubscribe id 0", mqtt.FromClient, "a2 05 0000 000161", mqtt.ErrPacketID},
		{"suback id 0", mqtt.FromServer, "90 03 0000 00", mqtt.ErrPacketID},
		{"unsuback id 0", mqtt.FromServer, "b0 02 0000", mqtt.ErrPacketID},
		{"subscribe to nothing", mqtt.FromClient, "82 02 0001", mqtt.ErrNoFilters},
		{"unsubscribe from nothing", mqtt.FromClient, "a2 02 0001", mqtt.ErrNoTopics},
		{"subscribe qos 3", mqtt.FromClient, "82 06 0001 000161 03", mqtt.ErrSubscribeQoS},
		{"subscribe qos with reserved bits", mqtt.FromClient, "82 06 0001 000161 11", mqtt.ErrSubscribeQoS},
		{"empty filter", mqtt.FromClient, "82 05 0001 0000 00", mqtt.ErrTopic},
		{"# not last", mqtt.FromClient, "82 08 0001 0003232f61 00", mqtt.ErrFilter},
		{"# beside text", mqtt.FromClient, "82 07 0001 00026123 00", mqtt.ErrFilter},
		{"+ beside text", mqtt.FromClient, "a2 06 0001 0002612b", mqtt.ErrLevel},
		{"filter not utf-8", mqtt.FromClient, "82 06 0001 0001ff 00", mqtt.ErrUTF8},
		{"too many filters", mqtt.FromClient, "82 8610 0001" + strings.Repeat("00012b 00", 513), mqtt.ErrTooManyFilters},
		{"too many unsubscribed", mqtt.FromClient, "a2 850c 0001" + strings.Repeat("00012b", 513), mqtt.ErrTooManyFilters},
		{"connack flags", mqtt.FromServer, "20 02 02 00", mqtt.ErrConnack},
		{"connack code", mqtt.FromServer, "20 02 00 06", mqtt.ErrConnack},
		{"session of a refused", mqtt.FromServer, "20 02 01 05", mqtt.ErrSession},
		{"suback code", mqtt.FromServer, "90 03 0001 03", mqtt.ErrSubackCode},
		{"suback of nothing", mqtt.FromServer, "90 02 0001", mqtt.ErrNoSubackCodes},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, piece := range []int{1, 5, 1 << 16} {
				ps, err := decode(c.from, unhex(t, c.hex), piece)
				if !errors.Is(err, c.want) || len(ps) > 0 {
					t.Errorf("in pieces of %d: %v, %v, want %v", piece, ps, err, c.want)
				}
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	long := strings.Repeat("x", 1<<16)
	for _, c := range []struct {
		packet mqtt.Packet
		want   error
	}{
		{&mqtt.Connect{Version: 6, Clean: true}, mqtt.ErrVersion},
		{&mqtt.Connect{ClientID: "a", Properties: mqtt.Properties{{ID: mqtt.SessionExpiry}}}, mqtt.ErrProperties},
		{&mqtt.Publish{Topic: "a", Properties: mqtt.Properties{{ID: mqtt.UserProperty}}}, mqtt.ErrProperties},
		{&mqtt.Puback{ID: 1, Code: mqtt.NotAuthorized}, mqtt.ErrReason},
		{&mqtt.Unsuback{ID: 1, Codes: []byte{0}}, mqtt.ErrReason},
		{&mqtt.Disconnect{Code: mqtt.DisconnectWithWill}, mqtt.ErrReason},
		{&mqtt.Subscribe{ID: 1, Filters: []mqtt.Filter{{Filter: "a", NoLocal: true}}}, mqtt.ErrSubscribeQoS},
		{&mqtt.Connect{}, mqtt.ErrClientID},
		{&mqtt.Connect{ClientID: long}, mqtt.ErrTooLong},
		{&mqtt.Connect{ClientID: "a", Password: []byte{}}, mqtt.ErrPassword},
		{&mqtt.Connect{ClientID: "a", Username: &long}, mqtt.ErrTooLong},
		{&mqtt.Connect{ClientID: "a", Username: ptr("a"), Password: []byte(long)}, mqtt.ErrTooLong},
		{&mqtt.Connect{ClientID: "a", Will: &mqtt.Will{Topic: "a", Payload: []byte(long)}}, mqtt.ErrTooLong},
		{&mqtt.Connect{ClientID: "a", Will: &mqtt.Will{Topic: "a/+"}}, mqtt.ErrWillTopic},
		{&mqtt.Connect{ClientID: "a", Will: &mqtt.Will{Topic: "a\x00"}}, mqtt.ErrNUL},
		{&mqtt.Connect{ClientID: "a", Will: &mqtt.Will{Topic: "a", QoS: 3}}, mqtt.ErrWillQoS},
		{&mqtt.Publish{Topic: "a/#"}, mqtt.ErrWildcard},
		{&mqtt.Publish{Topic: "a", QoS: 1}, mqtt.ErrPacketID},
		{&mqtt.Publish{Topic: "a", QoS: 3}, mqtt.ErrQoS},
		{&mqtt.Publish{Topic: long}, mqtt.ErrTooLong},
		{&mqtt.Publish{Topic: "a", Payload: make([]byte, 1<<28)}, mqtt.ErrTooLarge},
		{&mqtt.Subscribe{ID: 1, Filters: []mqtt.Filter{{Filter: "a", QoS: 3}}}, mqtt.ErrSubscribeQoS},
		{&mqtt.Puback{}, mqtt.ErrPacketID},
		{&mqtt.Connack{Code: 6}, mqtt.ErrConnack},
	} {
		if b, err := c.packet.Append(nil); b != nil || !errors.Is(err, c.want) {
			t.Errorf("%T: %d bytes, %v, want %v", c.packet, len(b), err, c.want)
		}
	}
}

func TestLimits(t *testing.T) {
	d := mqtt.NewDecoder(mqtt.FromClient, 16)
	feed := func(b []byte) (n int, err error) {
		for _, err := range d.Feed(b) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	fits, _ := (&mqtt.Publish{Topic: "a", Payload: make([]byte, 11)}).Append(nil)
	over, _ := (&mqtt.Publish{Topic: "a", Payload: make([]byte, 12)}).Append(nil)
	if n, err := feed(fits); n != 1 || err != nil {
		t.Fatalf("packet of %d bytes: %v", len(fits), err)
	}
	d.SetLimit(17)
	if n, err := feed(over); n != 1 || err != nil {
		t.Fatalf("packet of %d bytes under the new limit: %v", len(over), err)
	}
	d.SetLimit(16)
	if _, err := feed(over[:2]); !errors.Is(err, mqtt.ErrTooLarge) {
		t.Fatalf("the header of a packet over the limit: %v", err)
	}
	if _, err := feed(fits); !errors.Is(err, mqtt.ErrTooLarge) {
		t.Fatalf("after an error: %v, want the same error", err)
	}
}

// A header that promises much must not make the decoder reserve it.
func TestAllocatesWhatArrived(t *testing.T) {
	head := unhex(t, "30 ffff0f 0001 61")
	got := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for range mqtt.NewDecoder(mqtt.FromClient, 1<<20).Feed(head) {
			}
		}
	})
	if got.AllocedBytesPerOp() > 256 {
		t.Errorf("%d bytes allocated for %d that arrived", got.AllocedBytesPerOp(), len(head))
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/tennis/player1/#", "sport/tennis/player10", false},
		{"sport/#", "sport", true},
		{"#", "a/b/c", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"#", "$SYS/x", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"$SYS/#", "$SYS/monitor/Clients", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		{"a", "A", false},
		{"a/b", "a", false},
		{"a/b/#", "a", false},
		{"a", "a/b", false},
		{"devices/+/messages/devicebound/#", "devices/pump-01/messages/devicebound/x=y", true},
	} {
		if got := mqtt.Match(c.filter, c.topic); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.filter, c.topic, got)
		}
	}
}
