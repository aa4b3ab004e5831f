package mqtt_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/mqtt"
)

// FuzzDecode checks that what decodes encodes to the same bytes, and that the
// pieces in which bytes arrive make no difference.
func FuzzDecode(f *testing.F) {
	for _, e := range examples {
		f.Add(unhex(f, e.hex), e.from == mqtt.FromServer, 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, server bool, piece int) {
		from := mqtt.FromClient
		if server {
			from = mqtt.FromServer
		}
		whole, err := decode(from, b, len(b)+1)
		pieces, err2 := decode(from, b, 1+piece&0xff)
		if diff := cmp.Diff(whole, pieces); diff != "" || (err == nil) != (err2 == nil) {
			t.Fatalf("%v, in pieces %v\n%s", err, err2, diff)
		}
		var again []byte
		for _, p := range whole {
			if again, err = p.Append(again); err != nil {
				t.Fatalf("%#v: %v", p, err)
			}
		}
		if !bytes.HasPrefix(b, again) {
			t.Fatalf("%x encodes to %x", b, again)
		}
	})
}

// FuzzRoundTrip checks that what encodes decodes to the same packet.
func FuzzRoundTrip(f *testing.F) {
	f.Add("pump-01", "a/b", []byte("x"), byte(1), uint16(60), byte(0xff))
	f.Add("", "", []byte{}, byte(0), uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, s, topic string, body []byte, qos byte, n uint16, flags byte) {
		on := func(i int) bool { return flags>>i&1 != 0 }
		body = append([]byte{}, body...)
		connect := &mqtt.Connect{Version: mqtt.V311, ClientID: s, Clean: on(0), KeepAlive: n}
		if on(1) {
			connect.Username = &topic
		}
		if on(2) {
			connect.Password = body
		}
		if on(3) {
			connect.Will = &mqtt.Will{Topic: topic, Payload: bytes.Clone(body), QoS: mqtt.QoS(qos), Retain: on(4)}
		}
		id := n
		if qos == 0 {
			id = 0
		}
		for _, p := range []mqtt.Packet{
			connect,
			&mqtt.Publish{Topic: topic, Payload: body, QoS: mqtt.QoS(qos), ID: id, Retain: on(0), Dup: on(1)},
			&mqtt.Puback{ID: n},
			&mqtt.Subscribe{ID: n, Filters: []mqtt.Filter{{Filter: s, QoS: mqtt.QoS(qos)}, {Filter: topic}}},
			&mqtt.Unsubscribe{ID: n, Filters: []string{s, topic}},
		} {
			b, err := p.Append(nil)
			if err != nil {
				continue
			}
			got, err := decode(mqtt.FromClient, b, 5)
			if diff := cmp.Diff([]mqtt.Packet{p}, got); err != nil || diff != "" {
				t.Fatalf("%v\n%s", err, diff)
			}
		}
	})
}

func BenchmarkDecodePublish(b *testing.B) {
	packet, err := (&mqtt.Publish{Topic: "devices/pump-01/messages/events/", Payload: make([]byte, 128), QoS: 1, ID: 1}).Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	d := mqtt.NewDecoder(mqtt.FromClient, mqtt.DefaultLimit)
	b.SetBytes(int64(len(packet)))
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range d.Feed(packet) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
