package console

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/ledger"
	"holdfast/operator"
	"holdfast/posture"
)

func (c *console) deviceRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /devices/{id}", c.show("device", c.device))
	mux.HandleFunc("GET /devices/{id}/events", c.show("events", c.events))
	for _, verb := range []string{"revoke", "quarantine", "restore"} {
		mux.HandleFunc("POST /devices/{id}/"+verb, c.act("device", verb, c.device, func(r *http.Request) (outcome, error) { return c.actOn(r, verb) }))
	}
	mux.HandleFunc("POST /devices/{id}/method", c.act("device", "method", c.device, c.callMethod))
	mux.HandleFunc("POST /devices/{id}/message", c.act("device", "message", c.device, c.sendMessage))
	mux.HandleFunc("POST /devices/{id}/purge", c.act("device", "purge", c.device, c.purge))
	mux.HandleFunc("POST /devices/{id}/twin", c.act("device", "twin", c.device, c.setTwin))
}

// deviceView is all that is shown of a device. What the API could not answer
// is a problem in its own place and leaves the rest standing.
type deviceView struct {
	operator.Device
	Policy       posture.Policy
	Sections     []section
	Bar          bar
	Certificates part[[]operator.Issued]
	Timeline     timeline
	Sessions     part[[]operator.Session]
	Twin         part[operator.Twin]
	Messages     part[[]operator.Message]
	Records      part[[]ledger.Record]
	Alerts       part[[]operator.Alert]
	Rollouts     part[[]operator.DeviceRollout]
}

// Conditions returns how the policy's conditions came out.
func (v deviceView) Conditions() []posture.Outcome {
	var out []posture.Outcome
	if v.Decision != nil {
		for _, o := range v.Decision.Outcomes {
			if o.Measure == "" {
				out = append(out, o)
			}
		}
	}
	return out
}

// part is one part of a page, or why there is none.
type part[T any] struct {
	Value   T
	Problem *problem
}

// partOf asks the API for a part of a page.
func partOf[T any](c *console, r *http.Request, path string, query ...string) part[T] {
	v, err := get[T](c, r, path, query...)
	if err != nil {
		return part[T]{Problem: c.asProblem(r.Context(), err)}
	}
	return part[T]{Value: v}
}

// deviceAPI returns the API's path of the device that a request names.
func deviceAPI(r *http.Request) string { return "/v1/devices/" + url.PathEscape(r.PathValue("id")) }

func (c *console) device(r *http.Request) (page, error) {
	d, err := get[operator.Device](c, r, deviceAPI(r))
	if err != nil {
		return page{}, err
	}
	v := deviceView{Device: d,
		Certificates: partOf[[]operator.Issued](c, r, deviceAPI(r)+"/certificates"),
		Sessions:     partOf[[]operator.Session](c, r, deviceAPI(r)+"/sessions"),
		Twin:         partOf[operator.Twin](c, r, deviceAPI(r)+"/twin"),
		Messages:     partOf[[]operator.Message](c, r, deviceAPI(r)+"/messages"),
		Records:      partOf[[]ledger.Record](c, r, "/v1/ledger", "device", string(d.ID), "newest", "true", "limit", "20"),
		Alerts:       partOf[[]operator.Alert](c, r, "/v1/alerts", "device", string(d.ID), "limit", "20"),
		Rollouts:     partOf[[]operator.DeviceRollout](c, r, deviceAPI(r)+"/rollouts"),
	}
	v.Policy = partOf[operator.Group](c, r, groupAPI(string(d.Group))).Value.Policy
	v.Sections = checklist(d, v.Policy)
	for _, s := range v.Sections {
		v.Bar.Pass, v.Bar.Fail, v.Bar.Unknown = v.Bar.Pass+s.Pass, v.Bar.Fail+s.Fail, v.Bar.Unknown+s.Unknown
	}
	v.Bar = newBar(v.Bar.Pass, v.Bar.Fail, v.Bar.Unknown)
	v.Timeline = newTimeline(v.Certificates.Value, time.Now())
	return page{Data: v, Live: "device=" + url.QueryEscape(string(d.ID))}, nil
}

// actOn revokes, quarantines or restores a device.
func (c *console) actOn(r *http.Request, verb string) (outcome, error) {
	err := c.ask(r, request{method: http.MethodPost, path: deviceAPI(r) + "/" + verb, body: operator.Act{Reason: strings.TrimSpace(r.PostForm.Get("reason"))}}, nil)
	return outcome{to: devicePath(r.PathValue("id")), done: map[string]string{"revoke": "revoked", "quarantine": "quarantined", "restore": "restored"}[verb]}, err
}

// object reads a field that has JSON; an empty one has none.
func object(r *http.Request, field, label string) (json.RawMessage, error) {
	text := strings.TrimSpace(r.PostForm.Get(field))
	if text != "" && !json.Valid([]byte(text)) {
		return nil, mistyped("%s is not JSON.", label)
	}
	return json.RawMessage(text), nil
}

// seconds reads a field that has a number of seconds; an empty one is 0.
func seconds(r *http.Request, field string) (int64, error) {
	text := strings.TrimSpace(r.PostForm.Get(field))
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, mistyped("%q is not a number of seconds.", text)
	}
	return n, nil
}

func (c *console) callMethod(r *http.Request) (outcome, error) {
	payload, err := object(r, "payload", "The argument")
	if err != nil {
		return outcome{}, err
	}
	timeout, err := seconds(r, "timeout")
	if err != nil {
		return outcome{}, err
	}
	name := strings.TrimSpace(r.PostForm.Get("method"))
	if name == "" {
		return outcome{}, mistyped("Name the method.")
	}
	var out operator.MethodResult
	err = c.ask(r, request{method: http.MethodPost, path: deviceAPI(r) + "/methods/" + url.PathEscape(name),
		body: operator.CallMethod{Payload: payload, Timeout: timeout}}, &out)
	return outcome{result: out}, err
}

func (c *console) sendMessage(r *http.Request) (outcome, error) {
	expires, err := seconds(r, "expires")
	if err != nil {
		return outcome{}, err
	}
	m := operator.SendMessage{ID: r.PostForm.Get("message_id"), Body: r.PostForm.Get("body"), ContentType: r.PostForm.Get("content_type"), Expires: expires}
	err = c.ask(r, request{method: http.MethodPost, path: deviceAPI(r) + "/messages", body: m}, nil)
	return outcome{to: devicePath(r.PathValue("id")), done: "sent"}, err
}

func (c *console) purge(r *http.Request) (outcome, error) {
	err := c.ask(r, request{method: http.MethodDelete, path: deviceAPI(r) + "/messages"}, nil)
	return outcome{to: devicePath(r.PathValue("id")), done: "purged"}, err
}

// setTwin puts what was typed in the place of the section, if nobody changed the
// twin since it was shown.
func (c *console) setTwin(r *http.Request) (outcome, error) {
	desired, err := object(r, "desired", "The desired properties")
	if err != nil {
		return outcome{}, err
	}
	tags, err := object(r, "tags", "The tags")
	if err != nil {
		return outcome{}, err
	}
	err = c.ask(r, request{method: http.MethodPut, path: deviceAPI(r) + "/twin", etag: r.PostForm.Get("etag"),
		body: operator.SetTwin{Desired: desired, Tags: tags}}, nil)
	return outcome{to: devicePath(r.PathValue("id")), done: "saved"}, err
}
