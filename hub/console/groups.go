package console

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
	"holdfast/posture/policy"
)

func (c *console) groupRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /groups", c.show("groups", c.groups))
	mux.HandleFunc("POST /groups", c.act("groups", "add", c.groups, c.addGroup))
	mux.HandleFunc("GET /groups/{id}", c.show("group", c.groupPage))
	mux.HandleFunc("POST /groups/{id}/check", c.act("group", "policy", c.groupPage, c.checkPolicy))
	mux.HandleFunc("POST /groups/{id}/policy", c.act("group", "policy", c.groupPage, c.setPolicy))
	mux.HandleFunc("POST /groups/{id}/settings", c.act("group", "settings", c.groupPage, c.setSettings))
}

// groups lists groups.
func (c *console) groups(r *http.Request) (page, error) {
	gs, err := get[[]operator.Group](c, r, "/v1/groups")
	return page{Data: gs, Live: changes}, err
}

// groupAPI is the API's path of a group.
func groupAPI(id string) string { return "/v1/groups/" + url.PathEscape(id) }

// group returns one group and its entity-tag.
func (c *console) group(r *http.Request, id string) (g operator.Group, etag string, err error) {
	a, err := c.do(r, request{method: http.MethodGet, path: groupAPI(id)})
	if err != nil {
		return g, "", err
	}
	if err := json.Unmarshal(a.body.Bytes(), &g); err != nil {
		return g, "", fmt.Errorf("read group %s: %w", id, err)
	}
	return g, strings.Trim(a.header.Get("ETag"), `"`), nil
}

// groupView is a group with its policy as a table and as text.
type groupView struct {
	operator.Group
	Demands []demand
	Text    string
	ETag    string
	Fields  []limit
}

// demand is a line of a policy with what it is about.
type demand struct {
	posture.Requirement
	measure.Measure
}

func (c *console) groupPage(r *http.Request) (page, error) {
	g, etag, err := c.group(r, r.PathValue("id"))
	if err != nil {
		return page{}, err
	}
	v := groupView{Group: g, ETag: etag}
	for _, q := range g.Policy.Require {
		m, _ := measure.Find(q.Measure) // a measure of another version has its id alone
		m.ID = q.Measure
		v.Demands = append(v.Demands, demand{q, m})
	}
	text := g.Policy
	text.Version = 0 // what is set gets the next
	v.Text = policy.Print(text)
	if v.Fields, err = limitsOf(g.Limits); err != nil {
		return page{}, fmt.Errorf("limits of %s: %w", g.ID, err)
	}
	return page{Data: v}, nil
}

// limit is one of a group's limits, as a field of a form.
type limit struct {
	Name, Title string
	Value       int // 0: the hub's
}

// limitFields are the members of operator.Limits with their titles.
func limitFields() []limit {
	return []limit{
		{Name: "messages_per_second", Title: "Messages a second"}, {Name: "bytes_per_second", Title: "Bytes a second"},
		{Name: "burst_seconds", Title: "Burst, seconds"}, {Name: "max_message_bytes", Title: "Bytes of a message"}, {Name: "in_flight", Title: "In flight"},
		{Name: "download_bytes_per_second", Title: "Bytes of releases a second"}, {Name: "group_download_bytes_per_second", Title: "Bytes of releases a second, all together"},
		{Name: "group_messages_per_second", Title: "Messages a second, all together"}, {Name: "group_bytes_per_second", Title: "Bytes a second, all together"},
	}
}

// limitsOf returns what a group's limits are.
func limitsOf(l operator.Limits) ([]limit, error) {
	b, err := json.Marshal(l)
	var values map[string]int
	if err == nil {
		err = json.Unmarshal(b, &values)
	}
	fields := limitFields()
	for i := range fields {
		fields[i].Value = values[fields[i].Name]
	}
	return fields, err
}

func groupPath(id string) string { return "/groups/" + url.PathEscape(id) }

