package console_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"holdfast/identity"
	"holdfast/operator"
)

// has checks what stands on a page, and what does not.
func has(t *testing.T, w *world, path string, want, not []string) {
	t.Helper()
	body := w.get(path).Body.String()
	for _, text := range want {
		if !strings.Contains(body, text) {
			t.Errorf("%s: no %q", path, text)
		}
	}
	for _, text := range not {
		if strings.Contains(body, text) {
			t.Errorf("%s has %q", path, text)
		}
	}
}

func TestReleasePages(t *testing.T) {
	w := newWorld(t)
	has(t, w, "/releases", []string{`href="/releases/pump/1.4.0"`, "17.0 MiB", `<span class="bad">withdrawn</span> it leaks`, `href="/rollouts?release=pump/1.4.0#start"`,
		"2 of 3 keys, and 2 of 3 of ML-DSA-65; it takes 2 of each", "Only its signers can renew it", "Devices install nothing under it", identity.Sum([]byte("s")).String(), "the hub, which renews it"},
		[]string{`href="/rollouts?release=pump/1.3.0#start"`, "The hub has not renewed it"})
	has(t, w, "/releases/pump/1.4.0", []string{identity.Sum([]byte("fw1.4.0")).String(), identity.Sum([]byte("sbom")).String(), "rev-c", "boot 1.4.0", "hub, within 10 min", "newest", `href="/rollouts/pump-x"`, "Roll it out"}, []string{"took it back"})
	has(t, w, "/releases/pump/1.3.0", []string{"Its signers took it back: it leaks"}, []string{"Roll it out", `href="/rollouts/pump-x"`})
	has(t, w, "/devices/pump-01", []string{`href="/releases/pump/1.3.0"`, `href="/rollouts/pump-x"`, "the hub was not reached"}, nil)
	has(t, w, "/groups/pumps", []string{`href="/rollouts?group=pumps"`}, nil)
}

// TestRepositoryIsForAllGroups: who is for some is not told, and nothing asks.
func TestRepositoryIsForAllGroups(t *testing.T) {
	w := newWorld(t)
	w.who.Groups = []identity.Group{"pumps"}
	has(t, w, "/releases", []string{"pump 1.4.0"}, []string{"The repository"})
	has(t, w, "/releases/pump/1.4.0", []string{"pump 1.4.0"}, []string{"of ML-DSA-65"})
	for _, a := range w.asked {
		if a.path == "/v1/repository" {
			t.Error("the repository is asked for")
		}
	}
}

// TestRepositoryInTrouble: what is wrong with it stands on the page of the
// releases.
func TestRepositoryInTrouble(t *testing.T) {
	w := newWorld(t)
	w.refuse["GET /v1/repository"] = &refusal{Status: 503, Detail: "what is published cannot be verified"}
	has(t, w, "/releases", []string{"pump 1.4.0", "what is published cannot be verified"}, []string{"Nothing is published"})
}

func TestRolloutPages(t *testing.T) {
	w := newWorld(t)
	has(t, w, "/rollouts", []string{`href="/rollouts/pump-x"`, `href="/rollouts/pump-w"`, `aria-label="19 done, 5 committed, 10 updating, 5 offered, 1 failed, 60 waiting"`, "19 of 100", "1 of its devices", `data-beat="3"`,
		`<option value="pump/1.4.0">`, `value="10m"`, `value="72h"`, `value="5%"`}, []string{`value="pump/1.3.0"`, `<details id="start" open>`})
	has(t, w, "/rollouts?release=pump/1.4.0&group=pumps", []string{`<details id="start" open>`, `<option value="pump/1.4.0" selected>`, `name="group" value="pumps" checked`}, nil)
	if q := w.last(t, http.MethodGet, "/v1/rollouts").query; q != "group=pumps&limit=51" {
		t.Errorf("asked for %s", q)
	}
	w.get("/rollouts?show=live&after=pump-w")
	if q := w.last(t, http.MethodGet, "/v1/rollouts").query; q != "after=pump-w&limit=51&live=true" {
		t.Errorf("asked for %s", q)
	}
	has(t, w, "/rollouts/pump-x", []string{"the canary is well", "2 of 5, at most 30 of the devices", "soaks until", "22:00–04:00 UTC", "reverted: 1", "<b>reverted</b>: the hub was not reached", "25 % of 4.0 MiB", "downloading", `data-beat="3"`,
		`href="?state=failed"`, `name="device" value="pump-01"`, `name="etag" value="tag-7"`}, []string{`name="device" value="pump-02"`, "First page"})
	has(t, w, "/rollouts/pump-x?state=failed&after=pump-00", []string{`href="?"`, "First page"}, nil)
	if q := w.last(t, http.MethodGet, "/v1/rollouts/pump-x/devices").query; q != "after=pump-00&limit=101&state=failed" {
		t.Errorf("asked for %s", q)
	}
}

