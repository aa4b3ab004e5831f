// Package call makes a device's HTTPS calls to its hub: enrolment,
// attestation, certificates (EST, RFC 7030), and what is read from its
// repository.
//
// Every exchange has one connection of its own and speaks HTTP/1.1 on it
// directly: attestation binds its evidence to the connection, so no pool may
// choose another one in between.
package call

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/internal/tlsalert"
)

const (
	timeout   = 30 * time.Second // of one request
	maxAnswer = 256 << 10        // bytes of an answer's body
)

// Dial opens a connection to the hub's HTTPS port, showing cert where that is
// not nil.
type Dial func(ctx context.Context, cert *tls.Certificate) (*tls.Conn, error)

// Caller makes calls. It may be used concurrently.
type Caller struct {
	host string
	dial Dial
}

// New returns a Caller that names the hub host (a Host header: with the port
// where that is not 443).
func New(host string, dial Dial) *Caller { return &Caller{host: host, dial: dial} }

// Begin asks for a birth certificate.
func (c *Caller) Begin(ctx context.Context, req evidence.BeginRequest) (evidence.BeginResponse, error) {
	var resp evidence.BeginResponse
	return resp, c.enroll(ctx, "/enroll/begin", req, &resp)
}

// Finish answers the hub's challenge.
func (c *Caller) Finish(ctx context.Context, req evidence.FinishRequest) (evidence.Issued, error) {
	var resp evidence.Issued
	return resp, c.enroll(ctx, "/enroll/finish", req, &resp)
}

func (c *Caller) enroll(ctx context.Context, path string, req, resp any) error {
	return c.on(ctx, nil, func(x *exchange) error { return x.json(ctx, path, req, resp) })
}

// Attest asks for a nonce, has sign make the evidence for it and for the
// channel binding of the connection (RFC 9266), and returns the hub's
// appraisal.
func (c *Caller) Attest(ctx context.Context, cert *tls.Certificate, sign func(nonce, exporter []byte) (evidence.Attestation, error)) (evidence.Result, error) {
	var result evidence.Result
	err := c.on(ctx, cert, func(x *exchange) error {
		var nonce evidence.Nonce
		if err := x.json(ctx, "/attest/nonce", nil, &nonce); err != nil {
			return err
		}
		state := x.conn.ConnectionState()
		exporter, err := state.ExportKeyingMaterial(evidence.ExporterLabel, nil, evidence.ExporterSize)
		if err != nil {
			return fmt.Errorf("channel binding: %w", err)
		}
		ev, err := sign(nonce.Nonce, exporter)
		if err != nil {
			return fmt.Errorf("make evidence: %w", err)
		}
		return x.json(ctx, "/attest/evidence", ev, &result)
	})
	return result, err
}

// on runs f on a connection of its own.
func (c *Caller) on(ctx context.Context, cert *tls.Certificate, f func(*exchange) error) error {
	conn, err := c.dial(ctx, cert)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // what matters has been answered
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	err = f(&exchange{host: c.host, conn: conn, answers: bufio.NewReader(io.LimitReader(conn, 3*maxAnswer))})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// exchange is one connection.
type exchange struct {
	host    string
	conn    *tls.Conn
	answers *bufio.Reader
}

// json posts req (nothing, if it is nil) and reads the answer into resp.
func (x *exchange) json(ctx context.Context, path string, req, resp any) error {
	var body []byte
	if req != nil {
		var err error
		if body, err = json.Marshal(req); err != nil {
			return fmt.Errorf("post %s: %w", path, err)
		}
	}
	answer, err := x.post(ctx, path, "application/json", body)
	if err != nil {
		return fmt.Errorf("post %s: %w", path, err)
	}
	if err := json.Unmarshal(answer, resp); err != nil {
		return fmt.Errorf("post %s: answer: %w", path, err)
	}
	return nil
}

// post sends a body and returns the answer's, or the error that it tells.
func (x *exchange) post(ctx context.Context, path, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+x.host+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := x.send(req)
	if err != nil {
		return nil, err
	}
	answer, err := content(resp)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, failure(resp.StatusCode, answer)
	}
	return answer, nil
}

// send sends a request and reads the head of its answer.
func (x *exchange) send(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", "holdfast-device")
	if err := x.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	writing := req.Write(x.conn)
	resp, err := http.ReadResponse(x.answers, req) // even after a failed write: an alert may say why
	if err != nil {
		return nil, classify(err, writing)
	}
	return resp, nil
}

// content reads an answer that has to be short.
func content(resp *http.Response) ([]byte, error) {
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, unavailable(err)
	}
	if len(answer) > maxAnswer {
		return nil, fmt.Errorf("answer has more than %d bytes", maxAnswer)
	}
	return answer, nil
}

// classify gives a broken exchange its kind.
func classify(reading, writing error) error {
	if tlsalert.Refused(reading) {
		return fault.New(fault.Denied, "the hub refuses the certificate: %w", reading)
	}
	return unavailable(errors.Join(writing, reading))
}

func unavailable(err error) error {
	return fault.New(fault.Unavailable, "the hub does not answer: %w", err)
}

// failure is the error that an answer tells: that of its body, or of its
// status where something other than a hub answers.
func failure(status int, answer []byte) error {
	var body struct {
		Error struct {
			Kind    fault.Kind `json:"kind"`
			Message string     `json:"message"`
			ID      string     `json:"id"`
		} `json:"error"`
	}
	if json.Unmarshal(answer, &body) == nil && body.Error.Kind != "" {
		return fault.New(body.Error.Kind, "%s", body.Error.Message)
	}
	kinds := map[int]fault.Kind{
		http.StatusAccepted: fault.Pending, http.StatusBadRequest: fault.Invalid,
		http.StatusUnauthorized: fault.Denied, http.StatusForbidden: fault.Denied,
		http.StatusNotFound: fault.NotFound, http.StatusConflict: fault.Conflict,
		http.StatusUnprocessableEntity: fault.Integrity,
		http.StatusServiceUnavailable:  fault.Unavailable, http.StatusTooManyRequests: fault.Unavailable,
	}
	kind, known := kinds[status]
	if !known {
		kind = fault.Internal
	}
	return fault.New(kind, "the hub answers %d", status)
}
