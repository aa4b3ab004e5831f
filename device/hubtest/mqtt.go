package hubtest

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"net"
	"slices"
	"time"

	"holdfast/iothub"
	"holdfast/mqtt"
	"holdfast/pki"
	"holdfast/release"
	"holdfast/tlspolicy"
)

func (h *Hub) accept() {
	for {
		conn, err := h.mqtt.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns[conn] = false
		h.mu.Unlock()
		h.goroutines.Go(func() {
			h.serve(conn.(*tls.Conn))
			_ = conn.Close()
			h.mu.Lock()
			delete(h.conns, conn)
			h.mu.Unlock()
		})
	}
}

// serve is one session.
func (h *Hub) serve(conn *tls.Conn) {
	if err := conn.Handshake(); err != nil {
		return
	}
	state := conn.ConnectionState()
	peer, err := tlspolicy.Peer(&state, h.trust, time.Now())
	if err != nil || h.step("mqtt by "+string(peer.Class)) != nil {
		return
	}
	d := mqtt.NewDecoder(mqtt.FromClient, mqtt.DefaultLimit)
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		for p, err := range d.Feed(buf[:n]) {
			if err != nil {
				h.t.Errorf("the device breaks the protocol: %v", err)
				return
			}
			if !h.answer(conn, peer.Class, p) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// answer reports whether the session goes on.
func (h *Hub) answer(conn net.Conn, class pki.Class, p mqtt.Packet) bool {
	switch p := p.(type) {
	case *mqtt.Connect:
		if p.ClientID != string(Device) {
			return send(conn, &mqtt.Connack{Code: mqtt.RefusedClientID}) && false
		}
		return send(conn, &mqtt.Connack{})
	case *mqtt.Subscribe:
		return h.subscribed(conn, class, p)
	case *mqtt.Pingreq:
		return send(conn, &mqtt.Pingresp{})
	case *mqtt.Publish:
		m := *p
		m.Payload = bytes.Clone(p.Payload)
		h.mu.Lock()
		h.messages = append(h.messages, m)
		h.mu.Unlock()
		if p.QoS == mqtt.AtMostOnce {
			return h.request(conn, m)
		}
		return send(conn, &mqtt.Puback{ID: p.ID})
	}
	return false
}

// subscribed tells a session what waits for it.
func (h *Hub) subscribed(conn net.Conn, class pki.Class, p *mqtt.Subscribe) bool {
	body, _ := json.Marshal(h.Posture(class)) // always marshals
	h.mu.Lock()
	defer h.mu.Unlock()
	offers := slices.ContainsFunc(p.Filters, func(f mqtt.Filter) bool { return f.Filter == iothub.UpdateFilter })
	h.conns[conn] = offers
	return send(conn, &mqtt.Suback{ID: p.ID, Codes: make([]byte, len(p.Filters))}) &&
		send(conn, &mqtt.Publish{Topic: iothub.Posture{Version: 1}.String(), Payload: body}) &&
		(h.offer == nil || !offers || send(conn, &mqtt.Publish{Topic: iothub.UpdateOffer{Version: 1}.String(), Payload: h.offer}))
}

// request answers a report of an update.
func (h *Hub) request(conn net.Conn, m mqtt.Publish) bool {
	topic, err := iothub.ParseTopic(m.Topic)
	if err != nil {
		h.t.Errorf("the device publishes to %q: %v", m.Topic, err)
		return false
	}
	report, ok := topic.(iothub.UpdateProgress)
	if !ok {
		return true
	}
	var p release.Progress
	if err := json.Unmarshal(m.Payload, &p); err != nil {
		h.t.Errorf("the device reports %q: %v", m.Payload, err)
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.progress = append(h.progress, p)
	return send(conn, &mqtt.Publish{Topic: report.Result(204).String()})
}

func send(conn net.Conn, p mqtt.Packet) bool {
	b, err := p.Append(nil)
	if err == nil {
		_, err = conn.Write(b)
	}
	return err == nil
}
