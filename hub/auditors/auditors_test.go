package auditors_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/finding"
	"holdfast/hub/auditors"
	"holdfast/hub/store"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/statement"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// world is the auditors of a hub on a real store.
type world struct {
	*auditors.Auditors
	t     *testing.T
	path  string
	store *store.Store

	lines    []string // of the ledger
	full     bool     // the ledger is
	roles    map[identity.Digest]string
	broken   error // of Role
	claims   map[identity.Digest]string
	releases []release.Release
	docs     map[identity.Digest][]byte
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, path: filepath.Join(t.TempDir(), "hub.db"), roles: map[identity.Digest]string{}, claims: map[identity.Digest]string{}, docs: map[identity.Digest][]byte{}}
	w.open()
	t.Cleanup(func() { w.store.Close() })
	return w
}

// open begins, as after a restart.
func (w *world) open() {
	w.t.Helper()
	if w.store != nil {
		w.must(w.store.Close())
	}
	var err error
	w.store, err = store.Open(w.t.Context(), w.path)
	w.must(err)
	w.Auditors, err = auditors.New(auditors.Config{Store: w.store.Auditors(), Releases: w, Keys: w, Ledger: w, Now: func() time.Time { return now }})
	w.must(err)
	w.must(w.Refresh(w.t.Context()))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// refused checks that err is of a kind and says something.
func (w *world) refused(err error, kind fault.Kind, says string) {
	w.t.Helper()
	if err == nil || fault.Of(err) != kind || !strings.Contains(fault.Public(err), says) {
		w.t.Errorf("error %v (%v), want %v with %q", err, fault.Of(err), kind, says)
	}
}

func (w *world) Record(_ context.Context, kind string, _ identity.Device, details any) error {
	if w.full {
		return errors.New("the ledger is out of order")
	}
	b, err := json.Marshal(details)
	w.lines = append(w.lines, kind+" "+string(b))
	return err
}

func (w *world) Role(_ context.Context, key identity.Digest) (string, error) {
	return w.roles[key], w.broken
}

func (w *world) Claim(_ context.Context, key identity.Digest, name string) error {
	if was := w.claims[key]; was != "" && was != name {
		return fault.New(fault.Conflict, "the key is the operator key of %s", was)
	}
	w.claims[key] = name
	return nil
}

func (w *world) Releases(context.Context) []release.Release { return w.releases }

func (w *world) Document(_ context.Context, b release.Blob) ([]byte, error) {
	if doc, ok := w.docs[b.SHA256]; ok {
		return doc, nil
	}
	return nil, errors.New("it is not there")
}

// auditor is a key.
type auditor struct {
	crypto.Signer
	pem string
	id  identity.Digest
}

func newKey(t *testing.T) auditor {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return auditor{key, pemOf(t, key.Public()), must(identity.KeyDigest(key.Public()))}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func pemOf(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func (w *world) add(name string) auditor {
	w.t.Helper()
	k := newKey(w.t)
	_, err := w.AddAuditor(w.t.Context(), "ada", operator.Auditor{Name: name, Key: k.pem})
	w.must(err)
	return k
}

func image(name string) identity.Digest { return identity.Sum([]byte(name)) }

// says signs a statement about images, with a verdict on the stack; a name with
// "?" is of an image that was not shown to match.
func says(t *testing.T, k auditor, at time.Time, v measure.Verdict, images ...string) []byte {
	t.Helper()
	s := &statement.Statement{Type: statement.Type, PredicateType: statement.PredicateType, Predicate: statement.Predicate{
		Auditor: "holdfast 1", Rules: "r", Time: at, Rows: []finding.Row{
			{Measure: measure.MemoryStack, Verdict: v, Applies: true, Reason: "STK-01: seen"},
			{Measure: measure.CryptoEntropy, Verdict: v, Applies: true, Reason: "ENT-01: seen"}}}}
	add := func(name string, d identity.Digest) {
		x := statement.Subject{Name: name}
		x.Digest.SHA256 = d
		s.Subject = append(s.Subject, x)
	}
	add("app.elf", image("app.elf"))
	for _, name := range images {
		img := finding.Image{File: name, Measured: image(name), Matches: "app.elf"}
		if strings.HasSuffix(name, "?") {
			img.Matches = ""
		}
		add(name, img.Measured)
		s.Predicate.Images = append(s.Predicate.Images, img)
	}
	b, err := statement.Sign(t.Context(), s, k)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *world) give(envelope []byte) operator.Audit {
	w.t.Helper()
	one, err := w.AddAudit(w.t.Context(), "ada", envelope)
	w.must(err)
	return one
}

// counts checks what counts about an image: auditor and verdict, by auditor.
func (w *world) counts(img string, want ...string) {
	w.t.Helper()
	var got []string
	for _, a := range w.Of(image(img)) {
		if len(a.Rows) != 1 {
			w.t.Errorf("%d rows about %s, of which one is for statements to prove", len(a.Rows), img)
		}
		got = append(got, a.Auditor+" "+string(a.Rows[0].Verdict))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		w.t.Errorf("of %s counts %q, want %q", img, got, want)
	}
}

func TestAddAuditorRefuses(t *testing.T) {
	w := newWorld(t)
	lab := w.add("lab")
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	w.must(err)
	taken, theirs := newKey(t), newKey(t)
	w.roles[taken.id] = "a release key"
	w.claims[theirs.id] = "bob"
	before := len(w.lines)
	for name, c := range map[string]struct {
		name, key string
		kind      fault.Kind
		says      string
	}{
		"no name":       {"", newKey(t).pem, fault.Invalid, "want a name"},
		"an odd name":   {"a b", newKey(t).pem, fault.Invalid, "want a name"},
		"no key":        {"a", "key", fault.Invalid, "one public key"},
		"P-384":         {"a", pemOf(t, p384.Public()), fault.Invalid, "P-256 or Ed25519"},
		"name taken":    {"lab", newKey(t).pem, fault.Conflict, "lab is registered"},
		"key taken":     {"other", lab.pem, fault.Conflict, "lab is registered"},
		"release key":   {"a", taken.pem, fault.Conflict, "a release key"},
		"operator's":    {"a", theirs.pem, fault.Conflict, "operator key of bob"},
		"private parts": {"a", lab.pem + lab.pem, fault.Invalid, "one public key"},
	} {
		_, err := w.AddAuditor(t.Context(), "ada", operator.Auditor{Name: c.name, Key: c.key})
		t.Log(name)
		w.refused(err, c.kind, c.says)
	}
	all, err := w.List(t.Context())
	w.must(err)
	if len(all) != 1 || all[0].Name != "lab" || all[0].ID != lab.id || all[0].By != "ada" || !all[0].Added.Equal(now) || len(w.lines) != before {
		t.Errorf("%+v; ledger %q", all, w.lines[before:])
	}
	w.full = true
	if _, err := w.AddAuditor(t.Context(), "ada", operator.Auditor{Name: "b", Key: newKey(t).pem}); err == nil {
		t.Error("added without a record")
	}
}

func TestAddAuditRefuses(t *testing.T) {
	w := newWorld(t)
	lab, stranger := w.add("lab"), newKey(t)
	good := says(t, lab, now, measure.Pass, "app.bin")
	spoil := func(f func(map[string]any)) []byte {
		var e map[string]any
		w.must(json.Unmarshal(good, &e))
		f(e)
		return must(json.Marshal(e))
	}
	for name, c := range map[string]struct {
		envelope []byte
		kind     fault.Kind
		says     string
	}{
		"nothing":          {nil, fault.Invalid, "no DSSE envelope"},
		"no envelope":      {[]byte("[1]"), fault.Invalid, "no DSSE envelope"},
		"too large":        {make([]byte, statement.MaxSize+1), fault.Invalid, "at most"},
		"not signed":       {spoil(func(e map[string]any) { e["signatures"] = []any{} }), fault.Integrity, "not signed"},
		"unknown auditor":  {says(t, stranger, now, measure.Pass, "app.bin"), fault.Integrity, "names the key \"" + stranger.id.String()},
		"changed":          {spoil(func(e map[string]any) { e["payload"] = "e30=" }), fault.Integrity, "auditor lab does not verify"},
		"another payload":  {spoil(func(e map[string]any) { e["payloadType"] = "text/plain" }), fault.Invalid, "payload of type"},
		"about no image":   {says(t, lab, now, measure.Pass), fault.Integrity, "about no image"},
		"not shown to be":  {says(t, lab, now, measure.Pass, "app.bin?"), fault.Integrity, "about no image"},
		"of the future":    {says(t, lab, now.Add(time.Hour), measure.Pass, "app.bin"), fault.Invalid, "has not come yet"},
		"cut off envelope": {good[:len(good)/2], fault.Invalid, "no DSSE envelope"},
	} {
		_, err := w.AddAudit(t.Context(), "ada", c.envelope)
		t.Log(name)
		w.refused(err, c.kind, c.says)
	}
	w.counts("app.bin")
	w.full = true
	if _, err := w.AddAudit(t.Context(), "ada", good); err == nil {
		t.Error("added without a record")
	}
	w.full = false
	one := w.give(good)
	if one.ID != identity.Sum(good) || one.Auditor != "lab" || one.Program != "holdfast 1" || one.By != "ada" || !one.Received.Equal(now) || len(one.Images) != 1 || len(one.Rows) != 2 {
		t.Errorf("%+v", one)
	}
	lines := len(w.lines)
	w.give(good) // the same again
	if len(w.lines) != lines {
		t.Errorf("recorded again: %q", w.lines[lines:])
	}
	w.counts("app.bin", "lab pass")
}

// TestWhatCounts: the newest of each auditor about each image.
func TestWhatCounts(t *testing.T) {
	w := newWorld(t)
	lab, other := w.add("lab"), w.add("other")
	if w.Epoch() != (identity.Digest{}) {
		t.Error("something counts")
	}
	older := w.give(says(t, lab, now.Add(-time.Hour), measure.Pass, "a", "b", "c?"))
	changed, epoch := w.Changed(), w.Epoch()
	w.give(says(t, lab, now, measure.Fail, "a"))
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	if w.Epoch() == epoch {
		t.Error("another statement counts in the same epoch")
	}
	epoch = w.Epoch()
	w.give(says(t, lab, now.Add(-2*time.Hour), measure.Unknown, "a"))
	if w.Epoch() != epoch {
		t.Error("an old statement makes a new epoch")
	}
	w.give(says(t, other, now.Add(-3*time.Hour), measure.Pass, "a"))
	check := func() {
		t.Helper()
		w.counts("a", "lab fail", "other pass")
		w.counts("b", "lab pass")
		w.counts("c?")
		w.counts("app.elf")
	}
	check()
	epoch = w.Epoch()
	w.open()
	check()
	if w.Epoch() != epoch {
		t.Error("the epoch is another after a restart")
	}
	all, err := w.Audits(t.Context(), image("a"))
	w.must(err)
	var olds []bool
	for _, a := range all {
		olds = append(olds, a.Older)
	}
	if fmt.Sprint(olds) != "[false false true false]" { // newest first; the second still counts for b
		t.Errorf("older: %v", olds)
	}
	if all, _ := w.Audits(t.Context(), identity.Digest{}); len(all) != 4 {
		t.Errorf("%d statements", len(all))
	}

	w.must(w.RemoveAudit(t.Context(), "ada", older.ID))
	w.counts("b")
	w.refused(w.RemoveAudit(t.Context(), "ada", older.ID), fault.NotFound, "no statement")
	_, err = w.Audit(t.Context(), older.ID)
	w.refused(err, fault.NotFound, "no statement")
}

// TestRemovedAuditor: what it signed stops counting before the answer.
func TestRemovedAuditor(t *testing.T) {
	w := newWorld(t)
	lab := w.add("lab")
	envelope := says(t, lab, now, measure.Pass, "a")
	w.give(envelope)
	w.refused(w.RemoveAuditor(t.Context(), "ada", "nobody"), fault.NotFound, "no auditor")
	w.full = true
	if err := w.RemoveAuditor(t.Context(), "ada", "lab"); err == nil {
		t.Error("removed without a record")
	}
	w.counts("a", "lab pass")
	w.full = false
	w.must(w.RemoveAuditor(t.Context(), "ada", "lab"))
	w.counts("a")
	if !strings.Contains(strings.Join(w.lines, "\n"), `auditor.remove {"by":"ada"`) {
		t.Errorf("ledger %q", w.lines)
	}
	_, err := w.AddAudit(t.Context(), "ada", envelope)
	w.refused(err, fault.Integrity, "no registered auditor")

	_, err = w.AddAuditor(t.Context(), "ada", operator.Auditor{Name: "lab", Key: lab.pem})
	w.must(err)
	w.counts("a") // its statements went with it
	w.give(envelope)
	w.counts("a", "lab pass")
	w.broken = errors.New("nobody can look") // what cannot be looked at does not count
	if err := w.RemoveAudit(t.Context(), "ada", identity.Sum(envelope)); err == nil {
		t.Error("no error")
	}
	w.counts("a")
}

// TestKeyThatGetsAnotherRole afterwards: its statements count no more.
func TestKeyThatGetsAnotherRole(t *testing.T) {
	w := newWorld(t)
	lab := w.add("lab")
	w.give(says(t, lab, now, measure.Pass, "a"))
	w.roles[lab.id] = "a release key"
	w.must(w.Refresh(t.Context()))
	w.counts("a")
	all, err := w.List(t.Context())
	w.must(err)
	if len(all) != 1 || !strings.Contains(all[0].Trouble, "a release key") {
		t.Errorf("%+v", all)
	}
	delete(w.roles, lab.id)
	w.must(w.Refresh(t.Context()))
	w.counts("a", "lab pass")
}

// TestStatementsOfReleases count as long as the release is published.
func TestStatementsOfReleases(t *testing.T) {
	w := newWorld(t)
	lab := w.add("lab")
	envelope := says(t, lab, now, measure.Pass, "a")
	id := identity.Sum(envelope)
	r := release.Release{Target: release.Target{Product: "pump", Version: mcuboot.Version{Major: 1}, Measured: image("a"),
		Audit: &release.Blob{Length: int64(len(envelope)), SHA256: id}}}
	w.must(w.CheckRelease(t.Context(), r, envelope))
	wrong := r
	wrong.Measured = image("b")
	w.refused(w.CheckRelease(t.Context(), wrong, envelope), fault.Integrity, "not about its image")
	w.refused(w.CheckRelease(t.Context(), r, says(t, newKey(t), now, measure.Pass, "a")), fault.Integrity, "no registered auditor")

	w.releases = []release.Release{r, {Target: release.Target{Product: "pump", Version: mcuboot.Version{Major: 2}}}}
	w.must(w.Refresh(t.Context()))
	w.counts("a") // it cannot be read
	w.docs[id] = envelope
	w.must(w.Refresh(t.Context()))
	w.counts("a", "lab pass")
	one, err := w.Audit(t.Context(), id)
	w.must(err)
	if one.Release != "pump 1.0.0" || one.By != "" || !one.Received.IsZero() {
		t.Errorf("%+v", one)
	}
	w.refused(w.RemoveAudit(t.Context(), "ada", id), fault.Conflict, "pump 1.0.0")

	w.give(envelope) // an operator adds it too: then it stays without the release
	w.releases = nil
	w.must(w.Refresh(t.Context()))
	w.counts("a", "lab pass")
	w.must(w.RemoveAudit(t.Context(), "ada", id))
	w.counts("a")
}

func TestNewDemandsItsParts(t *testing.T) {
	if _, err := auditors.New(auditors.Config{}); err == nil {
		t.Error("no error")
	}
}
