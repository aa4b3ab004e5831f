package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

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

// with adds statuses that an operation may answer with.
func with(o huma.Operation, status ...int) huma.Operation {
	o.Errors = append(o.Errors, status...)
	return o
}

// setTwin is a change of a twin.
type setTwin struct {
	by
	Device string `path:"device" doc:"id of the device"`
	ETag   string `header:"If-Match" doc:"change the twin only if it has this ETag"`
	Body   operator.SetTwin
}

func (a *api) registerTwins(h huma.API) {
	type show struct {
		Device string `path:"device" doc:"id of the device"`
	}
	const path = "/v1/devices/{device}/twin"
	huma.Register(h, with(op("show-twin", http.MethodGet, path, "Show a device's twin"), http.StatusNotFound),
		func(ctx context.Context, in *show) (*answer[operator.Twin], error) {
			id, err := a.device(in.Device)
			if err != nil {
				return nil, err
			}
			v, err := a.Twins.Twin(ctx, id)
			return reply(a, v, err)
		})
	set := func(replace bool) func(context.Context, *setTwin) (*answer[operator.Twin], error) {
		return func(ctx context.Context, in *setTwin) (*answer[operator.Twin], error) {
			id, err := a.device(in.Device)
			if err != nil {
				return nil, err
			}
			v, err := a.Twins.SetTwin(ctx, in.actor, id, in.Body, replace, strings.Trim(in.ETag, `"`))
			return reply(a, v, err)
		}
	}
	refusals := []int{http.StatusNotFound, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge}
	huma.Register(h, with(op("merge-twin", http.MethodPatch, path, "Merge into a device's tags and desired properties"), refusals...), set(false))
	huma.Register(h, with(op("replace-twin", http.MethodPut, path, "Replace a device's tags or desired properties"), refusals...), set(true))
}

// callMethod is a call; it may take longer than other requests.
type callMethod struct {
	by
	Device string `path:"device" doc:"id of the device"`
	Method string `path:"method" doc:"name of the method"`
	Body   operator.CallMethod
}

// Resolve gives the answer the time that the call may take.
func (c *callMethod) Resolve(ctx huma.Context) []error {
	_, w := humago.Unwrap(ctx)
	seconds := c.Body.Timeout + c.Body.Connect
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Duration(seconds)*time.Second + 2*writeTimeout))
	return c.by.Resolve(ctx)
}

func (a *api) registerMethods(h huma.API) {
	o := op("call-method", http.MethodPost, "/v1/devices/{device}/methods/{method}", "Call a method on a device and wait for its answer")
	huma.Register(h, with(o, http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusBadGateway, http.StatusGatewayTimeout),
		func(ctx context.Context, in *callMethod) (*answer[operator.MethodResult], error) {
			id, err := a.device(in.Device)
			if err != nil {
				return nil, err
			}
			v, err := a.Methods.CallMethod(ctx, in.actor, id, in.Method, in.Body)
			return reply(a, v, err)
		})
}

func (a *api) registerMessages(h huma.API) {
	const path = "/v1/devices/{device}/messages"
	type send struct {
		by
		Device string `path:"device" doc:"id of the device"`
		Body   operator.SendMessage
	}
	huma.Register(h, with(op("send-message", http.MethodPost, path, "Queue a message to a device"), http.StatusNotFound, http.StatusRequestEntityTooLarge),
		func(ctx context.Context, in *send) (*answer[operator.Message], error) {
			id, err := a.device(in.Device)
			if err != nil {
				return nil, err
			}
			v, err := a.Messages.Send(ctx, in.actor, id, in.Body)
			return reply(a, v, err)
		})
	type list struct {
		Device string `path:"device" doc:"id of the device"`
	}
	huma.Register(h, with(op("list-messages", http.MethodGet, path, "List the messages that wait for a device"), http.StatusNotFound),
		func(ctx context.Context, in *list) (*answer[[]operator.Message], error) {
			id, err := a.device(in.Device)
			if err != nil {
				return nil, err
			}
			v, err := a.Messages.List(ctx, id)
			return reply(a, v, err)
		})
	type purge struct {
		by
		Device string `path:"device" doc:"id of the device"`
	}
	huma.Register(h, with(op("purge-messages", http.MethodDelete, path, "Take all messages that wait for a device out of its queue"), http.StatusNotFound),
		func(ctx context.Context, in *purge) (*answer[operator.Purged], error) {
			id, err := a.device(in.Device)
			if err != nil {
				return nil, err
			}
			v, err := a.Messages.Purge(ctx, in.actor, id)
			return reply(a, v, err)
		})
}
