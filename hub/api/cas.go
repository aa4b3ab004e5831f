package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/operator"
)

// endorsement is the kind of the authorities that say what a TPM is.
const endorsement = "endorsement"

func (a *api) registerCAs(h huma.API) {
	serve(a, h, op("list-cas", http.MethodGet, "/v1/cas", "List registered authorities"),
		func(ctx context.Context, _ *struct{}) ([]operator.CA, error) { return a.cas(ctx) })
	type add struct {
		Body operator.CA
	}
	serve(a, h, op("add-ca", http.MethodPost, "/v1/cas", "Register a maker's CA or an endorsement root"),
		func(ctx context.Context, in *add) (operator.CA, error) {
			if in.Body.Kind == endorsement {
				if err := a.may(ctx, "add-ca:endorsement"); err != nil {
					return operator.CA{}, err
				}
			}
			return a.CAs.AddCA(ctx, operator.From(ctx).Name, in.Body)
		})
	type verify struct {
		Name string `path:"name" doc:"name of the maker's CA"`
		Body operator.Proof
	}
	serve(a, h, op("verify-ca", http.MethodPost, "/v1/cas/{name}/verify", "Prove possession of a maker's CA's key, or ask for a new challenge"),
		func(ctx context.Context, in *verify) (operator.CA, error) {
			return a.CAs.VerifyCA(ctx, operator.From(ctx).Name, in.Name, in.Body)
		})
}

// cas are the authorities that concern whoever asks: all endorsement roots, and
// the makers' CAs that its groups list.
func (a *api) cas(ctx context.Context) ([]operator.CA, error) {
	cas, err := a.CAs.CAs(ctx)
	if err != nil || operator.From(ctx).Groups == nil {
		return cas, err
	}
	gs, err := a.groups(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(cas), func(ca operator.CA) bool {
		return ca.Kind != endorsement && !slices.ContainsFunc(gs, func(g operator.Group) bool { return slices.Contains(g.MakerCAs, ca.Name) })
	}), nil
}
