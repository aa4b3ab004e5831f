package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/identity"
	"holdfast/operator"
)

// Alerts returns alerts, the newest first. q.Groups counts for nothing: the hub
// knows what whoever asks may see.
func (c *Client) Alerts(ctx context.Context, q operator.AlertQuery) ([]operator.Alert, error) {
	v := url.Values{}
	set(v, "group", string(q.Group))
	set(v, "device", string(q.Device))
	set(v, "after", q.After)
	if q.Open {
		v.Set("open", "true")
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return get[[]operator.Alert](ctx, c, "/v1/alerts?"+v.Encode())
}

// Acknowledge says that somebody has seen an alert.
func (c *Client) Acknowledge(ctx context.Context, id string) (operator.Alert, error) {
	var out operator.Alert
	return out, c.call(ctx, http.MethodPost, "/v1/alerts/"+url.PathEscape(id)+"/acknowledge", nil, &out)
}

// Series returns quantities over time since then, in steps; no names: those of
// the console.
func (c *Client) Series(ctx context.Context, names []string, since time.Time, step time.Duration) ([]operator.Series, error) {
	v := url.Values{}
	set(v, "names", strings.Join(names, ","))
	if !since.IsZero() {
		v.Set("since", since.UTC().Format(time.RFC3339))
	}
	if step > 0 {
		v.Set("step", strconv.FormatInt(int64(step/time.Second), 10))
	}
	return get[[]operator.Series](ctx, c, "/v1/series?"+v.Encode())
}

// Sessions returns the sessions that a device had, the newest first.
func (c *Client) Sessions(ctx context.Context, id identity.Device, limit int) ([]operator.Session, error) {
	v := url.Values{}
	if limit > 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	return get[[]operator.Session](ctx, c, "/v1/devices/"+url.PathEscape(string(id))+"/sessions?"+v.Encode())
}
