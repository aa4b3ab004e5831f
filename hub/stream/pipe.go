package stream

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// pipe publishes to the embedded server. It speaks as much of the NATS protocol
// as one publisher with one message on its way needs: who commits writes and
// reads by itself, where a whole client hands each message over to its
// goroutines three times. With one message in flight that is a fifth of its time.
//
// The server asks nothing here unless it is asked: see node's PingInterval.
type pipe struct {
	dial    func() (net.Conn, error)
	timeout time.Duration

	conn net.Conn // nil: closed
	in   *bufio.Reader
	out  []byte
}

// What is written: small messages in one piece, others as they are.
const (
	inbox     = "_INBOX.commit"
	hello     = `CONNECT {"verbose":false,"pedantic":false,"lang":"go","version":"1","name":"publish","headers":true,"no_responders":true}` + "\r\nSUB " + inbox + " 1\r\nPING\r\n"
	onePiece  = 16 << 10
	maxAnswer = 4 << 10 // bytes of an answer, or of a line around it
)

func (p *pipe) publish(b []byte, check func() error) error {
	if err := p.open(); err != nil {
		return fmt.Errorf("connect to embedded NATS: %w", err)
	}
	err := p.write(b)
	if err == nil {
		err = p.answer(check)
	}
	if err != nil {
		p.close() // so that an answer that comes late is not taken for another's
	}
	return err
}

func (p *pipe) close() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}

// open connects, unless it is connected.
func (p *pipe) open() error {
	if p.conn != nil {
		return nil
	}
	conn, err := p.dial()
	if err != nil {
		return err
	}
	p.conn, p.in = conn, bufio.NewReaderSize(conn, maxAnswer)
	conn.SetDeadline(time.Now().Add(p.timeout))
	if _, err = p.in.ReadSlice('\n'); err == nil { // INFO
		_, err = io.WriteString(conn, hello)
	}
	for err == nil {
		var line []byte
		if line, err = p.in.ReadSlice('\n'); bytes.HasPrefix(line, []byte("PONG")) {
			return nil
		}
		if err == nil && bytes.HasPrefix(line, []byte("-ERR")) {
			err = errors.New(string(bytes.TrimSpace(line)))
		}
	}
	p.close()
	return err
}

func (p *pipe) write(b []byte) error {
	p.conn.SetWriteDeadline(time.Now().Add(p.timeout))
	p.out = fmt.Appendf(p.out[:0], "PUB %s %s %d\r\n", subject, inbox, len(b))
	parts := [][]byte{p.out, b, []byte("\r\n")}
	if len(b) <= onePiece {
		p.out = append(append(p.out, b...), '\r', '\n')
		parts = [][]byte{p.out}
	}
	for _, part := range parts {
		if _, err := p.conn.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// answer waits for what JetStream says.
func (p *pipe) answer(check func() error) error {
	for last := time.Now().Add(p.timeout); ; {
		p.conn.SetReadDeadline(time.Now().Add(checkInterval))
		line, err := p.in.ReadSlice('\n')
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded) || len(line) > 0:
			return err
		case time.Now().After(last):
			return errors.New("timed out")
		default:
			if err := check(); err != nil {
				return err
			}
			continue
		}
		if done, err := p.take(bytes.Fields(line)); done || err != nil {
			return err
		}
	}
}

// take acts on what begins with a line, and reports whether it was the answer.
func (p *pipe) take(line [][]byte) (bool, error) {
	if len(line) == 0 {
		return false, nil
	}
	switch string(line[0]) {
	case "MSG", "HMSG":
		b, err := p.body(string(line[len(line)-1]))
		if err != nil {
			return false, err
		}
		if string(line[0]) == "HMSG" { // headers say why not: nobody listens, or too much waits
			status, _, _ := bytes.Cut(b, []byte("\r\n"))
			return false, fmt.Errorf("no response of JetStream: %s", status)
		}
		return true, acknowledged(b)
	case "PING":
		_, err := io.WriteString(p.conn, "PONG\r\n")
		return false, err
	case "-ERR":
		return false, errors.New(string(bytes.Join(line, []byte(" "))))
	}
	return false, nil
}

// body reads a message of so many bytes and the end of its line.
func (p *pipe) body(size string) ([]byte, error) {
	n, err := strconv.Atoi(size)
	if err != nil || n < 0 || n > maxAnswer {
		return nil, fmt.Errorf("answer of %q bytes", size)
	}
	b := make([]byte, n+len("\r\n"))
	_, err = io.ReadFull(p.in, b)
	return b[:n], err
}

// stored is how JetStream begins the answer that a message is stored.
const stored = `{"stream":"` + streamName + `","seq":`

// acknowledged is nil for an answer that says that the message is stored. The
// usual one is not decoded: that takes longer than all else here.
func acknowledged(b []byte) error {
	if number, ok := bytes.CutPrefix(b, []byte(stored)); ok {
		if n, err := strconv.ParseUint(string(bytes.TrimSuffix(number, []byte("}"))), 10, 64); err == nil && n > 0 {
			return nil
		}
	}
	var a server.JSPubAckResponse
	if err := json.Unmarshal(b, &a); err != nil {
		return fmt.Errorf("answer of JetStream: %w", err)
	}
	if err := a.ToError(); err != nil {
		return err
	}
	if a.PubAck == nil || a.PubAck.Sequence == 0 {
		return errors.New("answer of JetStream without a number")
	}
	return nil
}
