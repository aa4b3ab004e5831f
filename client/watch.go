package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

// Group shows a group.
func (c *Client) Group(ctx context.Context, id identity.Group) (operator.Group, error) {
	return get[operator.Group](ctx, c, "/v1/groups/"+url.PathEscape(string(id)))
}

// Policies lists the built-in policies.
func (c *Client) Policies(ctx context.Context) ([]posture.Policy, error) {
	return get[[]posture.Policy](ctx, c, "/v1/policies")
}

// Measures lists the measures that the hub knows.
func (c *Client) Measures(ctx context.Context) ([]measure.Measure, error) {
	return get[[]measure.Measure](ctx, c, "/v1/measures")
}

// RevokeDevices revokes many devices. What it answers says which are not
// revoked by it.
func (c *Client) RevokeDevices(ctx context.Context, in operator.RevokeDevices) (operator.RevokedDevices, error) {
	var out operator.RevokedDevices
	return out, c.call(ctx, http.MethodPost, "/v1/devices/revoke", in, &out)
}

// SearchLedger reads the records that q selects.
func (c *Client) SearchLedger(ctx context.Context, q operator.LedgerQuery) ([]ledger.Record, error) {
	v := url.Values{}
	setInt(v, "from", q.From)
	setInt(v, "limit", int64(q.Limit))
	set(v, "device", string(q.Device))
	set(v, "kind", q.Kind)
	if q.Newest {
		v.Set("newest", "true")
	}
	return get[[]ledger.Record](ctx, c, "/v1/ledger?"+v.Encode())
}

func setInt(q url.Values, key string, value int64) {
	if value != 0 {
		q.Set(key, strconv.FormatInt(value, 10))
	}
}
