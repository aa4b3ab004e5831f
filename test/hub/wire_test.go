package hub_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/smallstep/pkcs7"

	"holdfast/evidence"
	"holdfast/mqtt"
)

// dial opens a TLS connection. With TLS 1.3 a client learns of its refusal
// only when it reads.
func (w *world) dial(addr string, cfg *tls.Config) (*tls.Conn, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", addr, cfg)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

// wire is one connection to the device HTTPS listener.
type wire struct {
	conn *tls.Conn
	in   *bufio.Reader
}

// https opens a connection that shows cert.
func (w *world) https(cert *tls.Certificate) (*wire, error) {
	return w.httpsWith(w.tls(cert, "http/1.1"))
}

func (w *world) httpsWith(cfg *tls.Config) (*wire, error) {
	conn, err := w.dial(w.at.HTTPS, cfg)
	if err != nil {
		return nil, err
	}
	return &wire{conn: conn, in: bufio.NewReader(conn)}, nil
}

func (x *wire) close() { _ = x.conn.Close() }

// exporter is the connection's channel binding.
func (x *wire) exporter() ([]byte, error) {
	state := x.conn.ConnectionState()
	return state.ExportKeyingMaterial(evidence.ExporterLabel, nil, evidence.ExporterSize)
}

// do sends a request and returns status and body of the answer.
func (x *wire) do(method, path, contentType string, body []byte) (int, []byte, error) {
	req, err := http.NewRequest(method, "https://127.0.0.1"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", contentType)
	writing := req.Write(x.conn)
	resp, err := http.ReadResponse(x.in, req) // even after a failed write: an alert may say why
	if err != nil {
		return 0, nil, errors.Join(err, writing)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// answerError is an answer that is not 200.
type answerError struct {
	status int
	kind   string
	text   string
}

func (e *answerError) Error() string { return fmt.Sprintf("%d %s: %s", e.status, e.kind, e.text) }

func answered(status int, body []byte) error {
	if status == http.StatusOK {
		return nil
	}
	var b struct {
		Error struct{ Kind, Message string }
	}
	_ = json.Unmarshal(body, &b) // what is not ours has no kind
	if b.Error.Kind == "" {
		b.Error.Message = string(body)
	}
	return &answerError{status, b.Error.Kind, b.Error.Message}
}

// json posts in (nothing if nil) and reads the answer into out.
func (x *wire) json(path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	status, answer, err := x.do(http.MethodPost, path, "application/json", body)
	if err != nil {
		return err
	}
	if err := answered(status, answer); err != nil {
		return err
	}
	return json.Unmarshal(answer, out)
}

// est posts a request to EST and returns the chain of the certificate.
func (x *wire) est(op string, csr []byte) ([][]byte, error) {
	status, answer, err := x.do(http.MethodPost, "/.well-known/est/"+op, "application/pkcs10", []byte(base64.StdEncoding.EncodeToString(csr)))
	if err != nil {
		return nil, err
	}
	if err := answered(status, answer); err != nil {
		return nil, err
	}
	der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(answer), nil)))
	if err != nil {
		return nil, err
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		return nil, err
	}
	var chain [][]byte
	for _, c := range p7.Certificates {
		chain = append(chain, c.Raw)
	}
	return chain, nil
}

// session is one connection to the MQTT listener.
type session struct {
	conn *tls.Conn
	in   *mqtt.Decoder
	buf  []byte
	next uint16
}

// mqtt opens a connection that shows cert.
func (w *world) mqtt(cert *tls.Certificate) (*session, error) {
	return w.mqttWith(w.tls(cert, "mqtt"))
}

func (w *world) mqttWith(cfg *tls.Config) (*session, error) {
	conn, err := w.dial(w.at.MQTT, cfg)
	if err != nil {
		return nil, err
	}
	return &session{conn: conn, in: mqtt.NewDecoder(mqtt.FromServer, mqtt.DefaultLimit)}, nil
}

func (s *session) close() { _ = s.conn.Close() }

func (s *session) send(p mqtt.Packet) error {
	b, err := p.Append(nil)
	if err != nil {
		return err
	}
	_, err = s.conn.Write(b)
	return err
}

// receive returns the hub's next packet. A payload is valid until the next one.
func (s *session) receive() (mqtt.Packet, error) {
	var chunk [4096]byte
	for {
		p, rest, err := s.in.Next(s.buf)
		s.buf = rest
		if p != nil || err != nil {
			return p, err
		}
		n, err := s.conn.Read(chunk[:])
		if n == 0 && err != nil {
			return nil, err
		}
		s.buf = append(s.buf, chunk[:n]...)
	}
}

// codeError is a CONNACK that refuses.
type codeError mqtt.Code

func (e codeError) Error() string { return fmt.Sprintf("CONNACK %d", byte(e)) }

// connect sends a CONNECT and reads its answer.
func (s *session) connect(c *mqtt.Connect) error {
	writing := s.send(c)
	p, err := s.receive()
	if err != nil {
		return errors.Join(err, writing)
	}
	ack, ok := p.(*mqtt.Connack)
	if !ok {
		return fmt.Errorf("%T answers CONNECT", p)
	}
	if ack.Code != mqtt.Accepted {
		return codeError(ack.Code)
	}
	return nil
}

func (s *session) open(id string) error {
	return s.connect(&mqtt.Connect{ClientID: id, Clean: true, KeepAlive: 60})
}

// publish sends a message of quality of service 1 and waits until it is
// acknowledged. Whatever else comes meanwhile is dropped.
func (s *session) publish(topic, body string) error {
	s.next++
	writing := s.send(&mqtt.Publish{Topic: topic, Payload: []byte(body), ID: s.next, QoS: mqtt.AtLeastOnce})
	for {
		p, err := s.receive()
		if err != nil {
			return errors.Join(err, writing)
		}
		if ack, ok := p.(*mqtt.Puback); ok && ack.ID == s.next {
			return nil
		}
	}
}

// subscribe returns the hub's code for a filter.
func (s *session) subscribe(filter string) (byte, error) {
	s.next++
	writing := s.send(&mqtt.Subscribe{ID: s.next, Filters: []mqtt.Filter{{Filter: filter}}})
	for {
		p, err := s.receive()
		if err != nil {
			return 0, errors.Join(err, writing)
		}
		if ack, ok := p.(*mqtt.Suback); ok {
			return ack.Codes[0], nil
		}
	}
}

// await returns the next message of a topic with that beginning.
func (s *session) await(prefix string) (topic string, body []byte, err error) {
	for {
		p, err := s.receive()
		if err != nil {
			return "", nil, err
		}
		if m, ok := p.(*mqtt.Publish); ok && len(m.Topic) >= len(prefix) && m.Topic[:len(prefix)] == prefix {
			return m.Topic, bytes.Clone(m.Payload), nil
		}
	}
}

// closed waits until the hub closes the connection.
func (s *session) closed() error {
	for {
		_, err := s.receive()
		if err == nil {
			continue
		}
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			return errors.New("the connection stays open")
		}
		return nil
	}
}
