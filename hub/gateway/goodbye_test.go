package gateway_test

import (
	"bytes"
	"net"
	"testing"

	"holdfast/hub/gateway"
	"holdfast/iothub"
	"holdfast/mqtt"
)

// narrow is a listener whose connections hold little that has not been read.
type narrow struct{ net.Listener }

func (n narrow) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return c, err
}

// A session that is ended while it is in the middle of a packet says why after
// that packet, not inside it: the device would take the one for the other.
func TestGoodbyeDoesNotCutIntoAPacket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := startOn(t, narrow{l}, newAuthority(t), &fakeHub{})
	body := bytes.Repeat([]byte("x"), 128<<10)
	for range 5 {
		c := b.open5(t)
		c.send5(&mqtt.Subscribe{ID: 9, Filters: []mqtt.Filter{{Filter: iothub.PostureFilter}}})
		expect[*mqtt.Suback](c)
		if !b.Publish("pump-01", "$hub/posture/?$version=1", body) {
			t.Fatal("not published")
		}
		first := make([]byte, 4<<10)
		n, err := c.conn.Read(first)
		if err != nil {
			t.Fatal(err)
		}
		if !b.Revoke("pump-01") {
			t.Fatal("no session")
		}
		for p, err := range c.in.Feed(first[:n]) { // it is being sent
			t.Fatalf("got %#v, %v", p, err)
		}
		if p := expect[*mqtt.Publish](c); !bytes.Equal(p.Payload, body) {
			i := bytes.IndexFunc(p.Payload, func(r rune) bool { return r != 'x' })
			t.Fatalf("the body has %d bytes, and at %d it is %x", len(p.Payload), i, p.Payload[i:min(i+8, len(p.Payload))])
		}
		if p := expect[*mqtt.Disconnect](c); p.Code != mqtt.NotAuthorized {
			t.Errorf("told %#x", p.Code)
		}
		c.expectEnd()
	}
	b.hub.awaitClosed(t, gateway.Revoked, "")
}
