package client

import (
	"context"
	"net/http"
	"net/url"

	"holdfast/identity"
	"holdfast/operator"
)

func devicePath(id identity.Device) string { return "/v1/devices/" + url.PathEscape(string(id)) }

// Twin shows a device's twin.
func (c *Client) Twin(ctx context.Context, id identity.Device) (operator.Twin, error) {
	return get[operator.Twin](ctx, c, devicePath(id)+"/twin")
}

// MergeTwin merges into a device's tags and desired properties; with an etag
// only if the twin has that one (fault.Conflict otherwise).
func (c *Client) MergeTwin(ctx context.Context, id identity.Device, t operator.SetTwin, etag string) (operator.Twin, error) {
	return c.setTwin(ctx, http.MethodPatch, id, t, etag)
}

// ReplaceTwin puts tags or desired properties in place of a device's; with an
// etag only if the twin has that one (fault.Conflict otherwise).
func (c *Client) ReplaceTwin(ctx context.Context, id identity.Device, t operator.SetTwin, etag string) (operator.Twin, error) {
	return c.setTwin(ctx, http.MethodPut, id, t, etag)
}

func (c *Client) setTwin(ctx context.Context, method string, id identity.Device, t operator.SetTwin, etag string) (operator.Twin, error) {
	var out operator.Twin
	header := http.Header{}
	if etag != "" {
		header.Set("If-Match", `"`+etag+`"`)
	}
	return out, c.callWith(ctx, method, devicePath(id)+"/twin", header, t, &out)
}

// CallMethod calls a method on a device and waits for its answer.
func (c *Client) CallMethod(ctx context.Context, id identity.Device, method string, in operator.CallMethod) (operator.MethodResult, error) {
	var out operator.MethodResult
	return out, c.call(ctx, http.MethodPost, devicePath(id)+"/methods/"+url.PathEscape(method), in, &out)
}

// SendMessage queues a message to a device.
func (c *Client) SendMessage(ctx context.Context, id identity.Device, m operator.SendMessage) (operator.Message, error) {
	var out operator.Message
	return out, c.call(ctx, http.MethodPost, devicePath(id)+"/messages", m, &out)
}

// Messages lists what waits for a device.
func (c *Client) Messages(ctx context.Context, id identity.Device) ([]operator.Message, error) {
	return get[[]operator.Message](ctx, c, devicePath(id)+"/messages")
}

// PurgeMessages takes out all that waits for a device.
func (c *Client) PurgeMessages(ctx context.Context, id identity.Device) (operator.Purged, error) {
	var out operator.Purged
	return out, c.call(ctx, http.MethodDelete, devicePath(id)+"/messages", nil, &out)
}
