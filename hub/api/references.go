package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
)

func (a *api) registerReferences(h huma.API) {
	type list struct {
		Group identity.Group `query:"group" required:"true" doc:"the group"`
	}
	serve(a, h, op("list-references", http.MethodGet, "/v1/references", "List a group's Reference Values"),
		func(ctx context.Context, in *list) ([]operator.Reference, error) {
			return a.References.References(ctx, in.Group)
		})
	type add struct {
		Body operator.Reference
	}
	act(a, h, op("add-reference", http.MethodPost, "/v1/references", "Add a Reference Value"),
		func(ctx context.Context, in *add) error {
			return a.References.AddReference(ctx, operator.From(ctx).Name, in.Body)
		})
	type remove struct {
		Group  identity.Group `path:"group" doc:"the group"`
		Digest string         `path:"digest" pattern:"^[0-9a-fA-F]{64}$" doc:"the digest, hexadecimal"`
	}
	act(a, h, op("remove-reference", http.MethodDelete, "/v1/references/{group}/{digest}", "Remove a Reference Value"),
		func(ctx context.Context, in *remove) error {
			d, err := identity.ParseDigest(in.Digest)
			if err != nil {
				return fault.New(fault.Invalid, "%w", err)
			}
			return a.References.RemoveReference(ctx, operator.From(ctx).Name, in.Group, d)
		})
}
