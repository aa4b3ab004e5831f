package console_test

import (
	"testing"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"holdfast/internal/testkit"
)

// TestConsole is one visit: what it does first the rest builds on, and starting
// a hub and a browser for each would take the longest.
func TestConsole(t *testing.T) {
	chromium := testkit.Need(t, "chromium")
	w := newWorld(t)
	b := newBrowser(t, w, chromium)
	for _, part := range []struct {
		name string
		run  func(testing.TB, *world, *browser)
	}{
		{"strangers are sent to the login", strangers},
		{"a link logs in once", link},
		{"a passkey proves", passkey},
		{"devices come and change before one's eyes", live},
		{"every act", acts},
		{"what waits", waiting},
		{"releases and rollouts", releases},
		{"operators", operators},
		{"markup stays text", hostile},
		{"every page, in both themes and on a phone", everyPage},
		{"by keyboard alone", keyboard},
		{"without scripts", plain},
		{"a viewer sees and does nothing", viewer},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			b := b.in(t)
			part.run(t, w, b)
			b.quiet()
		}) && t.Context().Err() != nil {
			return
		}
	}
}

func strangers(t testing.TB, _ *world, b *browser) {
	b.open("/devices/pump-01")
	b.sees("Choose how to come in.")
	if at := b.location(); at != "/login?next=%2Fdevices%2Fpump-01" {
		t.Errorf("at %s", at)
	}
	b.picture("login")
}

func link(t testing.TB, w *world, b *browser) {
	l := must(w.api.NewLink(t.Context(), ""))(t)
	b.do(chromedp.Navigate(l.URL))
	b.see(`location.pathname === "/fleet" && document.querySelector("h1").innerText === "Fleet"`)
	if eval[string](b, "document.cookie") != "" {
		t.Error("scripts see the session's cookie")
	}
	b.do(chromedp.Navigate("about:blank"), chromedp.Navigate(l.URL))
	b.see(`!document.querySelector("#login-refused").hidden`)
	b.sees("it was used")
	if eval[string](b, "location.hash") != "" {
		t.Error("the link's secret stays in the address")
	}
	b.open("/login?next=/alerts")
	b.see(`location.pathname === "/alerts"`)
}

// passkey adds one, comes in by it, and proves a dangerous act with it.
func passkey(t testing.TB, w *world, b *browser) {
	if _, err := chromedp.Call(b.ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(b.ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true}}); err != nil {
		t.Fatal(err)
	}
	b.open("/account")
	b.see(`!document.querySelector("#add-passkey").hidden`)
	b.do(chromedp.SetValue(chromedp.CSS("#add-passkey input"), "Test <b>key</b>"))
	b.click("#add-passkey button", "")
	b.see(`document.querySelector("#passkeys b") && document.querySelector("#passkeys b").innerText === "Test <b>key</b>"`)

	// Logged in by a link, nobody sets a policy; a passkey is the proof.
	b.open("/groups/meters")
	b.form("/groups/meters/check", nil)
	b.see(`document.querySelector("#effect")`)
	b.do(chromedp.SetValue(chromedp.CSS("textarea[name=policy]"), "policy meters\nlifetime full 12h short 30m\n"))
	b.click("button[formaction]", "Set it")
	b.sees("Prove once more who you are")
	b.picture("step-up")
	b.click("form[data-step-up] button", "")
	b.done("The policy is set.")
	b.sees("version 2")

	b.click("#logout button", "")
	b.see(`location.pathname === "/login" && !document.querySelector("#login-passkey").hidden`)
	b.click("#login-passkey", "")
	b.see(`location.pathname === "/fleet"`)
}

// live looks at pages while devices change. That the page is not loaded anew
// shows in a mark that its window keeps.
func live(t testing.TB, w *world, b *browser) {
	mark := func() {
		b.see(`document.querySelector("#live.on")`)
		b.do(chromedp.Evaluate[chromedp.Void]("window.mark = true"))
	}
	same := func() {
		if !eval[bool](b, "window.mark === true") {
			t.Error("the page was loaded anew")
		}
	}
	status := func(id, s string) string {
		return `[...document.querySelectorAll("#fleet tbody tr")].some((r) => r.innerText.includes("` + id + `") && r.innerText.includes("` + s + `"))`
	}
	b.open("/fleet")
	mark()
	w.connect("pump-01")
	b.see(status("pump-01", "trusted"))
	w.connect("valve-01")
	b.see(status("valve-01", "quarantined"))
	same()

	b.open("/devices/pump-01")
	mark()
	must(w.api.Act(t.Context(), "pump-01", "quarantine", "a look at it"))(t)
	b.see(`document.querySelector("#summary .status").innerText === "quarantined"`)
	b.see(`document.querySelector("#say").innerText.includes("pump-01 is quarantined")`)
	b.see(`document.querySelector("#record-list").innerText.includes("device.quarantine")`)
	same()
	must(w.api.Act(t.Context(), "pump-01", "restore", "looked at it"))(t)
	b.see(`document.querySelector("#summary .status").innerText === "trusted"`)
}
