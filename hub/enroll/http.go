package enroll

import (
	"context"
	"encoding/json/v2"
	"errors"
	"io"
	"net/http"

	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/internal/httpfault"
)

// MaxBody is the longest request body in bytes: an EK chain of six
// certificates in base64 fits.
const MaxBody = 96 << 10

// Handler serves POST /enroll/begin and POST /enroll/finish.
func (e *Enroller) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /enroll/begin", handle(e, func(ctx context.Context, req evidence.BeginRequest, remote string) (evidence.BeginResponse, error) {
		return e.Begin(ctx, req, remote)
	}))
	mux.Handle("POST /enroll/finish", handle(e, func(ctx context.Context, req evidence.FinishRequest, _ string) (evidence.Issued, error) {
		return e.Finish(ctx, req)
	}))
	return mux
}

// handle reads a request, has do answer it, and writes the answer or the error.
func handle[Req, Res any](e *Enroller, do func(context.Context, Req, string) (Res, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req Req
		err := read(w, r, &req)
		if err == nil {
			var res Res
			if res, err = do(r.Context(), req, r.RemoteAddr); err == nil {
				write(w, res)
				return
			}
		}
		httpfault.Write(w, e.cfg.Log, err, "path", r.URL.Path, "remote", r.RemoteAddr)
	})
}

// read decodes a body strictly: one value, no unknown or repeated member.
func read(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fault.New(fault.Invalid, "body is longer than %d bytes", tooLong.Limit)
	}
	if err != nil {
		return fault.Hide(fault.Invalid, "body was cut short", err)
	}
	if err := json.Unmarshal(b, v, json.RejectUnknownMembers(true)); err != nil {
		return fault.Hide(fault.Invalid, "body is not the JSON that is expected here", err)
	}
	return nil
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.MarshalWrite(w, v) // an error here is the peer's connection
}
