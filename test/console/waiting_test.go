package console_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"holdfast/birth"
	"holdfast/birth/birthtest"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/tlspolicy"
)

// waiting accepts one device that nothing admits and refuses another, and
// acknowledges the alert that a quarantine made.
func waiting(t testing.TB, w *world, b *browser) {
	tpms := birthtest.NewMaker(t, time.Now())
	must(w.api.AddCA(t.Context(), operator.CA{Name: "tpms", Kind: "endorsement", Class: string(birth.Software), PEM: string(pki.EncodeCerts(tpms.Root))}))(t)
	w.show(t, tpms.New())
	w.show(t, tpms.New())
	b.open("/pending")
	b.see(`document.querySelectorAll("#pending article").length === 2`)
	b.picture("pending")
	undisturbed(t, w, b, tpms)
	first := eval[string](b, `document.querySelector("#pending article").id.slice(2)`)
	b.form("/pending/"+first+"/accept", map[string]string{"device": "board 1", "group": "pumps"})
	b.see(`document.querySelector("#p-` + first + ` .refused")`)
	b.form("/pending/"+first+"/accept", map[string]string{"device": "pump-31"})
	b.done("Accepted.")
	second := eval[string](b, `[...document.querySelectorAll("#pending article")].map((e) => e.id.slice(2)).find((id) => id !== "`+first+`")`)
	b.form("/pending/"+second+"/refuse", map[string]string{"reason": "not ours"})
	b.done("Refused.")

	b.open("/alerts")
	b.see(`document.querySelector("#alerts tbody") && document.querySelector("#alerts tbody").innerText.includes("valve-01")`)
	b.click("#alerts button", "Acknowledge")
	b.done("Acknowledged.")
	b.open("/alerts?show=all")
	b.sees("seen by admin")

	b.open("/ledger?device=pump-09&kind=device.revoke")
	b.see(`document.querySelectorAll("#ledger tbody tr").length === 1`)
	b.open("/ledger")
	b.sees("The records on this page follow one another, and the first is the one that the head speaks of.")
}

// undisturbed writes while something changes: the part of the page in which one
// writes stays as it is.
func undisturbed(t testing.TB, w *world, b *browser, tpms *birthtest.Maker) {
	b.see(`document.querySelector("#live.on")`)
	b.do(chromedp.Evaluate[chromedp.Void](`{ const ask = window.fetch; window.fetched = 0; window.fetch = async (...a) => { const r = await ask(...a); window.fetched++; return r; }; }`),
		chromedp.SendKeys(chromedp.CSS("#pending input[name=device]"), "pump-30"))
	w.show(t, tpms.New())
	b.see(`window.fetched > 0 && document.querySelector("#live .text").textContent.includes("while you write")`)
	if !eval[bool](b, `document.activeElement.value === "pump-30" && document.querySelectorAll("#pending article").length === 2`) {
		t.Error("what one writes in is replaced")
	}
	b.do(chromedp.Evaluate[chromedp.Void](`document.activeElement.value = ""; document.activeElement.blur()`))
	w.show(t, tpms.New())
	b.see(`document.querySelectorAll("#pending article").length === 4`)
}

// show has a TPM that is on no list ask to be born.
func (w *world) show(t testing.TB, p *birthtest.TPM) {
	t.Helper()
	cfg := must(tlspolicy.Client(tlspolicy.Dialer{Roots: []*x509.Certificate{w.root}, ServerName: "localhost", Now: time.Now,
		Certificate: func() (*tls.Certificate, error) { return nil, nil }}))(t)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}, Timeout: patience}
	defer c.CloseIdleConnections()
	resp := must(c.Post("https://"+w.at.HTTPS+"/enroll/begin", "application/json", bytes.NewReader(must(json.Marshal(p.Show()))(t))))(t)
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("a device that nothing admits: %s", resp.Status)
	}
}
