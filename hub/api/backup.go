package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/operator"
)

// registerBackup serves a backup of the whole hub.
func (a *api) registerBackup(h huma.API) {
	o := op("back-up-hub", http.MethodPost, "/v1/backup", "Back up the hub")
	o.Responses = map[string]*huma.Response{"200": {
		Description: "An archive (tar, zstd). It is whole when its sealed end is there: 'holdfast hub restore' refuses all else.",
		Content:     map[string]*huma.MediaType{"application/zstd": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
	}}
	register(a, h, o, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			_, w := unwrap(hc)
			a.backUp(hc.Context(), w)
		}}, nil
	})
}

// backUp writes a backup. One that fails on its way ends the connection, so that
// the client does not take a part for the whole.
func (a *api) backUp(ctx context.Context, w http.ResponseWriter) {
	out := &attachment{to: w, control: http.NewResponseController(w)}
	switch err := a.Backup(ctx, operator.From(ctx).Name, out); {
	case err != nil && !out.begun:
		a.problem(ctx, w, err)
	case err != nil:
		if !errors.Is(err, context.Canceled) {
			a.Log.ErrorContext(ctx, "back up", "err", err)
		}
		panic(http.ErrAbortHandler)
	}
}

// attachment is an answer that begins with its first byte, and whose reader may
// take long over all but not over any part.
type attachment struct {
	to      http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (o *attachment) Write(b []byte) (int, error) {
	if !o.begun {
		o.begun = true
		o.to.Header().Set("Content-Type", "application/zstd")
		o.to.Header().Set("Content-Disposition", `attachment; filename="holdfast.backup"`)
	}
	_ = o.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // where it cannot be set there is none
	return o.to.Write(b)
}
