package api_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/hub/api"
	"holdfast/identity"
	"holdfast/internal/apidoc"
	"holdfast/operator"
)

func describedAPI(t testing.TB) *apidoc.Doc {
	t.Helper()
	b, err := api.OpenAPI("1")
	if err != nil {
		t.Fatal(err)
	}
	d, err := apidoc.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEveryOperationHasARight(t *testing.T) {
	rights, described := api.Rights(), map[string]bool{}
	for _, o := range describedAPI(t).Operations() {
		described[o.ID] = true
		for _, part := range strings.Split(o.Path, "/") { // what huma does not see is always empty
			if name, ok := strings.CutPrefix(part, "{"); ok && !slices.ContainsFunc(o.Params, func(p *apidoc.Param) bool { return p.In == "path" && p.Name+"}" == name }) {
				t.Errorf("%s reads nothing of %s", o.ID, part)
			}
		}
		if r, ok := rights[o.ID]; !ok || r.Role == "" {
			t.Errorf("%s %s (%s) has no right", o.Method, o.Path, o.ID)
		}
	}
	for id := range rights {
		if base, _, _ := strings.Cut(id, ":"); !described[base] {
			t.Errorf("%s is a right to nothing", id)
		}
	}
}

// request makes a request of an operation that names a device and a group
// wherever it can.
func request(d *apidoc.Doc, o *apidoc.Operation, device identity.Device, group identity.Group) apidoc.Request {
	m := &apidoc.Maker{Doc: d, Rand: rand.New(rand.NewPCG(1, 2)), All: true, Value: func(name string, s *apidoc.Schema) (any, bool) {
		switch {
		case s.Items != nil:
			return nil, false // lists are made of what they hold
		case name == "If-Match":
			return `"abc"`, true
		case strings.HasPrefix(s.Pattern, "^[A-Za-z0-9][A-Za-z0-9._:-]*$"):
			return string(device), true
		case strings.HasPrefix(s.Pattern, "^[a-z][a-z0-9-]*$"):
			return string(group), true
		case name == "kind" && len(s.Enum) > 0:
			return s.Enum[0], true
		case strings.HasPrefix(s.Pattern, "^[0-9]{1,3}"):
			return "1.4.0", true
		case name == "files":
			return map[string]any{"1.pump.json": "e30="}, true
		case strings.HasPrefix(s.Pattern, "^[0-9a-fA-F]{64}"), strings.HasPrefix(s.Pattern, "^[0-9a-f]{64}"):
			return strings.Repeat("ab", 32), true
		case name == "id" && strings.HasPrefix(o.Path, "/v1/enrollments"):
			return string(device), true // it is the device's
		case name == "since":
			return time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), true
		case name == "follow" || name == "Accept" || name == "Last-Event-ID":
			return nil, false
		}
		return nil, false
	}}
	return m.Valid(o)
}

// ask sends what a maker made.
func (p *plane) ask(who operator.Principal, r apidoc.Request) *httptest.ResponseRecorder {
	var header []string
	for k, vs := range r.Header {
		for _, v := range vs {
			if k != "Content-Type" {
				header = append(header, k, v)
			}
		}
	}
	return p.as(who, r.Method, strings.ReplaceAll(r.URL, "follow=true", "follow=false"), string(r.Body), header...)
}

// may says who has just a right: somebody of its role, with a fresh proof.
func may(r operator.Right) operator.Principal {
	return operator.Principal{Name: "ada", Role: r.Role, Via: operator.ViaPasskey, Proved: time.Now()}
}

// roleOf is what a request of an operation takes; some kinds take more.
func roleOf(id string, body []byte) operator.Right {
	right := api.Rights()[id]
	var in struct{ Kind string }
	if json.Unmarshal(body, &in) == nil && id == "add-ca" && in.Kind == "endorsement" {
		return api.Rights()["add-ca:endorsement"]
	}
	return right
}

