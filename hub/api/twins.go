package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/identity"
	"holdfast/operator"
)

// Twins keeps the devices' twins.
type Twins interface {
	Twin(ctx context.Context, d identity.Device) (operator.Twin, error)
	SetTwin(ctx context.Context, by string, d identity.Device, t operator.SetTwin, replace bool, etag string) (operator.Twin, error)
}

// Methods calls methods on devices.
type Methods interface {
	CallMethod(ctx context.Context, by string, d identity.Device, method string, in operator.CallMethod) (operator.MethodResult, error)
}

// Messages keeps messages to devices.
type Messages interface {
	Send(ctx context.Context, by string, d identity.Device, m operator.SendMessage) (operator.Message, error)
	List(ctx context.Context, d identity.Device) ([]operator.Message, error)
	Purge(ctx context.Context, by string, d identity.Device) (operator.Purged, error)
}

// setTwin is a change of a twin.
type setTwin struct {
	Device identity.Device `path:"device" doc:"id of the device"`
	ETag   string          `header:"If-Match" doc:"change the twin only if it has this ETag"`
	Body   operator.SetTwin
}

func (a *api) registerTwins(h huma.API) {
	const path = "/v1/devices/{device}/twin"
	twin := func(t operator.Twin, err error) (*tagged[operator.Twin], error) {
		return &tagged[operator.Twin]{ETag: quoted(t.ETag), Body: t}, err
	}
	register(a, h, op("show-twin", http.MethodGet, path, "Show a device's twin"),
		func(ctx context.Context, in *ofDevice) (*tagged[operator.Twin], error) {
			return twin(a.Twins.Twin(ctx, in.Device))
		})
	set := func(replace bool) func(context.Context, *setTwin) (*tagged[operator.Twin], error) {
		return func(ctx context.Context, in *setTwin) (*tagged[operator.Twin], error) {
			tag, err := ifMatch(in.ETag)
			if err != nil {
				return nil, err
			}
			return twin(a.Twins.SetTwin(ctx, operator.From(ctx).Name, in.Device, in.Body, replace, tag))
		}
	}
	register(a, h, op("merge-twin", http.MethodPatch, path, "Merge into a device's tags and desired properties", http.StatusPreconditionFailed), set(false))
	register(a, h, op("replace-twin", http.MethodPut, path, "Replace a device's tags or desired properties", http.StatusPreconditionFailed), set(true))
}

// callMethod is a call; it may take longer than other requests.
type callMethod struct {
	Device identity.Device `path:"device" doc:"id of the device"`
	Method string          `path:"method" doc:"name of the method"`
	Body   operator.CallMethod
}

// maxWait is the longest that a call may wait for a device to connect, and to
// answer, each in seconds.
const maxWait = 300

// Resolve gives the answer the time that the call may take.
func (c *callMethod) Resolve(ctx huma.Context) []error {
	_, w := unwrap(ctx)
	seconds := min(max(c.Body.Timeout, 0), maxWait) + min(max(c.Body.Connect, 0), maxWait) // what is out of bounds is refused with the rest
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Duration(seconds)*time.Second + 2*writeTimeout))
	return nil
}

func (a *api) registerMethods(h huma.API) {
	serve(a, h, op("call-method", http.MethodPost, "/v1/devices/{device}/methods/{method}", "Call a method on a device and wait for its answer",
		http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGatewayTimeout),
		func(ctx context.Context, in *callMethod) (operator.MethodResult, error) {
			return a.Methods.CallMethod(ctx, operator.From(ctx).Name, in.Device, in.Method, in.Body)
		})
}

func (a *api) registerMessages(h huma.API) {
	const path = "/v1/devices/{device}/messages"
	type send struct {
		Device identity.Device `path:"device" doc:"id of the device"`
		Body   operator.SendMessage
	}
	serve(a, h, op("send-message", http.MethodPost, path, "Queue a message to a device"),
		func(ctx context.Context, in *send) (operator.Message, error) {
			return a.Messages.Send(ctx, operator.From(ctx).Name, in.Device, in.Body)
		})
	serve(a, h, op("list-messages", http.MethodGet, path, "List the messages that wait for a device"),
		func(ctx context.Context, in *ofDevice) ([]operator.Message, error) {
			return a.Messages.List(ctx, in.Device)
		})
	serve(a, h, op("purge-messages", http.MethodDelete, path, "Take all messages that wait for a device out of its queue"),
		func(ctx context.Context, in *ofDevice) (operator.Purged, error) {
			return a.Messages.Purge(ctx, operator.From(ctx).Name, in.Device)
		})
}
