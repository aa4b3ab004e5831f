package client

import (
	"context"
	"net/http"
	"net/url"

	"holdfast/identity"
	"holdfast/operator"
)

// Auditors lists the auditors whose statements count.
func (c *Client) Auditors(ctx context.Context) ([]operator.Auditor, error) {
	return get[[]operator.Auditor](ctx, c, "/v1/auditors")
}

// AddAuditor registers an auditor's key.
func (c *Client) AddAuditor(ctx context.Context, a operator.Auditor) (operator.Auditor, error) {
	var out operator.Auditor
	return out, c.call(ctx, http.MethodPost, "/v1/auditors", a, &out)
}

// RemoveAuditor removes an auditor: its statements count no more.
func (c *Client) RemoveAuditor(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/v1/auditors/"+url.PathEscape(name), nil, nil)
}

// Audits lists statements, the newest first; those about an image where measured
// is not zero.
func (c *Client) Audits(ctx context.Context, measured identity.Digest) ([]operator.Audit, error) {
	path := "/v1/audits"
	if measured != (identity.Digest{}) {
		path += "?measured=" + measured.String()
	}
	return get[[]operator.Audit](ctx, c, path)
}

// Audit shows a statement.
func (c *Client) Audit(ctx context.Context, id identity.Digest) (operator.Audit, error) {
	return get[operator.Audit](ctx, c, "/v1/audits/"+id.String())
}

// AddAudit gives the hub a statement: a DSSE envelope.
func (c *Client) AddAudit(ctx context.Context, envelope []byte) (operator.Audit, error) {
	var out operator.Audit
	return out, c.call(ctx, http.MethodPost, "/v1/audits", operator.AddAudit{Envelope: envelope}, &out)
}

// RemoveAudit removes a statement that an operator added.
func (c *Client) RemoveAudit(ctx context.Context, id identity.Digest) error {
	return c.call(ctx, http.MethodDelete, "/v1/audits/"+id.String(), nil, nil)
}
