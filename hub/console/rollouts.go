package console

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/rollout"
)

// What a page shows at most.
const (
	rolloutPage       = 50
	rolloutDevicePage = 100
)

// beat is how often the page of a rollout that goes on is shown anew, in
// seconds: the ledger, whose records tell of changes, does not have every step
// of every device.
const beat = 3

func (c *console) rolloutRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /rollouts", c.show("rollouts", c.rollouts))
	mux.HandleFunc("POST /rollouts", c.act("rollouts", "start", c.rollouts, c.startRollout))
	mux.HandleFunc("GET /rollouts/{id}", c.show("rollout", c.rollout))
	for _, verb := range []string{"pause", "resume", "halt", "retry"} {
		mux.HandleFunc("POST /rollouts/{id}/"+verb, c.act("rollout", verb, c.rollout, func(r *http.Request) (outcome, error) { return c.actOnRollout(r, verb) }))
	}
}

// rolloutsView is some rollouts, the newest first, and what one can be of.
type rolloutsView struct {
	Rollouts []operator.Rollout
	Groups   []operator.Group
	Releases []operator.Release // that can be rolled out, by product, the newest first
	Group    string             // only for this one; empty: all
	All      bool               // also those that are over
	Next     string             // asks for those before; empty: nothing is left
	Start    startDefaults
}

// startDefaults is what stands in the form before somebody types.
type startDefaults struct {
	Release, Group                               string // chosen by the link that led here
	Open                                         bool   // such a link led here
	Canary, Step, HaltOn, Soak, Deadline, Silent string
}

func newStart(q url.Values) startDefaults {
	return startDefaults{Release: q.Get("release"), Group: q.Get("group"), Open: q.Has("release"),
		Canary: rollout.DefaultCanary.String(), Step: rollout.DefaultStep.String(), HaltOn: rollout.DefaultHaltOn.String(),
		Soak: duration(rollout.DefaultSoak), Deadline: duration(rollout.DefaultDeadline), Silent: duration(rollout.DefaultSilentAfter)}
}

// duration writes a time as a form takes it: 72h rather than 72h0m0s.
func duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (c *console) rollouts(r *http.Request) (page, error) {
	q := r.URL.Query()
	v := rolloutsView{Group: q.Get("group"), All: q.Get("show") != "live", Start: newStart(q)}
	live := ""
	if !v.All {
		live = "true"
	}
	var err error
	if v.Rollouts, err = get[[]operator.Rollout](c, r, "/v1/rollouts", "group", v.Group, "live", live, "after", q.Get("after"), "limit", strconv.Itoa(rolloutPage+1)); err != nil {
		return page{}, err
	}
	if len(v.Rollouts) > rolloutPage {
		v.Rollouts = v.Rollouts[:rolloutPage]
		v.Next = encode([]string{"group", v.Group, "show", q.Get("show"), "after", v.Rollouts[rolloutPage-1].ID})
	}
	if v.Groups, err = get[[]operator.Group](c, r, "/v1/groups"); err != nil {
		return page{}, err
	}
	rels, err := get[[]operator.Release](c, r, "/v1/releases")
	if err != nil {
		return page{}, err
	}
	for _, rel := range slices.Backward(rels) {
		if rel.Withdrawn == "" {
			v.Releases = append(v.Releases, rel)
		}
	}
	slices.SortStableFunc(v.Releases, func(a, b operator.Release) int { return cmp.Compare(a.Product, b.Product) })
	p := page{Data: v, Live: changes}
	if slices.ContainsFunc(v.Rollouts, goesOn) {
		p.Beat = beat
	}
	return p, nil
}

// goesOn reports whether devices of a rollout move without an operator.
func goesOn(r operator.Rollout) bool {
	return r.Stage == string(rollout.Planning) || r.Stage == string(rollout.Running) || r.Stage == string(rollout.Paused)
}

// startRollout starts one.
func (c *console) startRollout(r *http.Request) (outcome, error) {
	in, err := readStart(r.PostForm)
	if err != nil {
		return outcome{}, err
	}
	var out operator.Rollout
	err = c.ask(r, request{method: http.MethodPost, path: "/v1/rollouts", body: in}, &out)
	return outcome{to: rolloutPath(out.ID), done: "started"}, err
}

func rolloutPath(id string) string { return "/rollouts/" + url.PathEscape(id) }

// readStart reads a form that starts a rollout.
func readStart(f url.Values) (operator.StartRollout, error) {
	var in operator.StartRollout
	product, version, _ := strings.Cut(f.Get("release"), "/")
	var err error
	if in.Product, err = release.ParseProduct(product); err != nil {
		return in, mistyped("Choose a release.")
	}
	if in.Version, err = mcuboot.ParseVersion(version); err != nil {
		return in, mistyped("Choose a release.")
	}
	for _, d := range strings.Fields(f.Get("devices")) {
		in.Devices = append(in.Devices, identity.Device(d))
	}
	for _, g := range f["group"] {
		in.Groups = append(in.Groups, identity.Group(g))
	}
	if (len(in.Groups) == 0) == (len(in.Devices) == 0) {
		return in, mistyped("Choose groups, or name devices: one of the two.")
	}
	if err := readShares(f, &in.RolloutPlan); err != nil {
		return in, err
	}
	return in, readTimes(f, &in.RolloutPlan)
}

