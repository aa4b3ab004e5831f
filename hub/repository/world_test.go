package repository_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/hub/repository"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/release"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

var begin = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// entry is what a ledger was told.
type entry struct {
	kind    string
	details map[string]any
}

// world is a repository with the release keys that sign for it.
type world struct {
	testing.TB
	*repository.Repository
	dir     string
	secret  pki.Secret
	signers []author.Signer
	key     *ecdsa.PrivateKey // signs images
	log     bytes.Buffer

	audit func(r release.Release, envelope []byte) error // of releases; nil: all are good

	mu     sync.Mutex
	now    time.Time
	ledger []entry
	deaf   error // what the ledger answers
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, dir: filepath.Join(t.TempDir(), "repository"), now: begin}
	var err error
	if w.secret, err = pki.ParseSecret(pki.NewSecret()); err != nil {
		t.Fatal(err)
	}
	if w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.signers = append(w.signers, newSigner(t))
	}
	w.open()
	return w
}

func newSigner(t testing.TB) author.Signer {
	t.Helper()
	_, classical, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	post, err := mldsa.GenerateKey(mldsa.MLDSA65())
	if err != nil {
		t.Fatal(err)
	}
	return author.Signer{Classical: classical, MLDSA: post}
}

// open opens the repository anew, as a hub does that starts.
func (w *world) open() {
	w.Helper()
	r, err := repository.New(repository.Config{Dir: w.dir, Secret: w.secret, Ledger: w, Now: w.clock, Audit: w.judged, Log: slog.New(slog.NewTextHandler(&w.log, nil))})
	if err != nil {
		w.Fatal(err)
	}
	w.Repository = r
}

func (w *world) judged(_ context.Context, r release.Release, envelope []byte) error {
	if w.audit == nil {
		return nil
	}
	return w.audit(r, envelope)
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) later(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// Record implements repository.Ledger.
func (w *world) Record(_ context.Context, kind string, _ identity.Device, details any) error {
	b, err := json.Marshal(details)
	if err != nil {
		return err
	}
	e := entry{kind: kind}
	if err := json.Unmarshal(b, &e.details); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deaf == nil {
		w.ledger = append(w.ledger, e)
	}
	return w.deaf
}

// recorded returns the kinds that were recorded since it was last asked.
func (w *world) recorded() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var kinds []string
	for _, e := range w.ledger {
		kinds = append(kinds, e.kind)
	}
	w.ledger = nil
	return kinds
}

func quorum(threshold int, signers ...author.Signer) author.Quorum {
	q := author.Quorum{Threshold: threshold}
	for _, s := range signers {
		q.Classical = append(q.Classical, s.Classical.Public())
		q.MLDSA = append(q.MLDSA, s.MLDSA.PublicKey())
	}
	return q
}

