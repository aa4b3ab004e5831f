// Package api is the hub's operator API: JSON over HTTPS, for the command line,
// machines and the console. OpenAPI is generated from this code and served at
// /openapi.json, and as a page at /docs. Who asks is settled before a request
// gets here and comes in its context (operator.From); what that one may do is
// settled here, by the table Rights and by the groups that it is for. Every
// answer carries the ledger's signed head (operator.HeadHeader).
package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	jsonv2 "encoding/json/v2"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"holdfast/finding"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/ledger"
	"holdfast/operator"
	"holdfast/posture"
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
	// DeviceGroup returns the group that a device is in, or a fault of kind NotFound.
	DeviceGroup(ctx context.Context, id identity.Device) (identity.Group, error)
	Act(ctx context.Context, by string, id identity.Device, verb, reason string) (operator.Device, error)
}

// Filter selects devices; empty fields select all.
type Filter struct {
	Group  identity.Group
	Status posture.Status
	Groups []identity.Group // what is seen at all; nil: nothing is hidden
	After  identity.Device  // only those that come after it
	Limit  int              // at most so many, by id
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
	Records(ctx context.Context, q operator.LedgerQuery) ([]ledger.Record, error)
	Head(ctx context.Context) (ledger.Head, error)
}

// Config has what the API serves from. All fields but Began are required.
type Config struct {
	Version        string
	Hub            func(context.Context) (operator.Hub, error)
	Groups         Groups
	CAs            CAs
	Devices        Devices
	Arrivals       Arrivals
	References     References
	Auditors       Auditors
	Twins          Twins
	Methods        Methods
	Messages       Messages
	Enrollments    Enrollments
	Events         Events
	Ledger         Ledger
	Accounts       Accounts
	Logins         Logins
	Tokens         Tokens
	Certifier      Certifier
	Overview       Overview
	History        History
	SessionHistory SessionHistory
	Alerts         Alerts
	Series         Series
	Rollouts       Rollouts
	Repository     Repository
	Backup         func(ctx context.Context, by string, w io.Writer) error
	Log            *slog.Logger

	// Began is told of each operation that somebody asks for, and returns the
	// context that it is done in and who is told of the HTTP status that it ended
	// with. Nil: nobody.
	Began func(ctx context.Context, operation string, header http.Header) (context.Context, func(status int))
}

// api joins the handlers to what they serve from.
type api struct {
	Config
	rights  map[string]operator.Right
	setting sync.Mutex // one at a time compares a group with an ETag and sets it
	again   *memory
}

// New returns the API's handler.
func New(cfg Config) http.Handler {
	a := &api{Config: cfg, rights: Rights(), again: newMemory()}
	mux := http.NewServeMux()
	h := humago.New(mux, Describe(cfg.Version))
	a.register(h)
	a.describe(mux, h.OpenAPI())
	return a.withHead(a.known(Bounded(a.once(mux))))
}

// Describe returns the API's OpenAPI configuration. Unknown members of bodies
// and unknown query parameters are errors; there is no page that would load
// anything from elsewhere.
func Describe(version string) huma.Config {
	c := huma.DefaultConfig("Holdfast operator API", version)
	c.OpenAPIPath, c.DocsPath, c.SchemasPath, c.CreateHooks = "", "", "", nil
	c.RejectUnknownQueryParameters = true
	c.Formats = map[string]huma.Format{"application/json": {Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: strictly}}
	c.Formats["json"] = c.Formats["application/json"] // of media types that end with it
	c.Info.Description = "Devices, groups, policies and evidence of one hub. Errors are problems (RFC 9457); one of type " + operator.StepUpProblem +
		" means that a fresh proof of who asks is all that is missing. Every operation says which role it takes (x-right); who is limited to groups sees and touches only what is theirs."
	c.Components.Schemas.RegisterTypeAlias(deviceType, reflect.TypeFor[deviceID]())
	c.Components.Schemas.RegisterTypeAlias(groupType, reflect.TypeFor[groupName]())
	c.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[identity.Digest](), reflect.TypeFor[digest]())
	aliasReleases(c.Components.Schemas)
	c.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[finding.Row](), reflect.TypeFor[auditRow]())
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		byCertificate: {Type: "mutualTLS", Description: "an operator certificate"},
		"token":       {Type: "http", Scheme: "bearer", Description: "an API token"},
		"session":     {Type: "apiKey", In: "cookie", Name: SessionCookie, Description: "a browser's session"},
	}
	c.Security = []map[string][]string{{byCertificate: {}}, {"token": {}}, {"session": {}}}
	return c
}