// TestRolloutsAreTurnedOver: long lists have a next page.
func TestRolloutsAreTurnedOver(t *testing.T) {
	w := newWorld(t)
	r := w.answers["GET /v1/rollouts/pump-x"].(operator.Rollout)
	w.answers["GET /v1/rollouts"] = slices.Repeat([]operator.Rollout{r}, 51)
	w.answers["GET /v1/rollouts/pump-x/devices"] = slices.Repeat([]operator.RolloutDevice{{Device: "pump-07", State: "waiting"}}, 101)
	has(t, w, "/rollouts?show=live", []string{`rel="next" href="?after=pump-x&amp;show=live"`}, nil)
	has(t, w, "/rollouts/pump-x?state=waiting", []string{`rel="next" href="?after=pump-07&amp;state=waiting"`}, nil)
}

// TestRolloutOffersWhatMakesSense: no act is offered that its stage refuses, and
// only a rollout that goes on is looked at again and again.
func TestRolloutOffersWhatMakesSense(t *testing.T) {
	for stage, want := range map[string]string{"planning": "halt", "running": "halt pause retry", "paused": "halt resume retry", "halted": "resume retry", "finished": "halt retry", "superseded": ""} {
		w := newWorld(t)
		r := w.answers["GET /v1/rollouts/pump-x"].(operator.Rollout)
		r.Stage = stage
		w.answers["GET /v1/rollouts/pump-x"] = r
		body := w.get("/rollouts/pump-x").Body.String()
		got := map[string]bool{}
		for _, verb := range []string{"pause", "resume", "halt", "retry"} {
			if strings.Contains(body, `<details id="`+verb+`"`) {
				got[verb] = true
			}
		}
		if acts := strings.Join(slices.Sorted(maps.Keys(got)), " "); acts != want {
			t.Errorf("%s: offers %q, want %q", stage, acts, want)
		}
		if goes := stage == "planning" || stage == "running" || stage == "paused"; strings.Contains(body, "data-beat") != goes {
			t.Errorf("%s: looked at again: %v", stage, !goes)
		}
		if again := strings.Contains(body, `name="device" value="pump-01"`); again != strings.Contains(want, "retry") {
			t.Errorf("%s: one device may try again: %v", stage, again)
		}
	}
	w := newWorld(t)
	r := w.answers["GET /v1/rollouts/pump-x"].(operator.Rollout)
	r.Counts.Failed, r.Counts.Excluded = 0, 0
	w.answers["GET /v1/rollouts/pump-x"] = r
	has(t, w, "/rollouts/pump-x", nil, []string{`<details id="retry"`})
}

