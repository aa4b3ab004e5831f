package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is one tab, and what it complained of.
type browser struct {
	t    testing.TB
	ctx  context.Context
	url  string // of the console
	shot string // directory of screenshots; empty: none are taken

	*heard
}

// heard is what the browser complained of.
type heard struct {
	mu       sync.Mutex
	complain []string
}

// newBrowser starts Chromium. It takes the hub's own key for its server's, and
// no other that its roots do not vouch for.
func newBrowser(t testing.TB, w *world, chromium string) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium),
		chromedp.Flag("headless", "new"), chromedp.Flag("ignore-certificate-errors-spki-list", w.pin))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, url: w.url, shot: screenshots(t), heard: &heard{}}
	b.do(chromedp.EmulateViewport(1280, 860))
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	must(chromedp.Call(ctx, log.Enable, cdp.Empty{}))(t)
	return b
}

// screenshots is where screenshots go; empty: nobody wants them, and they take
// longer than all else.
func screenshots(t testing.TB) string {
	dir := os.Getenv("HOLDFAST_SCREENSHOTS")
	if dir == "" {
		return ""
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// in returns the same tab for another test, which fails where it does.
func (b *browser) in(t testing.TB) *browser {
	return &browser{t: t, ctx: b.ctx, url: b.url, shot: b.shot, heard: b.heard}
}

// hear keeps what scripts throw, what the page's own policy blocked, and
// dialogs: it says yes to those of the console, and nobody else has any.
func (b *browser) hear(ev any) {
	var text string
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		text = ev.ExceptionDetails.Text
	case *log.EventEntryAdded:
		if ev.Entry.Source == log.EntrySourceNetwork || ev.Entry.Level != log.EntryLevelError { // a refusal is no complaint
			return
		}
		text = ev.Entry.Text
	case *page.EventJavascriptDialogOpening:
		go func() {
			_, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
		}()
		if strings.HasPrefix(ev.Message, "Remove this passkey?") {
			return
		}
		text = "dialog: " + ev.Message
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complain = append(b.complain, text)
}

// do runs steps, for no longer than patience.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := b.try(steps...); err != nil {
		b.picture("failed")
		b.t.Fatalf("%v\nat %s:\n%.3000s", err, b.location(), b.text("body"))
	}
}

func (b *browser) try(steps ...chromedp.Action[chromedp.Void]) error {
	if chromedp.FromContext(b.ctx).Target == nil { // the browser lives as long as the context that started it
		return chromedp.Do(b.ctx, steps...)
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	return chromedp.Do(ctx, steps...)
}

// eval returns the value of an expression on the page, or of its promise.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// on reports whether an expression is true; while a page comes it is not.
func (b *browser) on(expression string) bool {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
	return err == nil && v
}

// see waits until an expression is true.
func (b *browser) see(expression string) {
	b.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if b.on(expression) {
			return
		}
	}
	b.picture("failed")
	b.t.Fatalf("not seen: %s\nat %s:\n%.3000s", expression, b.location(), b.text("body"))
}

// quote writes a text as JavaScript has it.
func quote(s string) string {
	q, _ := json.Marshal(s) // texts always marshal
	return string(q)
}

// sees waits until the page has a text.
func (b *browser) sees(text string) {
	b.t.Helper()
	b.see("document.body && document.body.innerText.includes(" + quote(text) + ")")
}

func (b *browser) text(selector string) string {
	s, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("(document.querySelector("+quote(selector)+") || {innerText: ''}).innerText"))
	return s
}

func (b *browser) location() string {
	s, _ := chromedp.Run(b.ctx, chromedp.Location())
	return strings.TrimPrefix(s, b.url)
}

// open opens a page of the console.
func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.url + path))
}

// click clicks on the first element of a selector that a person would see,
// which has to come where a text is given with that text.
func (b *browser) click(selector, text string) {
	b.t.Helper()
	find := fmt.Sprintf("[...document.querySelectorAll(%s)].find((e) => e.checkVisibility() && e.innerText.includes(%s))", quote(selector), quote(text))
	b.see(find)
	b.do(chromedp.Evaluate[chromedp.Void]("(" + find + ").click()"))
}

// form fills in and sends the form that posts to a path. Fields that another
// element unfolds are unfolded first.
func (b *browser) form(action string, fields map[string]string) {
	b.t.Helper()
	form := `form[method="post"][action="` + action + `"]`
	b.see("document.querySelector(" + quote(form) + ")")
	script := `((form, fields) => {
		for (let d = form.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
		for (const [name, value] of Object.entries(fields)) {
			const f = form.elements[name];
			if (!f) throw new Error("no field " + name);
			if (f.type === "checkbox") f.checked = value !== ""; else f.value = value;
		}
		(form.querySelector("button:not([formaction])") || form.querySelector("button")).click();
	})(document.querySelector(%s), %s || {})`
	values, _ := json.Marshal(fields) // texts always marshal
	b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(script, quote(form), values)))
}

// done waits until the page says that an act is done.
func (b *browser) done(text string) {
	b.t.Helper()
	b.see(`document.querySelector("p.done") && document.querySelector("p.done").innerText.includes(` + quote(text) + ")")
}

// scheme makes the system light or dark.
func (b *browser) scheme(name string) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}}); err != nil {
		b.t.Fatal(err)
	}
}

// picture keeps a screenshot of the whole page.
func (b *browser) picture(name string) {
	b.t.Helper()
	if b.shot == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Errorf("screenshot %s: %v", name, err)
		return
	}
	if err := os.WriteFile(filepath.Join(b.shot, name+".png"), png, 0o644); err != nil {
		b.t.Error(err)
	}
}

// quiet fails the test where the browser complained since it was last asked.
func (b *browser) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.complain {
		b.t.Errorf("at %s the browser complains: %s", b.location(), c)
	}
	b.complain = nil
}
