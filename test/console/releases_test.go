package console_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"encoding/hex"
	"io"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/tuf/author"
)

// publish publishes two releases of pump, of which the older is withdrawn. Their
// metadata ends soon, so that somebody has to be told.
func (w *world) publish(t testing.TB) {
	t.Helper()
	_, classical, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	post := must(mldsa.GenerateKey(mldsa.MLDSA65()))(t)
	keys := author.Quorum{Threshold: 1, Classical: []crypto.PublicKey{classical.Public()}, MLDSA: []*mldsa.PublicKey{post.PublicKey()}}
	sign := func(d *author.Document, err error) []byte {
		if err == nil {
			err = d.Sign(author.Signer{Classical: classical, MLDSA: post}, true, true)
		}
		if err != nil {
			t.Fatal(err)
		}
		return must(d.Bytes())(t)
	}
	at, end := must(w.api.Repository(t.Context()))(t), time.Now().AddDate(1, 0, 0)
	online := func(text string) ed25519.PublicKey { return must(hex.DecodeString(text))(t) }
	pump := author.Product{Name: "pump", Version: 1, Expires: time.Now().AddDate(0, 0, 20), Releases: []release.Release{w.release(t, 3, evil), w.release(t, 4, "")}}
	must(w.api.PublishMetadata(t.Context(), operator.Metadata{Files: map[string][]byte{
		"1.root.json":    sign(author.Root{Version: 1, Expires: end, Release: keys, Snapshot: online(at.SnapshotKey), Timestamp: online(at.TimestampKey)}.Document()),
		"1.targets.json": sign(author.Targets{Version: 1, Expires: end, Products: []author.Delegation{{Product: "pump", Signers: keys}}}.Document()),
		"1.pump.json":    sign(pump.Document()),
	}}))(t)
}

// release uploads the image of a release and returns what is to be signed.
func (w *world) release(t testing.TB, minor uint8, withdrawn string) release.Release {
	t.Helper()
	v := mcuboot.Version{Major: 1, Minor: minor}
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	image := must(mcuboot.Build(make([]byte, 64<<10), v, 7, key))(t)
	blob := release.Blob{Length: int64(len(image)), SHA256: identity.Sum(image)}
	if err := w.api.PutBlob(t.Context(), blob, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(image)), nil }); err != nil {
		t.Fatal(err)
	}
	return release.Release{Image: blob, Target: release.Target{Product: "pump", Version: v, SecurityVersion: 7, Measured: must(mcuboot.Parse(image))(t).Digest,
		Hardware: []string{`"><img src=x onerror="alert(9)">`}, Health: release.Health{Checks: []string{release.CheckHub}, Seconds: 60}, Withdrawn: withdrawn}}
}

// releases publishes, rolls out, and does everything that one can do to a
// rollout, while its page is looked at.
func releases(t testing.TB, w *world, b *browser) {
	for _, part := range []func(testing.TB, *world, *browser){published, started, followed, turned} {
		part(t, w, b)
		b.quiet()
	}
}

func published(t testing.TB, w *world, b *browser) {
	b.open("/rollouts")
	b.click("#start > summary", "")
	b.sees("No release is published that could be rolled out.")
	b.open("/releases")
	b.sees("Nothing is published.")
	b.see(`document.querySelector("#live.on")`)
	w.publish(t)
	b.see(`document.querySelector("#releases tbody") && document.querySelector("#releases tbody").innerText.includes("pump 1.4.0")`)
	b.see(`document.querySelector("#repository tbody") && document.querySelector("#repository tbody").innerText.includes("Only its signers can renew it")`)
	b.see(`document.querySelector("#repository tbody").innerText.includes("1 of 1 keys, and 1 of 1 of ML-DSA-65")`)
	b.click("#releases tbody th a", "pump 1.4.0")
	b.see(`location.pathname === "/releases/pump/1.4.0"`)
	b.sees("It was not rolled out.")
	b.click(".head a.button", "Roll it out")
	b.see(`document.querySelector("#start[open] select[name=release]").value === "pump/1.4.0"`)
}

