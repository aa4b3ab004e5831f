package console_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"holdfast/operator"
)

// evil is markup that would run in any place that takes it for markup, and says
// so in a dialog.
const evil = `"'><img src=x onerror="alert(1)"><script>alert(2)</script><svg onload=alert(3)>`

// hostile stuffs markup into everything that others say, and looks at it on
// every page that shows it. Neither does a script run nor has the page's policy
// anything to block: nothing of it is ever taken for markup.
func hostile(t testing.TB, w *world, b *browser) {
	const id = "pump-66"
	ctx, text := t.Context(), strings.ReplaceAll(strings.ReplaceAll(evil, `\`, `\\`), `"`, `\"`)
	d := w.connect(id)
	d.telemetry(t, evil)
	d.telemetry(t, `{"`+text+`":"`+text+`"}`)
	d.say(t, "devices/"+id+"/messages/events/%22%3E%3Cscript%3Ealert(4)%3C%2Fscript%3E=%3Cimg%20src%3Dx%20onerror%3Dalert(5)%3E", evil)
	d.say(t, "$hub/logs/?$first=1", `[{"seq":1,"boot":1,"level":"error","message":"`+text+`","attrs":{"`+text+`":"`+text+`"}}]`)
	d.report(t, `{"a":"`+text+`"}`)
	must(w.api.MergeTwin(ctx, id, operator.SetTwin{Tags: []byte(`{"t":"` + text + `"}`), Desired: []byte(`{"d":"` + text + `"}`)}, ""))(t)
	must(w.api.SendMessage(ctx, id, operator.SendMessage{Body: evil, Properties: map[string]string{"p": evil}}))(t)
	if err := w.api.AddReference(ctx, operator.Reference{Group: pumps, Kind: "firmware", PCR: 4, Name: evil, Version: evil}); err != nil {
		t.Logf("a reference's name: %v", err) // what is refused cannot be shown
	}
	until(t, "what the device reported", func() bool { return strings.Contains(string(must(w.api.Twin(ctx, id))(t).Reported), "onerror") })

	b.open("/devices/" + id)
	b.form("/devices/"+id+"/method", map[string]string{"method": "echo", "payload": `{"x":"` + text + `"}`})
	b.see(`document.querySelector("#method .notice pre") && document.querySelector("#method .notice pre").innerText.includes("alert(2)")`)
	b.form("/devices/"+id+"/method", map[string]string{"method": evil})
	b.see(`document.querySelector("#method input[name=method]").value.includes("alert(2)")`)
	must(w.api.Act(ctx, id, "quarantine", evil))(t)
	must(w.api.ActOnRollout(ctx, w.rollout, "pause", operator.RolloutAct{Reason: evil}, ""))(t)
	shown := 0
	for _, path := range []string{"/devices/" + id, "/devices/" + id + "/events", "/fleet?search=" + id, "/alerts?show=all", "/ledger", "/ledger?device=" + id,
		"/authorities", "/references?group=pumps", "/pending", "/operators", "/account", "/groups", "/groups/pumps",
		"/releases", "/releases/pump/1.3.0", "/rollouts?release=pump/1.4.0", "/rollouts/" + w.rollout} {
		b.open(path)
		b.see(`document.readyState === "complete"`)
		if path == "/devices/"+id {
			b.see(`document.querySelector("#event-list") && document.querySelector("#event-list").innerText.includes("alert(2)")`)
		}
		if eval[bool](b, `document.documentElement.textContent.includes("alert(2)") || [...document.querySelectorAll("textarea")].some((f) => f.value.includes("alert(2)"))`) {
			shown++
		}
		if n := eval[int](b, `document.querySelectorAll("main script, main img, main [onload], main [onerror]").length`); n != 0 {
			t.Errorf("%s: %d elements come from what others say", path, n)
		}
		b.quiet()
	}
	if shown < 9 {
		t.Errorf("only %d pages show what the device said: the test looks in the wrong places", shown)
	}
	must(w.api.Act(ctx, id, "restore", "seen"))(t)
	must(w.api.ActOnRollout(ctx, w.rollout, "resume", operator.RolloutAct{Reason: "seen"}, ""))(t)
	b.do(chromedp.Navigate("about:blank"))
}
