package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"holdfast/identity"
	"holdfast/operator"
)

// StartRollout begins a rollout.
func (c *Client) StartRollout(ctx context.Context, in operator.StartRollout) (operator.Rollout, error) {
	var out operator.Rollout
	return out, c.call(ctx, http.MethodPost, "/v1/rollouts", in, &out)
}

// Rollouts returns rollouts, the newest first. q.Groups counts for nothing: the
// hub knows what whoever asks may see.
func (c *Client) Rollouts(ctx context.Context, q operator.RolloutQuery) ([]operator.Rollout, error) {
	v := url.Values{}
	set(v, "product", string(q.Product))
	set(v, "stage", q.Stage)
	set(v, "group", string(q.Group))
	set(v, "after", q.After)
	setInt(v, "limit", int64(q.Limit))
	if q.Live {
		v.Set("live", "true")
	}
	return get[[]operator.Rollout](ctx, c, "/v1/rollouts?"+v.Encode())
}

func rolloutPath(id string) string { return "/v1/rollouts/" + url.PathEscape(id) }

// Rollout shows a rollout.
func (c *Client) Rollout(ctx context.Context, id string) (operator.Rollout, error) {
	return get[operator.Rollout](ctx, c, rolloutPath(id))
}

// ActOnRollout pauses, resumes, halts or retries a rollout; with an etag only if
// it has that one (fault.Conflict otherwise).
func (c *Client) ActOnRollout(ctx context.Context, id, verb string, in operator.RolloutAct, etag string) (operator.Rollout, error) {
	var out operator.Rollout
	header := http.Header{}
	if etag != "" {
		header.Set("If-Match", strconv.Quote(etag))
	}
	return out, c.callWith(ctx, http.MethodPost, rolloutPath(id)+"/"+url.PathEscape(verb), header, in, &out)
}

// maxRolloutDevices is how many devices of a rollout the hub answers at a time.
const maxRolloutDevices = 1000

// RolloutDevices lists devices of a rollout by id, in a state or in any; at most
// so many, 0: all.
func (c *Client) RolloutDevices(ctx context.Context, id, state string, most int) ([]operator.RolloutDevice, error) {
	all, after := []operator.RolloutDevice{}, identity.Device("")
	for {
		n := maxRolloutDevices
		if most > 0 {
			n = min(n, most-len(all))
		}
		v := url.Values{"limit": {strconv.Itoa(n)}}
		set(v, "state", state)
		set(v, "after", string(after))
		page, err := get[[]operator.RolloutDevice](ctx, c, rolloutPath(id)+"/devices?"+v.Encode())
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < n || len(all) == most {
			return all, nil
		}
		after = page[len(page)-1].Device
	}
}