// Each operation is refused to who has less, and with less than what it takes
// nobody is asked for anything.
func TestRights(t *testing.T) {
	d := describedAPI(t)
	p := newPlane()
	for _, o := range d.Operations() {
		r := request(d, o, "pump-01", "pumps")
		right := roleOf(o.ID, r.Body)
		refused := func(name string, who operator.Principal, status int) *httptest.ResponseRecorder {
			t.Helper()
			rec := p.ask(who, r)
			if asked := p.took(); rec.Code != status || len(asked) != 0 {
				t.Errorf("%s %s, %s: %d %s, asked %q", r.Method, r.URL, name, rec.Code, rec.Body, asked)
			}
			return rec
		}
		refused("nobody", operator.Principal{}, http.StatusUnauthorized)
		refused("somebody without a role", operator.Principal{Name: "ada"}, http.StatusForbidden)
		for _, role := range operator.Roles() {
			if !role.Includes(right.Role) {
				who := may(right)
				who.Role = role
				refused("a "+string(role), who, http.StatusForbidden)
			}
		}
		if right.Global {
			who := may(right)
			who.Groups = []identity.Group{"pumps"}
			refused("somebody of a group", who, http.StatusForbidden)
		}
		if right.StepUp {
			old, token := may(right), may(right)
			old.Proved = time.Now().Add(-operator.StepUpFor - time.Second)
			token.Via = operator.ViaToken
			for name, who := range map[string]operator.Principal{"an old proof": old, "a token": token} {
				if rec := refused(name, who, http.StatusForbidden); kindOf(t, rec) != operator.StepUpProblem {
					t.Errorf("%s with %s: %s", o.ID, name, rec.Body)
				}
			}
		}
		if rec := p.ask(may(right), r); o.ID != "revoke-devices" && rec.Code >= 300 && rec.Code != http.StatusConflict && rec.Code != http.StatusPreconditionFailed {
			t.Errorf("%s %s by who may: %d %s; body %s", r.Method, r.URL, rec.Code, rec.Body, r.Body)
		}
		p.took()
	}
}

// fresh is somebody who has just proved who they are.
func fresh(p operator.Principal) operator.Principal {
	p.Via, p.Proved = operator.ViaPasskey, time.Now()
	return p
}

// Some kinds of a request take more than their operation.
func TestRightsOfKinds(t *testing.T) {
	p := newPlane()
	op := operator.Principal{Name: "ada", Role: operator.RoleOperator, Via: operator.ViaToken}
	admin := operator.Principal{Name: "ada", Role: operator.RoleAdministrator, Via: operator.ViaToken}
	for _, tt := range []struct {
		who                operator.Principal
		method, path, body string
		status             int
		kind               string
	}{
		{op, "POST", "/v1/enrollments", `{"kind":"individual","id":"a","group":"pumps"}`, 200, ""},
		{op, "POST", "/v1/enrollments", `{"kind":"group","id":"a","group":"pumps"}`, 403, ""},
		{op, "DELETE", "/v1/enrollments/group/pump-01", "", 403, ""},
		{op, "POST", "/v1/enrollments/group/pump-01/disable", "", 403, ""},
		{op, "POST", "/v1/enrollments/group/pump-01/enable", "", 403, ""},
		{admin, "POST", "/v1/enrollments/group/pump-01/enable", "", 200, ""},
		{fresh(op), "POST", "/v1/repository/metadata", `{"files":{"1.pump.json":"e30="}}`, 200, ""},
		{fresh(op), "POST", "/v1/repository/metadata", `{"files":{"1.root.json":"e30="}}`, 403, ""},
		{admin, "POST", "/v1/repository/metadata", `{"files":{"1.root.json":"e30="}}`, 403, operator.StepUpProblem},
		{fresh(admin), "POST", "/v1/repository/metadata", `{"files":{"1.root.json":"e30="}}`, 200, ""},
		{admin, "POST", "/v1/cas", `{"name":"m","kind":"maker","pem":"x"}`, 200, ""},
		{admin, "POST", "/v1/cas", `{"name":"m","kind":"endorsement","class":"hardware","pem":"x"}`, 403, operator.StepUpProblem},
	} {
		if rec := p.as(tt.who, tt.method, tt.path, tt.body); rec.Code != tt.status || tt.kind != "" && kindOf(t, rec) != tt.kind {
			t.Errorf("%s %s %s: %d %s", tt.method, tt.path, tt.body, rec.Code, rec.Body)
		}
	}
}

