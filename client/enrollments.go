package client

import (
	"context"
	"net/http"
	"net/url"

	"holdfast/operator"
)

// Enrollments lists enrolments of a kind, or of both when it is empty.
func (c *Client) Enrollments(ctx context.Context, kind string) ([]operator.Enrollment, error) {
	q := url.Values{}
	set(q, "kind", kind)
	return get[[]operator.Enrollment](ctx, c, "/v1/enrollments?"+q.Encode())
}

// AddEnrollment adds an enrolment.
func (c *Client) AddEnrollment(ctx context.Context, e operator.Enrollment) (operator.Enrollment, error) {
	var out operator.Enrollment
	return out, c.call(ctx, http.MethodPost, "/v1/enrollments", e, &out)
}

func enrollmentPath(kind, id string) string {
	return "/v1/enrollments/" + url.PathEscape(kind) + "/" + url.PathEscape(id)
}

// Enrollment shows an enrolment.
func (c *Client) Enrollment(ctx context.Context, kind, id string) (operator.Enrollment, error) {
	return get[operator.Enrollment](ctx, c, enrollmentPath(kind, id))
}

// RemoveEnrollment removes an enrolment; its devices stay.
func (c *Client) RemoveEnrollment(ctx context.Context, kind, id string) error {
	return c.call(ctx, http.MethodDelete, enrollmentPath(kind, id), nil, nil)
}

// DisableEnrollment refuses the devices of an enrolment, or takes them again.
func (c *Client) DisableEnrollment(ctx context.Context, kind, id string, disabled bool) (operator.Enrollment, error) {
	verb := "/enable"
	if disabled {
		verb = "/disable"
	}
	var out operator.Enrollment
	return out, c.call(ctx, http.MethodPost, enrollmentPath(kind, id)+verb, nil, &out)
}

// VerifyCA proves possession of a maker's CA's key, or asks for a new challenge
// where the proof is empty.
func (c *Client) VerifyCA(ctx context.Context, name string, p operator.Proof) (operator.CA, error) {
	var out operator.CA
	return out, c.call(ctx, http.MethodPost, "/v1/cas/"+url.PathEscape(name)+"/verify", p, &out)
}
