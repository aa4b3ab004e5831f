package console_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// pages are all pages, by the names of their screenshots.
func (w *world) pages() map[string]string {
	return map[string]string{
		"fleet": "/fleet", "device": "/devices/pump-02", "device-quarantined": "/devices/valve-01", "events": "/devices/pump-02/events", "groups": "/groups", "group": "/groups/pumps",
		"pending": "/pending", "alerts": "/alerts?show=all", "ledger": "/ledger", "authorities": "/authorities", "references": "/references",
		"enrollments": "/enrollments", "operators": "/operators", "account": "/account", "trends": "/charts", "none": "/nothing",
		"releases": "/releases", "release": "/releases/pump/1.4.0", "rollouts": "/rollouts?release=pump/1.4.0&group=pumps", "rollout": "/rollouts/" + w.rollout,
	}
}

// finding is a violation that axe found.
type finding struct {
	ID     string   `json:"id"`
	Impact string   `json:"impact"`
	Help   string   `json:"help"`
	Nodes  []string `json:"nodes"`
}

// everyPage looks at each page as people do: in the light and in the dark, and
// on a phone, where nothing needs scrolling sideways. axe finds nothing that is
// serious.
func everyPage(t testing.TB, w *world, b *browser) {
	axe, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	if err != nil {
		if os.Getenv("HOLDFAST_REQUIRE") != "" {
			t.Fatalf("axe is required here: %v", err)
		}
		t.Skip("axe is not installed: scripts/setup test does")
	}
	if _, err := chromedp.Call(b.ctx, page.SetBypassCSP, page.SetBypassCSPParams{Enabled: true}); err != nil { // for axe alone
		t.Fatal(err)
	}
	defer func() { _, _ = chromedp.Call(b.ctx, page.SetBypassCSP, page.SetBypassCSPParams{}) }()
	pages := w.pages()
	names := slices.Sorted(maps.Keys(pages))
	look := func(name, as string, width int64) {
		if wide := eval[int64](b, "document.documentElement.scrollWidth"); wide > width {
			t.Errorf("%s, %s: %d pixels wide", name, as, wide)
		}
		b.picture(as + "-" + name)
	}
	open := func(name string) {
		b.open(pages[name])
		b.see(`document.readyState === "complete" && document.querySelector("h1")`)
	}
	for _, name := range names {
		b.scheme("light")
		open(name)
		look(name, "light", 1280)
		b.do(chromedp.Evaluate[chromedp.Void](string(axe) + "\n;undefined"))
		accessible(t, b, `{resultTypes: ["violations"]}`)
		b.scheme("dark")
		look(name, "dark", 1280)
		accessible(t, b, `{resultTypes: ["violations"], runOnly: ["color-contrast"]}`) // nothing else is new in the dark
	}
	b.scheme("light")
	b.do(chromedp.EmulateViewport(375, 740))
	for _, name := range names {
		open(name)
		look(name, "phone", 375)
	}
	b.scheme("")
	b.do(chromedp.EmulateViewport(1280, 860))
	themes(t, b)
}

// accessible has axe, which the page has to have, look at it by some rules.
func accessible(t testing.TB, b *browser, rules string) {
	t.Helper()
	for _, f := range eval[[]finding](b, `axe.run(document, `+rules+`).then((r) => r.violations.map((v) => ({id: v.id, impact: v.impact || "", help: v.help, nodes: v.nodes.map((n) => n.html.slice(0, 160))})))`) {
		if f.Impact == "serious" || f.Impact == "critical" {
			t.Errorf("%s: %s (%s): %s\n%s", b.location(), f.ID, f.Impact, f.Help, strings.Join(f.Nodes, "\n"))
		}
	}
}

// themes presses the button, whose choice outlasts the page.
func themes(t testing.TB, b *browser) {
	b.open("/groups")
	b.see(`!document.querySelector("#theme").hidden`)
	seen := map[string]bool{}
	for _, want := range []string{"light", "dark"} {
		b.click("#theme", "")
		b.open("/groups")
		b.see(`document.documentElement.dataset.theme === "` + want + `"`)
		seen[eval[string](b, `getComputedStyle(document.querySelector(".top")).backgroundColor`)] = true
	}
	if len(seen) != 2 {
		t.Errorf("both themes look the same: %v", seen)
	}
	b.click("#theme", "")
	b.see(`document.documentElement.dataset.theme === undefined`)
}

// keyboard puts a device aside without a mouse.
func keyboard(t testing.TB, w *world, b *browser) {
	tab := func(what, is string) {
		t.Helper()
		for range 120 {
			b.do(chromedp.KeyEvent(kb.Tab))
			if b.on("(() => { const e = document.activeElement; return " + is + "; })()") {
				if !b.on(`(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle !== "none" || s.boxShadow !== "none"; })()`) {
					t.Errorf("%s: one does not see that it has the focus", what)
				}
				return
			}
		}
		t.Fatalf("the tab key does not reach %s", what)
	}
	press := func(key string) { b.do(chromedp.KeyEvent(key)) }
	b.open("/fleet?search=pump-02")
	tab("the way past the menu", `e.classList.contains("skip")`)
	press(kb.Enter)
	b.see(`document.activeElement.id === "main"`)
	tab("the device", `e.matches("th a") && e.innerText === "pump-02"`)
	press(kb.Enter)
	b.see(`location.pathname === "/devices/pump-02"`)
	tab("the act", `e.matches("#quarantine > summary")`)
	press(kb.Enter)
	tab("the reason", `e.matches("#quarantine input[name=reason]")`)
	press("by hand")
	tab("the button", `e.matches("#quarantine button")`)
	press(kb.Enter)
	b.done("In quarantine.")
	must(w.api.Act(t.Context(), "pump-02", "restore", "seen"))(t)

	b.open("/rollouts/" + w.rollout)
	b.do(chromedp.Focus(chromedp.CSS("#main")))
	tab("the act on the rollout", `e.matches("#pause > summary")`)
	press(kb.Enter)
	tab("the reason", `e.matches("#pause input[name=reason]")`)
	press("by hand")
	press(kb.Enter)
	b.done("Paused.")
}

// plain has a browser that runs no scripts.
func plain(t testing.TB, w *world, b *browser) {
	scripts := func(off bool) {
		if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: off}); err != nil {
			t.Fatal(err)
		}
	}
	scripts(true)
	defer scripts(false)
	b.open("/devices/pump-02")
	b.do(chromedp.Click(chromedp.CSS("#quarantine > summary")), chromedp.SendKeys(chromedp.CSS("#quarantine input[name=reason]"), "no scripts"),
		chromedp.Click(chromedp.CSS("#quarantine button")), chromedp.WaitVisible(chromedp.CSS("p.done")))
	if d := must(w.api.Device(t.Context(), "pump-02"))(t); d.Status != "quarantined" {
		t.Errorf("pump-02 is %s", d.Status)
	}
	must(w.api.Act(t.Context(), "pump-02", "restore", "seen"))(t)

	b.open("/rollouts/" + w.rollout)
	b.do(chromedp.Click(chromedp.CSS("#halt > summary")), chromedp.SendKeys(chromedp.CSS("#halt input[name=reason]"), "no scripts"),
		chromedp.Click(chromedp.CSS("#halt button")), chromedp.WaitVisible(chromedp.CSS("p.done")))
	if r := must(w.api.Rollout(t.Context(), w.rollout))(t); r.Stage != "halted" || r.Reason != "no scripts" {
		t.Errorf("the rollout is %s: %s", r.Stage, r.Reason)
	}
}