// Whoever is of one group finds nothing of another: neither by its name, nor in
// what is listed. Made from the description, so that no operation is left out.
func TestAnotherGroupIsNotThere(t *testing.T) {
	d, p, named := describedAPI(t), newPlane(), 0
	for _, o := range d.Operations() {
		right := api.Rights()[o.ID]
		who := may(right)
		who.Groups = []identity.Group{"pumps"}
		for _, tt := range []struct {
			device identity.Device
			group  identity.Group
		}{{"fan-01", "pumps"}, {"pump-01", "fans"}, {"fan-01", "fans"}} {
			mine, theirs := request(d, o, "pump-01", "pumps"), request(d, o, tt.device, tt.group)
			if mine.URL == theirs.URL && string(mine.Body) == string(theirs.Body) || right.Global || o.ID == "revoke-devices" {
				continue // of many it answers for each: TestRevokeMany
			}
			named++
			rec := p.ask(who, theirs)
			if asked := p.took(); rec.Code != http.StatusNotFound || len(asked) != 0 {
				t.Errorf("%s %s %s: %d %s, asked %q", theirs.Method, theirs.URL, theirs.Body, rec.Code, rec.Body, asked)
			}
			if strings.HasPrefix(o.ID, "add-") {
				continue // what is not there may be added
			}
			gone := request(d, o, identity.Device(strings.Replace(string(tt.device), "fan", "gone", 1)), identity.Group(strings.Replace(string(tt.group), "fans", "gone", 1)))
			one := strings.NewReplacer("fan-01", "X", "fans", "X", "gone-01", "X", "gone", "X")
			if nobody := p.ask(who, gone); one.Replace(rec.Body.String()) != one.Replace(nobody.Body.String()) {
				t.Errorf("%s: what is another's is refused with %s, what is not there with %s", o.ID, rec.Body, nobody.Body)
			}
		}
		p.took()
		if rec := p.ask(who, request(d, o, "pump-01", "pumps")); strings.Contains(rec.Body.String(), "fan") {
			t.Errorf("%s tells of another group: %s", o.ID, rec.Body)
		}
		p.took()
	}
	if named < 40 {
		t.Errorf("only %d requests name a device or a group", named)
	}
}

// An enrolment has its group in what is stored, not in its name.
func TestAnotherGroupsEnrolmentIsNotThere(t *testing.T) {
	p, who := newPlane(), operator.Principal{Name: "ada", Role: operator.RoleAdministrator, Groups: []identity.Group{"pumps"}}
	for _, tt := range []struct{ method, path string }{
		{"GET", "/v1/enrollments/individual/fan-01"}, {"DELETE", "/v1/enrollments/individual/fan-01"},
		{"POST", "/v1/enrollments/individual/fan-01/disable"}, {"POST", "/v1/enrollments/individual/fan-01/enable"},
	} {
		rec := p.as(who, tt.method, tt.path, "")
		if asked := p.took(); rec.Code != 404 || len(asked) != 0 {
			t.Errorf("%s %s: %d %s, asked %q", tt.method, tt.path, rec.Code, rec.Body, asked)
		}
		if rec := p.as(who, tt.method, strings.ReplaceAll(tt.path, "fan", "pump"), ""); rec.Code >= 300 {
			t.Errorf("%s of its own: %d %s", tt.method, rec.Code, rec.Body)
		}
		p.took()
	}
}

// An enrolment's id is its device's, unless it names one: who is of one group
// brings no device of another into it.
func TestEnrolmentsOfAnotherGroupsDevices(t *testing.T) {
	p, who := newPlane(), operator.Principal{Name: "ada", Role: operator.RoleOperator, Groups: []identity.Group{"pumps"}}
	for body, status := range map[string]int{
		`{"kind":"individual","id":"new-01","group":"pumps"}`:                    200,
		`{"kind":"individual","id":"pump-01","group":"pumps"}`:                   200,
		`{"kind":"individual","id":"fan-01","device":"new-01","group":"pumps"}`:  200,
		`{"kind":"individual","id":"fan-01","group":"pumps"}`:                    404,
		`{"kind":"individual","id":"FAN-01","group":"pumps"}`:                    404,
		`{"kind":"individual","id":"new-01","device":"fan-01","group":"pumps"}`:  404,
		`{"kind":"individual","id":"new-01","group":"fans"}`:                     404,
		`{"kind":"individual","id":"pump-01","device":"fan-01","group":"pumps"}`: 404,
	} {
		rec := p.as(who, "POST", "/v1/enrollments", body)
		if asked := p.took(); rec.Code != status || len(asked) != map[bool]int{true: 1}[status == 200] {
			t.Errorf("%s: %d %s, asked %q", body, rec.Code, rec.Body, asked)
		}
	}
}

