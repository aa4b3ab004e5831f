package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/fault"
	"holdfast/finding"
	"holdfast/identity"
	"holdfast/operator"
)

// Auditors keeps the keys of auditors and what they have signed.
type Auditors interface {
	List(ctx context.Context) ([]operator.Auditor, error)
	AddAuditor(ctx context.Context, by string, a operator.Auditor) (operator.Auditor, error)
	RemoveAuditor(ctx context.Context, by, name string) error
	// Audits returns statements, the newest first; those about an image where
	// measured is not zero.
	Audits(ctx context.Context, measured identity.Digest) ([]operator.Audit, error)
	Audit(ctx context.Context, id identity.Digest) (operator.Audit, error)
	AddAudit(ctx context.Context, by string, envelope []byte) (operator.Audit, error)
	RemoveAudit(ctx context.Context, by string, id identity.Digest) error
}

// auditRow is how a row of a statement is described: rows of postures have the
// name.
type auditRow finding.Row

const auditsPath = "/v1/audits"

// maxAudit bounds a statement in a request in bytes: base64 of the longest.
const maxAudit = 6 << 20

// auditID is a statement in a path.
type auditID struct {
	ID string `path:"id" pattern:"^[0-9a-fA-F]{64}$" doc:"SHA-256 of the envelope, hexadecimal"`
}

func (a auditID) digest() (identity.Digest, error) {
	d, err := identity.ParseDigest(a.ID)
	if err != nil {
		return d, fault.New(fault.Invalid, "%w", err)
	}
	return d, nil
}

func (a *api) registerAuditors(h huma.API) {
	serve(a, h, op("list-auditors", http.MethodGet, "/v1/auditors", "List the auditors whose statements count"),
		func(ctx context.Context, _ *struct{}) ([]operator.Auditor, error) { return a.Auditors.List(ctx) })
	type add struct {
		Body operator.Auditor
	}
	serve(a, h, op("add-auditor", http.MethodPost, "/v1/auditors", "Register an auditor's key"),
		func(ctx context.Context, in *add) (operator.Auditor, error) {
			return a.Auditors.AddAuditor(ctx, operator.From(ctx).Name, in.Body)
		})
	type remove struct {
		Name string `path:"name" doc:"name of the auditor"`
	}
	act(a, h, op("remove-auditor", http.MethodDelete, "/v1/auditors/{name}", "Remove an auditor: its statements count no more"),
		func(ctx context.Context, in *remove) error {
			return a.Auditors.RemoveAuditor(ctx, operator.From(ctx).Name, in.Name)
		})
	a.registerAudits(h)
}

func (a *api) registerAudits(h huma.API) {
	type list struct {
		Measured string `query:"measured" pattern:"^[0-9a-fA-F]{64}$" doc:"only those about the image that a device measures so, SHA-256"`
	}
	serve(a, h, op("list-audits", http.MethodGet, auditsPath, "List auditors' statements, the newest first"),
		func(ctx context.Context, in *list) ([]operator.Audit, error) {
			if in.Measured == "" {
				return a.Auditors.Audits(ctx, identity.Digest{})
			}
			d, err := auditID{in.Measured}.digest()
			if err != nil {
				return nil, err
			}
			return a.Auditors.Audits(ctx, d)
		})
	serve(a, h, op("show-audit", http.MethodGet, auditsPath+"/{id}", "Show an auditor's statement"),
		func(ctx context.Context, in *auditID) (operator.Audit, error) {
			d, err := in.digest()
			if err != nil {
				return operator.Audit{}, err
			}
			return a.Auditors.Audit(ctx, d)
		})
	type add struct {
		Body operator.AddAudit
	}
	o := op("add-audit", http.MethodPost, auditsPath, "Add an auditor's statement about an image")
	o.MaxBodyBytes = maxAudit
	serve(a, h, o, func(ctx context.Context, in *add) (operator.Audit, error) {
		return a.Auditors.AddAudit(ctx, operator.From(ctx).Name, in.Body.Envelope)
	})
	act(a, h, op("remove-audit", http.MethodDelete, auditsPath+"/{id}", "Remove a statement that an operator added"),
		func(ctx context.Context, in *auditID) error {
			d, err := in.digest()
			if err != nil {
				return err
			}
			return a.Auditors.RemoveAudit(ctx, operator.From(ctx).Name, d)
		})
}
