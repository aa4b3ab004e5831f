package mqtt_test

import (
	"bytes"
	"cmp"
	"slices"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	gocmp "github.com/google/go-cmp/cmp"

	"holdfast/mqtt"
)

// FuzzPaho compares with a codec of others: what we take, it takes, and means
// the same by it. (We take less.)
func FuzzPaho(f *testing.F) {
	for _, e := range examples5 {
		f.Add(unhex(f, e.hex), e.from == mqtt.FromServer)
	}
	f.Fuzz(func(t *testing.T, b []byte, server bool) {
		from := mqtt.FromClient
		if server {
			from = mqtt.FromServer
		}
		ours, err := decodeAs(mqtt.V5, from, b, len(b)+1)
		if err != nil || len(ours) != 1 {
			return
		}
		if c, ok := ours[0].(*mqtt.Connect); ok && c.Version != mqtt.V5 {
			return // it knows no other version
		}
		if _, ok := ours[0].(*mqtt.Disconnect); ok && len(b) == 2 {
			return // they want a reason code, which section 3.14.2.1 lets out
		}
		theirs, err := packets.ReadPacket(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%x is %#v, they say %v", b, ours[0], err)
		}
		var out bytes.Buffer
		if _, err := theirs.WriteTo(&out); err != nil {
			t.Fatalf("%x: they write %v", b, err)
		}
		again, err := decodeAs(mqtt.V5, from, out.Bytes(), out.Len())
		if err != nil || len(again) != 1 {
			t.Fatalf("%x: they write %x: %v", b, out.Bytes(), err)
		}
		if diff := gocmp.Diff(sorted(ours[0]), sorted(again[0])); diff != "" {
			t.Fatalf("%x: they write %x\n%s", b, out.Bytes(), diff)
		}
	})
}

// sorted puts a packet's properties in the order of their numbers, for theirs
// has none, and leaves out what they lose: an empty text, all but the last
// subscription identifier, a will's correlation data.
func sorted(p mqtt.Packet) mqtt.Packet {
	_, connect := p.(*mqtt.Connect)
	for _, ps := range propertiesOf(p) {
		*ps = slices.DeleteFunc(*ps, func(p mqtt.Property) bool {
			return p.ID == mqtt.SubscriptionID || p.ID == mqtt.CorrelationData && connect ||
				p.ID != mqtt.UserProperty && p.Number == 0 && p.Text == "" && len(p.Data) == 0
		})
		if len(*ps) == 0 {
			*ps = nil
		}
		slices.SortStableFunc(*ps, func(a, b mqtt.Property) int { return cmp.Compare(a.ID, b.ID) })
	}
	return p
}

func propertiesOf(p mqtt.Packet) []*mqtt.Properties {
	switch p := p.(type) {
	case *mqtt.Connect:
		if p.Will != nil {
			return []*mqtt.Properties{&p.Properties, &p.Will.Properties}
		}
		return []*mqtt.Properties{&p.Properties}
	case *mqtt.Connack:
		return []*mqtt.Properties{&p.Properties}
	case *mqtt.Publish:
		return []*mqtt.Properties{&p.Properties}
	case *mqtt.Puback:
		return []*mqtt.Properties{&p.Properties}
	case *mqtt.Subscribe:
		return []*mqtt.Properties{&p.Properties}
	case *mqtt.Suback:
		return []*mqtt.Properties{&p.Properties}
	case *mqtt.Unsubscribe:
		return []*mqtt.Properties{&p.Properties}
	case *mqtt.Unsuback:
		return []*mqtt.Properties{&p.Properties}
	case *mqtt.Disconnect:
		return []*mqtt.Properties{&p.Properties}
	}
	return nil
}