func readShares(f url.Values, p *operator.RolloutPlan) error {
	for _, s := range []struct {
		field, title string
		to           *float64
	}{{"canary", "Canary", &p.Canary}, {"step", "Step", &p.Step}, {"halt_on", "Halt on", &p.HaltOn}} {
		share, err := rollout.ParsePercent(strings.TrimSuffix(strings.TrimSpace(f.Get(s.field)), "%") + "%")
		if err != nil {
			return mistyped("%s: %s.", s.title, err.Error())
		}
		*s.to = share.Float()
	}
	if p.Canary == 0 || p.Step == 0 { // absent means the default to the API
		return mistyped("Canary and step: want more than 0%%.")
	}
	return nil
}

func readTimes(f url.Values, p *operator.RolloutPlan) error {
	for _, s := range []struct {
		field, title string
		to           *int64
		least        time.Duration
	}{{"soak", "Soak", &p.Soak, 0}, {"deadline", "Deadline", &p.Deadline, rollout.MinDeadline}, {"silent_after", "Silent after", &p.SilentAfter, rollout.MinSilent}} {
		text := strings.TrimSpace(f.Get(s.field))
		d, err := time.ParseDuration(text)
		if err != nil || d < s.least || d%time.Second != 0 {
			return mistyped("%s: %q: want a time of at least %s, as 30s, 10m or 72h.", s.title, text, duration(s.least))
		}
		*s.to = int64(d / time.Second)
	}
	for _, text := range strings.Fields(f.Get("windows")) {
		w, err := rollout.ParseWindow(text)
		if err != nil {
			return mistyped("%s.", err.Error())
		}
		p.Windows = append(p.Windows, w)
	}
	return nil
}

// rolloutView is a rollout, and some of its devices.
type rolloutView struct {
	operator.Rollout
	State   string // only devices in this state; empty: in any
	Devices part[[]operator.RolloutDevice]
	Later   bool   // the first devices are left out
	Next    string // asks for the devices behind these; empty: nothing is left
}

func (c *console) rollout(r *http.Request) (page, error) {
	id, q := r.PathValue("id"), r.URL.Query()
	at := "/v1/rollouts/" + url.PathEscape(id)
	o, err := get[operator.Rollout](c, r, at)
	if err != nil {
		return page{}, err
	}
	v := rolloutView{Rollout: o, State: q.Get("state"), Later: q.Has("after")}
	v.Devices = partOf[[]operator.RolloutDevice](c, r, at+"/devices", "state", v.State, "after", q.Get("after"), "limit", strconv.Itoa(rolloutDevicePage+1))
	if ds := v.Devices.Value; len(ds) > rolloutDevicePage {
		v.Devices.Value = ds[:rolloutDevicePage]
		v.Next = encode([]string{"state", v.State, "after", string(ds[rolloutDevicePage-1].Device)})
	}
	p := page{Data: v, Live: changes}
	if goesOn(o) {
		p.Beat = beat
	}
	return p, nil
}

// States returns how many devices stand where, of the states that there are or
// are asked for.
func (v rolloutView) States() []rolloutChip {
	var out []rolloutChip
	for _, s := range standings(v.Counts) {
		current := v.State == s.State
		if s.Count > 0 || current {
			to := s.State
			if current {
				to = "" // takes the filter away
			}
			out = append(out, rolloutChip{s, cmp.Or(encode([]string{"state", to}), "?"), current})
		}
	}
	return out
}

// rolloutChip is a state with the query that shows its devices.
type rolloutChip struct {
	standing
	Query   string
	Current bool
}

// Can reports whether an act makes sense now; whether it is done the API
// decides.
func (v rolloutView) Can(verb string) bool {
	stage := rollout.Stage(v.Stage)
	switch verb {
	case "pause":
		return stage == rollout.Running
	case "resume":
		return stage == rollout.Paused || stage == rollout.Halted
	case "halt":
		return stage != rollout.Halted && stage != rollout.Superseded
	}
	return stage != rollout.Planning && stage != rollout.Superseded && v.Counts.Failed+v.Counts.Excluded > 0
}

// actOnRollout pauses, resumes, halts or retries. What goes on or tries again is
// what was on the page; to stop it nothing has to be so.
func (c *console) actOnRollout(r *http.Request, verb string) (outcome, error) {
	in := operator.RolloutAct{Reason: strings.TrimSpace(r.PostForm.Get("reason"))}
	for _, d := range r.PostForm["device"] {
		in.Devices = append(in.Devices, identity.Device(d))
	}
	id := r.PathValue("id")
	err := c.ask(r, request{method: http.MethodPost, path: "/v1/rollouts/" + url.PathEscape(id) + "/" + verb, body: in, etag: r.PostForm.Get("etag")}, nil)
	return outcome{to: rolloutPath(id), done: map[string]string{"pause": "paused", "resume": "resumed", "halt": "halted", "retry": "retried"}[verb]}, err
}
