package console_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// operators adds somebody, changes and revokes them, and makes what opens the
// hub: links and tokens.
func operators(t testing.TB, w *world, b *browser) {
	b.open("/operators")
	b.form("/operators", map[string]string{"name": "night shift", "role": "operator"})
	b.see(`document.querySelector("#add[open] .refused")`)
	b.form("/operators", map[string]string{"name": "night-shift", "role": "operator", "groups": "pumps"})
	b.done("Added.")
	b.form("/operators/night-shift/change", map[string]string{"role": "viewer", "groups": "pumps meters"})
	b.done("Saved.")
	b.see(`[...document.querySelectorAll("#accounts tbody tr")].some((r) => r.innerText.includes("night-shift") && r.innerText.includes("viewer") && r.innerText.includes("meters"))`)
	b.click(`form[action="/operators/link"]:has(input[value="night-shift"]) button`, "")
	b.see(`document.querySelector("main > .notice .secret") && document.querySelector("main > .notice .secret").innerText.startsWith("` + w.url + `/login#")`)
	b.form("/operators/night-shift/revoke", map[string]string{"reason": "gone"})
	b.done("Removed.")
	b.see(`[...document.querySelectorAll("#accounts tbody tr")].some((r) => r.innerText.includes("night-shift") && r.innerText.includes("revoked"))`)

	b.open("/account")
	b.form("/account/tokens", map[string]string{"name": "report", "role": "viewer", "days": "0"})
	b.see(`document.querySelector("#add-token[open] .refused")`)
	b.form("/account/tokens", map[string]string{"days": "7"})
	b.see(`document.querySelector(".notice .secret") && document.querySelector(".notice .secret").innerText.length > 30`)
	b.open("/account")
	b.click(`form[action^="/account/tokens/"] button`, "Revoke")
	b.done("The token opens nothing any more.")
}

// viewer logs in somebody who may only look, at some groups.
func viewer(t testing.TB, w *world, b *browser) {
	b.open("/operators")
	b.form("/operators", map[string]string{"name": "guest", "role": "viewer", "groups": "pumps"})
	b.done("Added.")
	l := must(w.api.NewLink(t.Context(), "guest"))(t)
	b.click("#logout button", "")
	b.see(`location.pathname === "/login"`)
	b.do(chromedp.Navigate(l.URL))
	b.see(`location.pathname === "/fleet" && document.querySelector(".who").innerText.includes("viewer")`)
	if eval[bool](b, `document.body.innerText.includes("meter-") || document.body.innerText.includes("valve-01")`) {
		t.Error("a viewer of pumps sees other groups' devices")
	}
	b.open("/devices/pump-02")
	if n := eval[int](b, `document.querySelectorAll(".acts").length`); n != 0 {
		t.Errorf("a viewer is offered %d acts", n)
	}
	for _, at := range []string{"/releases", "/rollouts/" + w.rollout, "/rollouts"} {
		b.open(at)
		if eval[bool](b, `Boolean(document.querySelector("main .acts, main form[method=post], main a[href*='#start'], #repository"))`) || !strings.Contains(b.text("main"), "pump 1.4.0") {
			t.Errorf("%s: a viewer of pumps is offered acts, or sees nothing:\n%s", at, b.text("main"))
		}
	}
	b.open("/devices/valve-01")
	b.see(`document.querySelector(".refused")`)
	b.open("/operators")
	if text := b.text("main"); strings.Contains(text, "admin") || eval[bool](b, `Boolean(document.querySelector("main .acts, main form[action^='/operators']"))`) {
		t.Errorf("a viewer sees of operators:\n%s", text)
	}
}
