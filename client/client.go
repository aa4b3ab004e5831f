// Package client is the Go client of the hub's operator API. The command line
// and the tests use it; so may any program that has an operator certificate.
package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
)

// maxAnswer bounds an answer in bytes, so that a wrong peer cannot fill memory.
const maxAnswer = 256 << 20

// Config says where the hub is and how to reach it.
type Config struct {
	URL  string                  // as https://hub.example:9443
	HTTP *http.Client            // with the operator's certificate and the hub's root
	Head func(ledger.Head) error // sees the signed head of every answer; may refuse it
	// Token is an API token, in place of a certificate. Empty: none.
	Token string
}

// Client calls one hub's operator API. It is safe for concurrent use. Its
// errors carry a fault.Kind that tells the refusals apart.
type Client struct {
	cfg Config
}

// New returns a client.
func New(cfg Config) *Client {
	cfg.URL = strings.TrimRight(cfg.URL, "/")
	return &Client{cfg}
}

// Hub describes the hub.
func (c *Client) Hub(ctx context.Context) (operator.Hub, error) {
	return get[operator.Hub](ctx, c, "/v1/hub")
}

// Groups lists groups.
func (c *Client) Groups(ctx context.Context) ([]operator.Group, error) {
	return get[[]operator.Group](ctx, c, "/v1/groups")
}

// SetGroup makes or changes a group.
func (c *Client) SetGroup(ctx context.Context, id identity.Group, g operator.SetGroup) (operator.Group, error) {
	var out operator.Group
	return out, c.call(ctx, http.MethodPut, "/v1/groups/"+url.PathEscape(string(id)), g, &out)
}

// CAs lists registered authorities.
func (c *Client) CAs(ctx context.Context) ([]operator.CA, error) {
	return get[[]operator.CA](ctx, c, "/v1/cas")
}

// AddCA registers an authority.
func (c *Client) AddCA(ctx context.Context, ca operator.CA) (operator.CA, error) {
	var out operator.CA
	return out, c.call(ctx, http.MethodPost, "/v1/cas", ca, &out)
}

// AddDevice registers a device.
func (c *Client) AddDevice(ctx context.Context, d operator.AddDevice) (operator.AddedDevice, error) {
	var out operator.AddedDevice
	return out, c.call(ctx, http.MethodPost, "/v1/devices", d, &out)
}

// maxDevices is how many devices the hub answers at a time.
const maxDevices = 1000

// Devices lists devices by id; an empty group or status means any.
func (c *Client) Devices(ctx context.Context, g identity.Group, status string) ([]operator.Device, error) {
	q := url.Values{"limit": {strconv.Itoa(maxDevices)}}
	set(q, "group", string(g))
	set(q, "status", status)
	all := []operator.Device{}
	for {
		page, err := get[[]operator.Device](ctx, c, "/v1/devices?"+q.Encode())
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < maxDevices {
			return all, nil
		}
		q.Set("after", string(page[len(page)-1].ID))
	}
}

// Device shows a device.
func (c *Client) Device(ctx context.Context, id identity.Device) (operator.Device, error) {
	return get[operator.Device](ctx, c, "/v1/devices/"+url.PathEscape(string(id)))
}

// Act revokes, quarantines or restores a device.
func (c *Client) Act(ctx context.Context, id identity.Device, verb, reason string) (operator.Device, error) {
	var out operator.Device
	path := "/v1/devices/" + url.PathEscape(string(id)) + "/" + verb
	return out, c.call(ctx, http.MethodPost, path, operator.Act{Reason: reason}, &out)
}

// Pending lists devices that wait for a decision.
func (c *Client) Pending(ctx context.Context) ([]operator.Pending, error) {
	return get[[]operator.Pending](ctx, c, "/v1/pending")
}

// Accept admits a waiting device.
func (c *Client) Accept(ctx context.Context, id string, a operator.Accept) error {
	return c.call(ctx, http.MethodPost, "/v1/pending/"+url.PathEscape(id)+"/accept", a, nil)
}

// Refuse refuses a waiting device.
func (c *Client) Refuse(ctx context.Context, id, reason string) error {
	return c.call(ctx, http.MethodPost, "/v1/pending/"+url.PathEscape(id)+"/refuse", operator.Act{Reason: reason}, nil)
}

// References lists a group's Reference Values.
func (c *Client) References(ctx context.Context, g identity.Group) ([]operator.Reference, error) {
	return get[[]operator.Reference](ctx, c, "/v1/references?group="+url.QueryEscape(string(g)))
}

// AddReference adds a Reference Value.
func (c *Client) AddReference(ctx context.Context, r operator.Reference) error {
	return c.call(ctx, http.MethodPost, "/v1/references", r, nil)
}

// RemoveReference removes a Reference Value.
func (c *Client) RemoveReference(ctx context.Context, g identity.Group, d identity.Digest) error {
	return c.call(ctx, http.MethodDelete, "/v1/references/"+url.PathEscape(string(g))+"/"+d.String(), nil, nil)
}