func TestRevokeMany(t *testing.T) {
	p := newPlane()
	all := operator.Principal{Name: "ada", Role: operator.RoleOperator, Via: operator.ViaPasskey, Proved: time.Now()}
	pumps := all
	pumps.Groups = []identity.Group{"pumps"}
	for _, tt := range []struct {
		name   string
		who    operator.Principal
		body   string
		status int
		want   string
		asked  int
	}{
		{"some", all, `{"devices":["pump-01","pump-02","fan-01"],"reason":"stolen"}`, 200,
			`{"failed":[{"device":"pump-02","reason":"pump-02 is revoked already"}],"revoked":2}`, 3},
		{"another group's", pumps, `{"devices":["pump-01","fan-01","gone-01"],"reason":"stolen"}`, 200,
			`{"failed":[{"device":"fan-01","reason":"there is no device \"fan-01\""},{"device":"gone-01","reason":"there is no device \"gone-01\""}],"revoked":1}`, 1},
		{"a group", pumps, `{"group":"pumps","reason":"stolen"}`, 200, `{"failed":[],"revoked":1}`, 1},
		{"another group", pumps, `{"group":"fans","reason":"stolen"}`, 404, "", 0},
		{"a group that is not", all, `{"group":"gone","reason":"stolen"}`, 404, "", 0},
		{"neither", all, `{"reason":"stolen"}`, 400, "", 0},
		{"both", all, `{"devices":["pump-01"],"group":"pumps","reason":"stolen"}`, 400, "", 0},
		{"without a reason", all, `{"devices":["pump-01"],"reason":""}`, 422, "", 0},
		{"no devices' ids", all, `{"devices":["../x"],"reason":"stolen"}`, 422, "", 0},
		{"too many", all, `{"devices":["a"` + strings.Repeat(`,"a"`, 1000) + `],"reason":"stolen"}`, 422, "", 0},
	} {
		rec := p.as(tt.who, "POST", "/v1/devices/revoke", tt.body)
		if asked := p.took(); rec.Code != tt.status || len(only(asked, " revoke ")) != tt.asked {
			t.Errorf("%s: %d %s, asked %q", tt.name, rec.Code, rec.Body, asked)
			continue
		}
		if tt.want == "" {
			continue
		}
		var got map[string]any
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if b, _ := json.Marshal(got); string(b) != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, b, tt.want)
		}
	}
}

// What is in the way of something may be another group's: who is limited to
// groups learns only that something is.
func TestConflictsSayNothingOfOtherGroups(t *testing.T) {
	p := newPlane()
	who := operator.Principal{Name: "ada", Role: operator.RoleOperator, Groups: []identity.Group{"pumps"}}
	const body = `{"id":"new-01","group":"pumps","ek":"AAAA"}`
	if rec := p.as(who, "POST", "/v1/devices", body); rec.Code != 409 || strings.Contains(rec.Body.String(), "fan") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	who.Groups = nil
	if rec := p.as(who, "POST", "/v1/devices", body); rec.Code != 409 || !strings.Contains(rec.Body.String(), "fan-01") {
		t.Errorf("of all groups: %d %s", rec.Code, rec.Body)
	}
}

func TestMe(t *testing.T) {
	who := operator.Principal{Name: "ada", Role: operator.RoleViewer, Groups: []identity.Group{"pumps"}, Via: operator.ViaPasskey, Remote: "192.0.2.7", Proved: time.Now()}
	var me operator.Me
	if err := json.Unmarshal(newPlane().as(who, "GET", "/v1/me", "").Body.Bytes(), &me); err != nil {
		t.Fatal(err)
	}
	if me.Name != "ada" || me.Role != operator.RoleViewer || len(me.Groups) != 1 || me.Via != operator.ViaPasskey || !me.StepUp.After(time.Now()) {
		t.Errorf("%+v", me)
	}
}

// only keeps the lines that have a text.
func only(lines []string, text string) []string {
	return slices.DeleteFunc(lines, func(l string) bool { return !strings.Contains(l, text) })
}