// strictly reads JSON in which each member is one that there is, by its exact
// name and once: what is checked is what is taken.
func strictly(b []byte, v any) error {
	return jsonv2.Unmarshal(b, v, jsonv2.RejectUnknownMembers(true))
}

// byCertificate names the way in with an operator certificate.
const byCertificate = "certificate"

// SessionCookie is the name of the cookie that a browser's session comes with.
const SessionCookie = "__Host-holdfast"

// deviceID is how a device's id is described.
type deviceID string

// Schema implements huma.SchemaProvider.
func (deviceID) Schema(huma.Registry) *huma.Schema {
	return text(`^[A-Za-z0-9][A-Za-z0-9._:-]*$`, "device id: letters, digits and \"-._:\", beginning with a letter or digit", identity.MaxDevice, "pump-01")
}

// groupName is how a group's name is described.
type groupName string

// Schema implements huma.SchemaProvider.
func (groupName) Schema(huma.Registry) *huma.Schema {
	return text(`^[a-z][a-z0-9-]*$`, "group name: lower-case letters, digits and \"-\", beginning with a letter", identity.MaxGroup, "pumps")
}

// digest is how a digest is described.
type digest string

// Schema implements huma.SchemaProvider.
func (digest) Schema(huma.Registry) *huma.Schema {
	return text(`^[0-9a-fA-F]{64}$`, "SHA-256: 64 hexadecimal digits", 64, strings.Repeat("5a", 32))
}

func text(pattern, means string, most int, example any) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString, Pattern: pattern, PatternDescription: means, MinLength: ptr(1), MaxLength: &most, Examples: []any{example}}
	s.PrecomputeMessages()
	return s
}

// OpenAPI returns the description of the API as JSON.
func OpenAPI(version string) ([]byte, error) { return json.MarshalIndent(described(version), "", "  ") }

// OpenAPI30 is OpenAPI in the older form, 3.0.3, for generators that read no other.
func OpenAPI30(version string) ([]byte, error) { return downgrade(described(version)) }

func described(version string) *huma.OpenAPI {
	h := humago.New(http.NewServeMux(), Describe(version))
	(&api{rights: Rights()}).register(h)
	return h.OpenAPI()
}

// register adds every operation to h.
func (a *api) register(h huma.API) {
	h.UseMiddleware(a.observe, a.authorise)
	for _, part := range []func(huma.API){
		a.registerMe, a.registerOverview, a.registerGroups, a.registerPolicies, a.registerCAs, a.registerDevices, a.registerPending,
		a.registerReferences, a.registerAuditors, a.registerTwins, a.registerMethods, a.registerMessages, a.registerEnrollments, a.registerEvents,
		a.registerLedger, a.registerBackup, a.registerAlerts, a.registerSeries, a.registerRollouts, a.registerReleases, a.registerAccounts, a.registerLogins, a.registerTokens,
	} {
		part(h)
	}
	exemplify(h.OpenAPI())
}

// known refuses who comes from nowhere, and says how answers are to be taken.
func (a *api) known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if operator.From(r.Context()).Name == "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			a.problem(r.Context(), w, huma.Error401Unauthorized("say who you are: with an operator certificate, an API token or by logging in"))
			return
		}
		next.ServeHTTP(w, r)
	})
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
		if err != nil && r.Context().Err() == nil { // otherwise who asked has left
			a.Log.ErrorContext(r.Context(), "read ledger head", "err", err)
		}
		next.ServeHTTP(w, r)
	})
}