func publicKey(t testing.TB, text string) ed25519.PublicKey {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sign returns a file that some have signed.
func (w *world) sign(d *author.Document, err error, signers ...author.Signer) []byte {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
	for _, s := range signers {
		if err := d.Sign(s, true, true); err != nil {
			w.Fatal(err)
		}
	}
	b, err := d.Bytes()
	if err != nil {
		w.Fatal(err)
	}
	return b
}

func (w *world) root(version int64, change func(*author.Root)) []byte {
	w.Helper()
	at, err := w.Describe(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	r := author.Root{Version: version, Expires: begin.AddDate(1, 0, 0), Release: quorum(2, w.signers...),
		Snapshot: publicKey(w, at.SnapshotKey), Timestamp: publicKey(w, at.TimestampKey)}
	if change != nil {
		change(&r)
	}
	d, err := r.Document()
	return w.sign(d, err, w.signers[0], w.signers[1])
}

func (w *world) targets(version int64, products ...release.Product) []byte {
	w.Helper()
	t := author.Targets{Version: version, Expires: begin.AddDate(0, 6, 0)}
	for _, p := range products {
		t.Products = append(t.Products, author.Delegation{Product: p, Signers: quorum(2, w.signers...)})
	}
	d, err := t.Document()
	return w.sign(d, err, w.signers[1], w.signers[2])
}

func (w *world) product(version int64, rels ...release.Release) []byte {
	w.Helper()
	d, err := author.Product{Name: "pump", Version: version, Expires: begin.AddDate(0, 3, 0), Releases: rels}.Document()
	return w.sign(d, err, w.signers[0], w.signers[2])
}

// image is an image of pump of n bytes or so, the same each time for most of it.
func (w *world) image(minor uint8, n int) []byte {
	w.Helper()
	payload := make([]byte, n)
	_, _ = mathrand.NewChaCha8([32]byte{1}).Read(payload)
	copy(payload, fmt.Sprint("version", minor))
	b, err := mcuboot.Build(payload, mcuboot.Version{Major: 1, Minor: minor}, 7, w.key)
	if err != nil {
		w.Fatal(err)
	}
	return b
}

func blob(b []byte) release.Blob {
	return release.Blob{Length: int64(len(b)), SHA256: identity.Sum(b)}
}

func (w *world) release(image []byte) release.Release {
	w.Helper()
	img, err := mcuboot.Parse(image)
	if err != nil {
		w.Fatal(err)
	}
	sbom := blob([]byte("{}"))
	return release.Release{Image: blob(image), Target: release.Target{Product: "pump", Version: img.Version, SecurityVersion: img.SecurityCounter,
		Measured: img.Digest, SBOM: &sbom, Health: release.Health{Seconds: 60}}}
}

func (w *world) upload(contents ...[]byte) {
	w.Helper()
	for _, b := range append(contents, []byte("{}")) {
		if err := w.PutBlob(w.Context(), identity.Sum(b), int64(len(b)), bytes.NewReader(b)); err != nil {
			w.Fatal(err)
		}
	}
}

func may() error { return nil }

func (w *world) try(files map[string][]byte) error {
	_, err := w.Publish(w.Context(), "ada", operator.Metadata{Files: files}, may)
	return err
}

func (w *world) publish(files map[string][]byte) {
	w.Helper()
	if err := w.try(files); err != nil {
		w.Fatal(err)
	}
}

// first publishes releases of the given images.
func (w *world) first(images ...[]byte) []release.Release {
	w.Helper()
	w.upload(images...)
	var rels []release.Release
	for _, b := range images {
		rels = append(rels, w.release(b))
	}
	w.publish(map[string][]byte{"1.root.json": w.root(1, nil), "1.targets.json": w.targets(1, "pump"), "1.pump.json": w.product(1, rels...)})
	return rels
}

// who lets everybody in, as pump-01.
func who(*http.Request) (repository.Client, error) {
	return repository.Client{Device: "pump-01", Group: "pumps"}, nil
}

func (w *world) get(path string, header ...string) *httptest.ResponseRecorder {
	w.Helper()
	req := httptest.NewRequest("GET", path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.Handler(who).ServeHTTP(rec, req)
	return rec
}

// fetch refreshes a device's trust from the repository as it serves it.
func (w *world) fetch(t *tuf.Trust) error {
	r := t.Refresh(tuf.At(w.clock()), t.Products()...)
	for _, round := range []int{1, 2} { // targets may name products that were not known
		if round == 2 {
			r = t.Refresh(tuf.At(w.clock()), t.Products()...)
		}
		for f, ok := r.Next(); ok; f, ok = r.Next() {
			rec := w.get("/repository/" + f.Name)
			err := error(nil)
			switch {
			case rec.Code == http.StatusNotFound:
				err = r.Absent()
			case rec.Code != http.StatusOK:
				err = fmt.Errorf("%s: %d", f.Name, rec.Code)
			default:
				err = r.Take(rec.Body.Bytes())
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// device is what a new device trusts once it has refreshed.
func (w *world) device(root []byte) *tuf.Trust {
	w.Helper()
	t, err := tuf.NewTrust(root, tuf.DefaultLimits())
	if err != nil {
		w.Fatal(err)
	}
	if err := w.fetch(t); err != nil {
		w.Fatal(err)
	}
	return t
}

// kindOf checks what an error is.
func kindOf(t testing.TB, what string, err error, kind fault.Kind, attack release.Attack) {
	t.Helper()
	if err == nil || fault.Of(err) != kind || release.AttackOf(err) != attack {
		t.Errorf("%s: %v, want kind %s and attack %q", what, err, kind, attack)
	}
}

// until waits for what happens at some time.
func until(t testing.TB, what string, happened func() bool) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.After(time.Minute); !happened(); {
		select {
		case <-end:
			t.Fatalf("it does not happen that %s", what)
		case <-again.C:
		}
	}
}