// settings reads what a form says of a group beside its policy.
func settings(r *http.Request) (operator.SetGroup, error) {
	f := r.PostForm
	on := func(name string) bool { return f.Get(name) != "" }
	g := operator.SetGroup{Simulation: on("simulation"), FileKeys: on("file_keys"), TLS12: on("tls12"), SelfSigned: on("legacy_selfsigned"),
		ThreadX: on("legacy_threadx"), MakerCAs: strings.Fields(f.Get("maker_cas")), IDs: strings.Fields(f.Get("ids")),
		Product: cmp.Or(strings.TrimSpace(f.Get("product")), operator.NoProduct)} // what a form leaves empty is to be so
	limits := map[string]int{}
	for _, l := range limitFields() {
		text := strings.TrimSpace(f.Get(l.Name))
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return g, mistyped("%s: %q is not a number.", l.Title, text)
		}
		limits[l.Name] = n
	}
	b, err := json.Marshal(limits)
	if err != nil {
		return g, fmt.Errorf("read limits: %w", err)
	}
	return g, json.Unmarshal(b, &g.Limits)
}

// setGroup changes a group, if nobody changed it since it was shown.
func (c *console) setGroup(r *http.Request, id string, g operator.SetGroup) error {
	return c.ask(r, request{method: http.MethodPut, path: groupAPI(id), body: g, etag: r.PostForm.Get("etag")}, nil)
}

// addGroup makes a group with a built-in policy. One that exists is not
// changed by a slip.
func (c *console) addGroup(r *http.Request) (outcome, error) {
	id := strings.TrimSpace(r.PostForm.Get("id"))
	if id == "" {
		return outcome{}, mistyped("Name the group.")
	}
	if _, _, err := c.group(r, id); err == nil {
		return outcome{}, &problem{Status: http.StatusConflict, Detail: fmt.Sprintf("There is a group %q already.", id)}
	}
	g, err := settings(r)
	if err != nil {
		return outcome{}, err
	}
	g.PolicyName = r.PostForm.Get("policy_name")
	return outcome{to: groupPath(id), done: "added"}, c.setGroup(r, id, g)
}

// typedPolicy reads a policy from its field.
func typedPolicy(r *http.Request) (string, error) {
	text := r.PostForm.Get("policy")
	if strings.TrimSpace(text) == "" {
		return "", mistyped("There is no policy.")
	}
	return text, nil
}

// checkPolicy shows what a policy would do, without setting it.
func (c *console) checkPolicy(r *http.Request) (outcome, error) {
	text, err := typedPolicy(r)
	if err != nil {
		return outcome{}, err
	}
	in := operator.PolicyCheck{Group: identity.Group(r.PathValue("id")), Text: text}
	var out operator.PolicyEffect
	err = c.ask(r, request{method: http.MethodPost, path: "/v1/policies/check", body: in}, &out)
	return outcome{result: out}, err
}

// setPolicy sets a policy; the rest of the group stays as it is.
func (c *console) setPolicy(r *http.Request) (outcome, error) {
	text, err := typedPolicy(r)
	if err != nil {
		return outcome{}, err
	}
	g, _, err := c.group(r, r.PathValue("id"))
	if err != nil {
		return outcome{}, err
	}
	set := operator.SetGroup{Text: text, Simulation: g.Simulation, FileKeys: g.FileKeys, TLS12: g.TLS12, SelfSigned: g.SelfSigned,
		ThreadX: g.ThreadX, MakerCAs: g.MakerCAs, IDs: g.IDs, Limits: g.Limits}
	return outcome{to: groupPath(string(g.ID)), done: "set"}, c.setGroup(r, string(g.ID), set)
}

// setSettings sets the rest of a group; its policy stays as it is.
func (c *console) setSettings(r *http.Request) (outcome, error) {
	set, err := settings(r)
	if err != nil {
		return outcome{}, err
	}
	id := r.PathValue("id")
	return outcome{to: groupPath(id), done: "saved"}, c.setGroup(r, id, set)
}
