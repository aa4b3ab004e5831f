package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/operator"
)

func (a *api) registerPending(h huma.API) {
	serve(a, h, op("list-pending", http.MethodGet, "/v1/pending", "List devices that wait for a decision"),
		func(ctx context.Context, _ *struct{}) ([]operator.Pending, error) { return a.Arrivals.Pending(ctx) })
	type accept struct {
		ID   string `path:"id" doc:"id of the request"`
		Body operator.Accept
	}
	act(a, h, op("accept-pending", http.MethodPost, "/v1/pending/{id}/accept", "Admit a waiting device"),
		func(ctx context.Context, in *accept) error {
			return a.Arrivals.Accept(ctx, operator.From(ctx).Name, in.ID, in.Body)
		})
	type refuse struct {
		ID   string `path:"id" doc:"id of the request"`
		Body operator.Act
	}
	act(a, h, op("refuse-pending", http.MethodPost, "/v1/pending/{id}/refuse", "Refuse a waiting device"),
		func(ctx context.Context, in *refuse) error {
			return a.Arrivals.Refuse(ctx, operator.From(ctx).Name, in.ID, in.Body.Reason)
		})
}
