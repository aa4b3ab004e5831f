package console_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
)

// acts does everything that one can do to devices, groups and what admits them.
func acts(t testing.TB, w *world, b *browser) {
	d := w.connect("pump-02")
	for _, part := range []func(testing.TB, *world, *browser, *device){
		registers, standing, speaks, twin, policies, references, authorities, enrollments, many,
	} {
		part(t, w, b, d)
		b.quiet()
	}
}

func registers(t testing.TB, w *world, b *browser, _ *device) {
	b.open("/fleet")
	b.form("/fleet/add", map[string]string{"id": "a b", "group": "pumps"})
	b.see(`document.querySelector("#add[open] .refused")`)
	b.see(`document.querySelector("#add input[name=id]").value === "a b"`)
	b.form("/fleet/add", map[string]string{"id": "pump-09", "group": "pumps", "token": "1"})
	b.see(`document.querySelector("#add .secret").innerText.length > 20`)
	if d := must(w.api.Device(t.Context(), "pump-09"))(t); d.Group != pumps {
		t.Errorf("registered as %+v", d)
	}
	b.open("/fleet?search=PUMP-0&sort=-id")
	b.see(`[...document.querySelectorAll("#fleet tbody th")].map((e) => e.innerText).join() === "pump-09,pump-02,pump-01"`)
	b.click(".chips a", "offline")
	b.see(`[...document.querySelectorAll("#fleet tbody th")].map((e) => e.innerText).join() === "pump-09"`)
	b.open("/fleet?limit=1")
	b.click("a[rel=next]", "Next")
	b.see(`location.search.includes("after=") && document.querySelectorAll("#fleet tbody tr").length === 1`)
}

// standing holds a device, lets it go, and revokes it for good.
func standing(t testing.TB, w *world, b *browser, _ *device) {
	b.open("/devices/pump-09")
	for _, step := range []struct{ act, said, status string }{
		{"quarantine", "In quarantine.", "quarantined"}, {"restore", "Restored.", "offline"}, {"revoke", "Revoked.", "revoked"},
	} {
		b.form("/devices/pump-09/"+step.act, map[string]string{"reason": "because of " + step.act})
		b.done(step.said)
		b.see(`document.querySelector("#summary .status").innerText === "` + step.status + `"`)
		b.see(`document.querySelector("#record-list").innerText.includes("because of ` + step.act + `")`)
	}
}

// speaks calls a device and sends to it.
func speaks(t testing.TB, w *world, b *browser, d *device) {
	b.open("/devices/pump-02")
	b.form("/devices/pump-02/method", map[string]string{"method": "blink", "payload": `{"times":3}`})
	b.see(`document.querySelector("#method .notice") && document.querySelector("#method .notice").innerText.includes('"times": 3')`)
	b.form("/devices/pump-02/method", map[string]string{"method": "blink", "payload": `{`})
	b.sees("The argument is not JSON.")
	b.see(`document.querySelector("#method textarea").value === "{"`)
	b.form("/devices/pump-02/message", map[string]string{"body": "hello", "expires": "3600"})
	b.done("Queued")
	b.see(`document.querySelector("#queue").innerText.includes("5 bytes")`)
	b.form("/devices/pump-02/purge", nil)
	b.done("The queue is empty.")
	d.telemetry(t, `{"temperature":61.5}`)
	d.say(t, "$hub/logs/?$first=1", `[{"seq":1,"boot":1,"level":"error","message":"TLS alert 48","attrs":{"op":"dial"}}]`)
	until(t, "the log line", func() bool {
		b.open("/devices/pump-02/events?kind=log")
		return strings.Contains(b.text("main"), "TLS alert 48")
	})
	b.open("/devices/pump-02")
	b.see(`document.querySelector("#event-list") && document.querySelector("#event-list").innerText.includes("61.5")`)
}

// twin changes a twin; one that somebody changed meanwhile is not overwritten.
func twin(t testing.TB, w *world, b *browser, d *device) {
	d.report(t, `{"fan":"on"}`)
	until(t, "the report", func() bool {
		return strings.Contains(string(must(w.api.Twin(t.Context(), "pump-02"))(t).Reported), "fan")
	})
	b.open("/devices/pump-02")
	b.sees(`"fan": "on"`)
	b.form("/devices/pump-02/twin", map[string]string{"desired": `{"interval":30}`, "tags": `{"site":"Hall 3"}`})
	b.done("Saved.")
	b.see(`document.querySelector("textarea[name=desired]").value.includes('"interval": 30')`)
	must(w.api.MergeTwin(t.Context(), "pump-02", operator.SetTwin{Desired: []byte(`{"interval":60}`)}, ""))(t)
	b.form("/devices/pump-02/twin", map[string]string{"desired": `{"interval":90}`})
	b.see(`document.querySelector("#twin-form .refused")`)
	b.see(`document.querySelector("textarea[name=desired]").value === '{"interval":90}'`)
}

