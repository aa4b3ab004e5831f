package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"holdfast/fault"
	"holdfast/internal/httpfault"
	"holdfast/iothub"
	"holdfast/operator"
)

// op describes one operation and the statuses that it may answer with beyond
// those of all.
func op(id, method, path, summary string, status ...int) huma.Operation {
	o := huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{tag(path)},
		Errors: append(status, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
			http.StatusUnprocessableEntity, http.StatusInternalServerError, http.StatusServiceUnavailable)}
	if method != http.MethodGet {
		o.Errors = append(o.Errors, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	if method == http.MethodPost {
		o.DefaultStatus = http.StatusOK
		o.Parameters = []*huma.Param{{Name: againHeader, In: "header", Description: "a name for this request: sent once more within " +
			againFor.String() + ", it is answered as before and not done again", Schema: &huma.Schema{Type: huma.TypeString, MinLength: ptr(1), MaxLength: ptr(maxAgainKey)}}}
	}
	return o
}

// tag is the part of the API that a path is of.
func tag(path string) string { return strings.Split(strings.TrimPrefix(path, "/v1/"), "/")[0] }

func ptr[T any](v T) *T { return &v }

// answer is a body and nothing else.
type answer[T any] struct {
	Body T
}

// tagged is a body that has versions.
type tagged[T any] struct {
	ETag string `header:"ETag" doc:"changes with what If-Match asks about"`
	Body T
}

// serve adds an operation that answers with a body.
func serve[I, T any](a *api, h huma.API, o huma.Operation, do func(context.Context, *I) (T, error)) {
	register(a, h, o, func(ctx context.Context, in *I) (*answer[T], error) {
		v, err := do(ctx, in)
		if err != nil {
			return nil, err
		}
		if r := reflect.ValueOf(&v).Elem(); r.Kind() == reflect.Slice && r.IsNil() {
			r.Set(reflect.MakeSlice(r.Type(), 0, 0)) // a list of nothing, not nothing
		}
		return &answer[T]{v}, nil
	})
}

// act adds an operation that answers with nothing.
func act[I any](a *api, h huma.API, o huma.Operation, do func(context.Context, *I) error) {
	register(a, h, o, func(ctx context.Context, in *I) (*struct{}, error) { return nil, do(ctx, in) })
}

// register adds an operation. Rights were asked for before its input was read;
// here it is held to the groups of whoever asks.
func register[I, O any](a *api, h huma.API, o huma.Operation, do func(context.Context, *I) (*O, error)) {
	describeRight(&o, a.rights)
	names := namesIn(reflect.TypeFor[I]())
	makes := o.OperationID == "add-device" || o.OperationID == "add-enrollment"
	huma.Register(h, o, func(ctx context.Context, in *I) (*O, error) {
		if err := a.within(ctx, reflect.ValueOf(in).Elem(), names, makes); err != nil {
			return nil, a.refuse(ctx, err)
		}
		out, err := do(ctx, in)
		if err != nil {
			return nil, a.refuse(ctx, err)
		}
		return out, nil
	})
}

func unwrap(ctx huma.Context) (*http.Request, http.ResponseWriter) { return humago.Unwrap(ctx) }

// refuse maps an error to a status (RFC 9457 problem). The peer reads its
// public text; an internal error is logged and not told.
func (a *api) refuse(ctx context.Context, err error) huma.StatusError {
	if already, ok := errors.AsType[huma.StatusError](err); ok {
		return already
	}
	if fault.Of(err) == fault.Internal && ctx.Err() == nil { // who left has nothing to be told
		a.Log.ErrorContext(ctx, "request failed", "err", err)
	}
	if f, ok := errors.AsType[*iothub.Failure](err); ok {
		return huma.NewError(f.Code.Status(), fault.Public(err), &huma.ErrorDetail{Location: "code", Message: f.Code.String(), Value: int(f.Code)})
	}
	status := httpfault.Status(fault.Of(err))
	p := &huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: fault.Public(err)}
	if needsStepUp(err) {
		p.Type = operator.StepUpProblem
	}
	return p
}

// problem answers with err.
func (a *api) problem(ctx context.Context, w http.ResponseWriter, err error) {
	p := a.refuse(ctx, err)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.GetStatus())
	_ = json.NewEncoder(w).Encode(p) // who asked may be gone
}

// etag is the version of what v says.
func etag(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16]), nil
}

// quoted is an entity-tag as a header has it (RFC 9110 section 8.8.3).
func quoted(tag string) string { return `"` + tag + `"` }

// ifMatch reads an If-Match header: nothing, "*", or one strong entity-tag,
// which it returns without its quotes.
func ifMatch(header string) (string, error) {
	if header == "" || header == "*" {
		return header, nil
	}
	inner := strings.TrimSuffix(strings.TrimPrefix(header, `"`), `"`)
	if len(header) < 2 || quoted(inner) != header || strings.ContainsAny(inner, `",`) {
		return "", fault.New(fault.Invalid, `If-Match: want one entity-tag in quotes, or "*"`)
	}
	return inner, nil
}

// stale refuses a change of what has changed since.
func stale(what string) error {
	return huma.Error412PreconditionFailed(what + " has another ETag: somebody changed it")
}