// Ledger reads at most limit records of the ledger from sequence number from.
func (c *Client) Ledger(ctx context.Context, from int64, limit int) ([]ledger.Record, error) {
	return get[[]ledger.Record](ctx, c, "/v1/ledger?from="+strconv.FormatInt(from, 10)+"&limit="+strconv.Itoa(limit))
}

// LedgerHead shows the ledger's signed head.
func (c *Client) LedgerHead(ctx context.Context) (ledger.Head, error) {
	return get[ledger.Head](ctx, c, "/v1/ledger/head")
}

// Events calls each for stored messages, oldest first; following, until ctx
// ends; that the hub stops is an error then. A caller that lost the connection goes on after the last Event's ID.
func (c *Client) Events(ctx context.Context, want operator.EventQuery, each func(operator.Event) error) error {
	q := url.Values{}
	set(q, "device", string(want.Device))
	set(q, "kind", want.Kind)
	set(q, "after", want.After)
	if !want.Since.IsZero() {
		q.Set("since", want.Since.UTC().Format(time.RFC3339Nano))
	}
	if want.Follow {
		q.Set("follow", "true")
	}
	resp, err := c.do(ctx, http.MethodGet, "/v1/events?"+q.Encode(), http.Header{}, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var e operator.Event
		if err := dec.Decode(&e); err == io.EOF && want.Follow {
			return fault.New(fault.Unavailable, "the hub stopped")
		} else if err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		if err := each(e); err != nil {
			return err
		}
	}
}

func set(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	var out T
	return out, c.call(ctx, http.MethodGet, path, nil, &out)
}

// call sends in as JSON and reads the answer into out; either may be nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	return c.callWith(ctx, method, path, http.Header{}, in, out)
}

// callWith is call with further headers.
func (c *Client) callWith(ctx context.Context, method, path string, header http.Header, in, out any) error {
	resp, err := c.do(ctx, method, path, header, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("answer of %s %s: %w", method, path, err)
	}
	return nil
}

// do sends a request and returns the answer when it is a success; the caller
// closes its body. An act that takes a fresh proof of the certificate's key gets
// one, on a new connection.
func (c *Client) do(ctx context.Context, method, path string, header http.Header, in any) (*http.Response, error) {
	resp, err := c.once(ctx, method, path, header, in)
	if errors.Is(err, operator.ErrStepUp) && c.cfg.Token == "" {
		c.cfg.HTTP.CloseIdleConnections() // a new one proves anew who holds the certificate's key
		return c.once(ctx, method, path, header, in)
	}
	return resp, err
}

func (c *Client) once(ctx context.Context, method, path string, header http.Header, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.cfg.URL+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	req.Header = header
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.send(req)
}

// send sends a request in the name of who asks and returns the answer when it is
// a success.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "reach the hub: %w", err)
	}
	if err := c.seeHead(resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, problem(resp)
	}
	return resp, nil
}

// seeHead hands the answer's ledger head to whoever keeps heads.
func (c *Client) seeHead(resp *http.Response) error {
	text := resp.Header.Get(operator.HeadHeader)
	if c.cfg.Head == nil || text == "" {
		return nil
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return fault.New(fault.Integrity, "ledger head of the answer: %w", err)
	}
	var h ledger.Head
	if err := json.Unmarshal(b, &h); err != nil {
		return fault.New(fault.Integrity, "ledger head of the answer: %w", err)
	}
	return c.cfg.Head(h)
}

// problem reads an RFC 9457 problem into an error of its kind.
func problem(resp *http.Response) error {
	var p struct {
		Type   string `json:"type"`
		Detail string `json:"detail"`
		Errors []struct {
			Message  string `json:"message"`
			Location string `json:"location"`
		} `json:"errors"`
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if json.Unmarshal(b, &p) != nil || p.Detail == "" {
		p.Detail = resp.Status
	}
	for _, e := range p.Errors {
		p.Detail += "; " + strings.TrimSpace(e.Location+" "+e.Message)
	}
	if p.Type == operator.StepUpProblem {
		return fault.New(fault.Denied, "%w", operator.ErrStepUp)
	}
	k := kind(resp.StatusCode)
	if k == fault.Integrity && len(p.Errors) > 0 {
		k = fault.Invalid // with this status the API's own check of a request lists what is wrong with it
	}
	return fault.New(k, "%s", p.Detail)
}

// kind is the reverse of the hub's mapping from kinds to statuses.
func kind(status int) fault.Kind {
	switch status {
	case http.StatusForbidden, http.StatusUnauthorized:
		return fault.Denied
	case http.StatusNotFound:
		return fault.NotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return fault.Conflict
	case http.StatusUnprocessableEntity:
		return fault.Integrity
	case http.StatusServiceUnavailable:
		return fault.Unavailable
	}
	if status >= 400 && status < 500 {
		return fault.Invalid
	}
	return fault.Internal
}