func policies(t testing.TB, w *world, b *browser, _ *device) {
	b.open("/groups")
	b.form("/groups", map[string]string{"id": "sensors", "policy_name": "bench", "file_keys": "1"})
	b.done("Added.")
	b.sees("Policy bench, version 1")
	b.form("/groups/sensors/settings", map[string]string{"maker_cas": "maker", "ids": "sensor-*", "messages_per_second": "10"})
	b.done("Saved.")
	b.see(`document.querySelector("textarea[name=ids]").value.trim() === "sensor-*"`)
	if v := eval[string](b, `document.querySelector("input[name=messages_per_second]").value`); v != "10" {
		t.Errorf("limit %q", v)
	}

	// A policy that would put a device aside says so before it is set.
	b.open("/groups/pumps")
	b.form("/groups/pumps/check", map[string]string{"policy": "policy pumps\nrequire app.watchdog claimed\n"})
	b.see(`document.querySelector("#effect") && document.querySelector("#effect").innerText.includes("pump-02")`)
	b.see(`document.querySelector("#effect").innerText.includes("quarantined")`)
	b.picture("policy-check")
	if g := must(w.api.Groups(t.Context()))(t); len(g) == 0 {
		t.Error("no groups")
	}
	b.form("/groups/pumps/check", map[string]string{"policy": "policy pumps\nrequire app.wizard claimed\n"})
	b.see(`document.querySelector("#policy .refused") && document.querySelector("#policy .refused").innerText.includes("app.wizard")`)
	b.see(`document.querySelector("textarea[name=policy]").value.includes("app.wizard")`)
}

func references(_ testing.TB, _ *world, b *browser, _ *device) {
	b.open("/references?group=pumps")
	digest := strings.Repeat("ab", 32)
	b.form("/references", map[string]string{"name": "pump-fw", "version": "1.2.0", "kind": "firmware", "pcr": "4", "digest": "zz"})
	b.see(`document.querySelector("#add[open] .refused")`)
	b.form("/references", map[string]string{"digest": digest})
	b.done("Added.")
	b.sees(digest)
	b.form("/references/pumps/"+digest+"/remove", nil)
	b.done("Removed.")
}

// authorities registers a maker's CA and shows that somebody holds its key.
func authorities(t testing.TB, w *world, b *browser, _ *device) {
	ca, key := certify(t, &x509.Certificate{Subject: pkix.Name{CommonName: "second maker"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	b.open("/authorities")
	b.form("/authorities", map[string]string{"name": "second", "kind": "maker", "pem": string(pki.EncodeCerts(ca))})
	b.done("Added.")
	b.form("/authorities/second/verify", nil)
	b.done("Saved.")
	challenge := eval[string](b, `document.querySelector('form[action="/authorities/second/verify"] .secret').innerText`)
	proof, _ := certify(t, &x509.Certificate{Subject: pkix.Name{CommonName: challenge}}, ca, key)
	b.form("/authorities/second/verify", map[string]string{"pem": string(pki.EncodeCerts(proof))})
	b.done("Saved.")
	b.see(`document.querySelector('article[aria-labelledby="ca-second"]').innerText.includes("proved")`)
}

func enrollments(_ testing.TB, _ *world, b *browser, _ *device) {
	b.open("/enrollments")
	b.form("/enrollments", map[string]string{"kind": "individual", "id": "meter-07", "group": "meters", "maker_ca": "maker", "desired": `{"interval":30}`})
	b.done("Added.")
	const at = "/enrollments/individual/meter-07/"
	b.form(at+"disable", nil)
	b.done("Saved.")
	b.sees("refuses")
	b.form(at+"enable", nil)
	b.sees("admits")
	b.form(at+"remove", nil)
	b.done("Removed.")
}

// many revokes several devices at once, which needs a fresh proof.
func many(t testing.TB, w *world, b *browser, _ *device) {
	for _, id := range []identity.Device{"meter-21", "meter-22"} {
		must(w.api.AddDevice(t.Context(), operator.AddDevice{ID: id, Group: meters}))(t)
	}
	b.open("/fleet?search=meter-2")
	b.form("/fleet/revoke", map[string]string{"reason": "recall"})
	b.sees("Choose the devices to revoke.")
	b.open("/fleet?search=meter-2")
	b.do(chromedp.Evaluate[chromedp.Void](`document.querySelectorAll("input[name=device]").forEach((c) => { c.checked = true; })`))
	b.form("/fleet/revoke", map[string]string{"reason": "recall"})
	b.sees("Revoked: 2.")
	if d := must(w.api.Device(t.Context(), "meter-22"))(t); d.Status != "revoked" {
		t.Errorf("meter-22 is %s", d.Status)
	}
}
