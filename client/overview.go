package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"holdfast/identity"
	"holdfast/operator"
)

// Fleet returns a page of the fleet. q.Groups counts for nothing: the hub knows
// what whoever asks may see.
func (c *Client) Fleet(ctx context.Context, q operator.FleetQuery) (operator.FleetPage, error) {
	v := url.Values{}
	for name, text := range map[string]string{"group": string(q.Group), "status": string(q.Status), "search": q.Search, "sort": q.Sort, "after": q.After} {
		if text != "" {
			v.Set(name, text)
		}
	}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return get[operator.FleetPage](ctx, c, "/v1/fleet?"+v.Encode())
}

// CheckPolicy asks what a policy would do, without setting it.
func (c *Client) CheckPolicy(ctx context.Context, in operator.PolicyCheck) (operator.PolicyEffect, error) {
	var out operator.PolicyEffect
	return out, c.call(ctx, http.MethodPost, "/v1/policies/check", in, &out)
}

// Certificates returns the certificates that a device was issued, the newest
// first.
func (c *Client) Certificates(ctx context.Context, id identity.Device) ([]operator.Issued, error) {
	return get[[]operator.Issued](ctx, c, "/v1/devices/"+url.PathEscape(string(id))+"/certificates")
}

// ChangeGroup reads a group, has change alter what it is set to, and sets it: a
// fault of kind Conflict when somebody else set it meanwhile. What change leaves
// alone stays as it is, the policy too.
func (c *Client) ChangeGroup(ctx context.Context, id identity.Group, change func(*operator.SetGroup)) (operator.Group, error) {
	path := "/v1/groups/" + url.PathEscape(string(id))
	resp, err := c.do(ctx, http.MethodGet, path, http.Header{}, nil)
	if err != nil {
		return operator.Group{}, err
	}
	defer resp.Body.Close()
	var g operator.Group
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&g); err != nil {
		return g, fmt.Errorf("answer of GET %s: %w", path, err)
	}
	set := operator.SetGroup{Simulation: g.Simulation, FileKeys: g.FileKeys, TLS12: g.TLS12, SelfSigned: g.SelfSigned, ThreadX: g.ThreadX,
		MakerCAs: g.MakerCAs, IDs: g.IDs, Limits: g.Limits}
	change(&set)
	header := http.Header{}
	header.Set("If-Match", resp.Header.Get("ETag"))
	var out operator.Group
	return out, c.callWith(ctx, http.MethodPut, path, header, set, &out)
}