// TestStoppingNeedsNothing: a halt or a pause does not depend on what was on the
// page; to go on does.
func TestStoppingNeedsNothing(t *testing.T) {
	for verb, want := range map[string]string{"pause": "", "halt": "", "resume": `"tag-7"`, "retry": `"tag-7"`} {
		w := newWorld(t)
		r := w.answers["GET /v1/rollouts/pump-x"].(operator.Rollout)
		r.Stage = map[string]string{"resume": "halted"}[verb]
		w.answers["GET /v1/rollouts/pump-x"] = r
		_, form, ok := strings.Cut(w.get("/rollouts/pump-x").Body.String(), `action="/rollouts/pump-x/`+verb+`"`)
		form, _, _ = strings.Cut(form, "</form>")
		if has := strings.Contains(form, `name="etag" value="tag-7"`); ok && has != (want != "") {
			t.Errorf("%s: the form has the rollout's ETag: %v", verb, has)
		}
		values := url.Values{"reason": {"x"}}
		if strings.Contains(form, "etag") {
			values.Set("etag", "tag-7")
		}
		w.answers["POST /v1/rollouts/pump-x/"+verb] = r
		w.post("/rollouts/pump-x/"+verb, values)
		if got := w.last(t, http.MethodPost, "/v1/rollouts/pump-x/"+verb).header.Get("If-Match"); got != want {
			t.Errorf("%s: If-Match %q, want %q", verb, got, want)
		}
	}
}

// TestStartIsRead: what is mistyped is said, keeps what was typed, and asks
// nothing.
func TestStartIsRead(t *testing.T) {
	good := func() url.Values {
		return url.Values{"release": {"pump/1.4.0"}, "group": {"pumps"}, "canary": {"5%"}, "step": {"25%"}, "soak": {"10m"}, "halt_on": {"2%"}, "deadline": {"72h"}, "silent_after": {"30m"}}
	}
	for name, tt := range map[string]struct {
		field, value, said string
	}{
		"no release":         {"release", "", "Choose a release"},
		"a product alone":    {"release", "pump", "Choose a release"},
		"an odd version":     {"release", "pump/latest", "Choose a release"},
		"a product of TUF":   {"release", "root/1.4.0", "Choose a release"},
		"nobody":             {"group", "", "one of the two"},
		"both":               {"devices", "pump-01", "one of the two"},
		"no canary":          {"canary", "0", "more than 0%"},
		"no number":          {"step", "half", "Step: share"},
		"more than all":      {"halt_on", "101%", "Halt on: share"},
		"a negative share":   {"halt_on", "-1", "Halt on: share"},
		"no soak":            {"soak", "", "Soak:"},
		"a negative soak":    {"soak", "-10m", "at least 0s"},
		"part of a second":   {"soak", "1500ms", "Soak:"},
		"days":               {"deadline", "3d", "Deadline:"},
		"a short deadline":   {"deadline", "10s", "at least 1m"},
		"soon silent":        {"silent_after", "1s", "at least 10s"},
		"an odd window":      {"windows", "22-4", "maintenance window"},
		"a window of no day": {"windows", "22:00-26:00", "maintenance window"},
	} {
		w, form := newWorld(t), good()
		form.Set(tt.field, tt.value)
		if tt.value == "" {
			form.Del(tt.field)
		}
		rec := w.post("/rollouts", form)
		body := rec.Body.String()
		if rec.Code != http.StatusUnprocessableEntity || !strings.Contains(refusedText(rec), tt.said) || !strings.Contains(body, `<details id="start" open>`) {
			t.Errorf("%s: status %d: %s", name, rec.Code, refusedText(rec))
		}
		if form.Has("group") != strings.Contains(body, `value="pumps" checked`) || tt.field == "windows" && !strings.Contains(body, `value="`+tt.value+`"`) {
			t.Errorf("%s: what was typed is lost", name)
		}
		for _, a := range w.asked {
			if a.method != http.MethodGet {
				t.Errorf("%s: asked %s %s", name, a.method, a.path)
			}
		}
	}
}

// TestAlertsLeadToWhatTheyAreOf: not all are of devices.
func TestAlertsLeadToWhatTheyAreOf(t *testing.T) {
	w := newWorld(t)
	w.answers["GET /v1/alerts"] = []operator.Alert{{ID: "a", Kind: "halted", Severity: "critical", Time: now}, {ID: "b", Kind: "ending", Severity: "warning", Time: now}, {ID: "c", Kind: "pending", Severity: "info", Time: now}}
	has(t, w, "/alerts", []string{`<a href="/rollouts">a rollout</a>`, `<a href="/releases">the releases</a>`, `<a href="/pending">a device without id</a>`}, nil)
}
