package mqtt_test

import (
	"bytes"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
	gocmp "github.com/google/go-cmp/cmp"

	"holdfast/mqtt"
)

// FuzzPaho311 is FuzzPaho for MQTT 3.1.1: what we take, that codec takes too,
// and means the same by it.
func FuzzPaho311(f *testing.F) {
	for _, e := range examples {
		f.Add(unhex(f, e.hex), e.from == mqtt.FromServer)
	}
	f.Fuzz(func(t *testing.T, b []byte, server bool) {
		from := mqtt.FromClient
		if server {
			from = mqtt.FromServer
		}
		ours, err := decodeAs(mqtt.V311, from, b, len(b)+1)
		if err != nil || len(ours) != 1 {
			return
		}
		if c, ok := ours[0].(*mqtt.Connect); ok && c.Version != mqtt.V311 {
			return // it knows no newer version
		}
		theirs, err := packets.ReadPacket(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%x is %#v, they say %v", b, ours[0], err)
		}
		var out bytes.Buffer
		if err := theirs.Write(&out); err != nil {
			t.Fatalf("%x: they write %v", b, err)
		}
		again, err := decodeAs(mqtt.V311, from, out.Bytes(), out.Len())
		if err != nil || len(again) != 1 {
			t.Fatalf("%x: they write %x: %v", b, out.Bytes(), err)
		}
		if diff := gocmp.Diff(ours[0], again[0]); diff != "" {
			t.Fatalf("%x: they write %x\n%s", b, out.Bytes(), diff)
		}
	})
}