// started starts a rollout: of the group's devices one has not been here yet, and
// waits; nothing would prove what the others run.
func started(t testing.TB, w *world, b *browser) {
	must(w.api.AddDevice(t.Context(), operator.AddDevice{ID: "pump-40", Group: pumps, Token: true}))(t)
	b.form("/rollouts", map[string]string{"soak": "soon"})
	b.see(`document.querySelector("#start[open] .refused").innerText.includes("one of the two")`)
	b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("#start input[name=group][value=pumps]").checked = true`))
	b.form("/rollouts", map[string]string{"soak": "soon"})
	b.see(`document.querySelector("#start[open] .refused").innerText.includes("Soak")`)
	b.see(`document.querySelector("#start input[name=group][value=pumps]").checked && document.querySelector("#start input[name=soak]").value === "soon"`)
	b.form("/rollouts", map[string]string{"soak": "30s", "windows": "22:00-04:00 04:30-05:00"})
	b.see(`document.querySelector("p.done, form[data-step-up]")`)
	if b.on(`document.querySelector("form[data-step-up]")`) { // the last proof is too long ago
		b.click("form[data-step-up] button", "")
	}
	b.done("Started.")
	b.see(`/^\/rollouts\/pump-/.test(location.pathname)`)
	w.rollout = eval[string](b, `location.pathname.split("/")[2]`)
}

// followed looks at the page while the rollout changes, with and without an
// event that says so. The page is not loaded anew.
func followed(t testing.TB, w *world, b *browser) {
	b.see(`document.querySelector("#summary .status").innerText === "running" && document.querySelector("#summary .progress").innerText === "0 of 2"`)
	b.see(`document.querySelector("#rollout-devices tbody").innerText.includes("nothing attests what it runs")`)
	b.see(`document.querySelector("#live.on")`)
	b.do(chromedp.Evaluate[chromedp.Void](`{ const ask = window.fetch; window.mark = 0; window.fetch = (at, how) => { if (new Headers(how.headers).has("Holdfast-Refresh")) window.mark++; return ask(at, how); }; }`))
	must(w.api.ActOnRollout(t.Context(), w.rollout, "pause", operator.RolloutAct{Reason: "a storm"}, ""))(t)
	b.see(`document.querySelector("#summary .status").innerText === "paused" && document.querySelector("#summary .lead").innerText === "a storm"`)
	b.see(`document.querySelector("#say").innerText.includes("is paused, wave 1")`)
	b.do(chromedp.Evaluate[chromedp.Void]("window.mark = 1"))
	b.see("window.mark > 2")

	// Somebody goes on and pauses again while one writes: what one sends was meant
	// for another rollout.
	b.click("#resume > summary", "")
	must(w.api.ActOnRollout(t.Context(), w.rollout, "resume", operator.RolloutAct{}, ""))(t)
	must(w.api.ActOnRollout(t.Context(), w.rollout, "pause", operator.RolloutAct{Reason: evil}, ""))(t)
	b.see(`document.querySelector("#live .text").textContent.includes("while you write")`)
	if !eval[bool](b, "window.mark > 2") {
		t.Error("the page was loaded anew")
	}
	b.form("/rollouts/"+w.rollout+"/resume", map[string]string{"reason": "the storm is over"})
	b.see(`document.querySelector("#resume[open] .refused").innerText.includes("has gone on")`)
	b.see(`document.querySelector("#resume input[name=reason]").value === "the storm is over"`)
}

// turned does each act, and looks at where else the rollout shows.
func turned(t testing.TB, w *world, b *browser) {
	at := "/rollouts/" + w.rollout
	for _, step := range []struct{ act, said, stage string }{
		{"resume", "Resumed.", "running"}, {"pause", "Paused.", "paused"}, {"retry", "The devices are to try again.", "paused"}, {"halt", "Halted.", "halted"}, {"resume", "Resumed.", "running"},
	} {
		b.form(at+"/"+step.act, map[string]string{"reason": "because of " + step.act})
		b.done(step.said)
		b.see(`document.querySelector("#summary .status").innerText === "` + step.stage + `"`)
	}
	b.click("#rollout-devices .chips a", "excluded")
	b.see(`location.search === "?state=excluded" && ![...document.querySelectorAll("#rollout-devices tbody th")].some((e) => e.innerText === "pump-40")`)
	b.click("#rollout-devices tbody th a", "pump-02")
	b.see(`document.querySelector("#update-list tbody") && document.querySelector("#update-list tbody").innerText.includes("` + w.rollout + `")`)
	b.open("/releases/pump/1.4.0")
	b.see(`document.querySelector("#rollouts tbody th").innerText === "` + w.rollout + `"`)
	b.open("/groups/pumps")
	b.sees("product pump")
	b.click(".head a.button", "Its rollouts")
	b.see(`location.search === "?group=pumps" && document.querySelectorAll("#rollouts tbody tr").length === 1`)
	b.open("/rollouts?group=meters")
	b.sees("None is like that.")
	b.open("/alerts?show=all")
	b.see(`[...document.querySelectorAll("#alerts a")].some((a) => a.innerText === "a rollout" && a.getAttribute("href") === "/rollouts")`)
}
