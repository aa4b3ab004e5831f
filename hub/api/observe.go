package api

import (
	"cmp"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// observe tells Config.Began of an operation and how it ended. It stands in
// front of authorise, which answers past huma and leaves no status.
func (a *api) observe(hc huma.Context, next func(huma.Context)) {
	if a.Began == nil {
		next(hc)
		return
	}
	r, _ := unwrap(hc)
	ctx, ended := a.Began(hc.Context(), hc.Operation().OperationID, r.Header)
	hc = huma.WithContext(hc, ctx)
	defer func() { ended(cmp.Or(hc.Status(), http.StatusForbidden)) }() // an answer that is cut off panics
	next(hc)
}
