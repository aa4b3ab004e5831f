// Package api is the hub's operator API: JSON over HTTPS, for the command line,
// machines and the console. OpenAPI is generated from this code and served at
// /openapi.json. Who may ask is settled before a request gets here, by the
// operator certificate of the TLS session; every answer carries the ledger's
// signed head (operator.HeadHeader).
package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/httpfault"
	"holdfast/iothub"
	"holdfast/ledger"
	"holdfast/operator"
)

// maxBody bounds a request body in bytes: the largest is a policy or a CA.
const maxBody = 1 << 20

// Groups keeps device groups.
type Groups interface {
	SetGroup(ctx context.Context, by string, id identity.Group, g operator.SetGroup) (operator.Group, error)
	Groups(ctx context.Context) ([]operator.Group, error)
}

// CAs keeps registered authorities.
type CAs interface {
	AddCA(ctx context.Context, by string, ca operator.CA) (operator.CA, error)
	CAs(ctx context.Context) ([]operator.CA, error)
	VerifyCA(ctx context.Context, by, name string, p operator.Proof) (operator.CA, error)
}

// Devices keeps the registry and acts on devices.
type Devices interface {
	AddDevice(ctx context.Context, by string, d operator.AddDevice) (operator.AddedDevice, error)
	Devices(ctx context.Context, f Filter) ([]operator.Device, error)
	Device(ctx context.Context, id identity.Device) (operator.Device, error)
	Act(ctx context.Context, by string, id identity.Device, verb, reason string) (operator.Device, error)
}

// Filter selects devices; empty fields select all.
type Filter struct {
	Group  identity.Group
	Status string
}

// Arrivals keeps devices that nothing admits.
type Arrivals interface {
	Pending(ctx context.Context) ([]operator.Pending, error)
	Accept(ctx context.Context, by, id string, a operator.Accept) error
	Refuse(ctx context.Context, by, id, reason string) error
}

// References keeps Reference Values.
type References interface {
	AddReference(ctx context.Context, by string, r operator.Reference) error
	References(ctx context.Context, g identity.Group) ([]operator.Reference, error)
	RemoveReference(ctx context.Context, by string, g identity.Group, d identity.Digest) error
}

// Events reads stored messages, oldest first, each with its place in the stream.
type Events interface {
	// Check refuses a query that cannot be answered: fault.Invalid, or
	// fault.NotFound where some of what would follow After has been dropped.
	Check(ctx context.Context, q operator.EventQuery) error
	Read(ctx context.Context, q operator.EventQuery, each func(id string, m iothub.Message) error) error
}

// Ledger reads the ledger.
type Ledger interface {
	Records(ctx context.Context, from int64, limit int) ([]ledger.Record, error)
	Head(ctx context.Context) (ledger.Head, error)
}

// Config has what the API serves from. What may be nil says so.
type Config struct {
	Version     string
	Hub         func(context.Context) (operator.Hub, error)
	Groups      Groups
	CAs         CAs
	Devices     Devices
	Arrivals    Arrivals
	References  References
	Twins       Twins
	Methods     Methods
	Messages    Messages
	Enrollments Enrollments
	Events      Events
	Ledger      Ledger
	Log         *slog.Logger

	// Of these each may be nil: what it is for is refused as unavailable.
	Accounts       Accounts
	Logins         Logins
	Tokens         Tokens
	Certifier      Certifier
	Overview       Overview
	History        History
	SessionHistory SessionHistory
	Alerts         Alerts
	Series         Series

	// Still asks again whether whoever asks may go on: an answer that goes on and
	// on ends when it returns an error. Nil: always.
	Still func(context.Context) error
}

// api joins the handlers to what they serve from.
type api struct {
	Config
}

// New returns the API's handler.
func New(cfg Config) http.Handler {
	mux := http.NewServeMux()
	a := &api{cfg.whole()}
	a.register(humago.New(mux, Describe(cfg.Version)))
	return a.withHead(http.MaxBytesHandler(mux, maxBody))
}

// Describe returns the API's OpenAPI configuration. Unknown members of bodies
// and unknown query parameters are errors; there is no page that would load
// anything from elsewhere.
func Describe(version string) huma.Config {
	c := huma.DefaultConfig("Holdfast operator API", version)
	c.DocsPath, c.SchemasPath, c.CreateHooks = "", "", nil
	c.RejectUnknownQueryParameters = true
	c.Info.Description = "Devices, groups, policies and evidence of one hub. Authentication is by operator certificate."
	return c
}

// OpenAPI returns the description of the API as JSON.
func OpenAPI(version string) ([]byte, error) {
	mux := http.NewServeMux()
	h := humago.New(mux, Describe(version))
	(&api{}).register(h)
	return json.MarshalIndent(h.OpenAPI(), "", "  ")
}

// withHead puts the ledger's signed head in every answer, so that whoever
// keeps heads finds a ledger that was rewritten or shortened since.
func (a *api) withHead(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head, err := a.Ledger.Head(r.Context())
		if err == nil {
			var b []byte
			if b, err = json.Marshal(head); err == nil {
				w.Header().Set(operator.HeadHeader, base64.StdEncoding.EncodeToString(b))
			}
		}
		if err != nil {
			a.Log.ErrorContext(r.Context(), "read ledger head", "err", err)
		}
		next.ServeHTTP(w, r)
	})
}

// by names the operator whose certificate the request came with.
type by struct {
	actor string
}

// Resolve reads the operator's name from the TLS session.
func (b *by) Resolve(ctx huma.Context) []error {
	if t := ctx.TLS(); t != nil && len(t.PeerCertificates) > 0 {
		b.actor = t.PeerCertificates[0].Subject.CommonName
	}
	return nil
}

// answer is a body and nothing else.
type answer[T any] struct {
	Body T
}

// reply makes an answer, or turns err into the form that the API promises.
func reply[T any](a *api, body T, err error) (*answer[T], error) {
	if err != nil {
		return nil, a.refuse(err)
	}
	return &answer[T]{Body: body}, nil
}

// refuse maps an error to a status (RFC 9457 problem). The peer reads its
// public text; an internal error is logged and not told.
func (a *api) refuse(err error) error {
	var already huma.StatusError
	if errors.As(err, &already) {
		return err
	}
	if fault.Of(err) == fault.Internal {
		a.Log.Error("request failed", "err", err)
	}
	if f, ok := errors.AsType[*iothub.Failure](err); ok {
		return huma.NewError(f.Code.Status(), fault.Public(err), &huma.ErrorDetail{Location: "code", Message: f.Code.String(), Value: int(f.Code)})
	}
	return huma.NewError(httpfault.Status(fault.Of(err)), fault.Public(err))
}
