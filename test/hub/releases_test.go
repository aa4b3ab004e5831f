package hub_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/hub"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/release"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

// signer is who signs releases.
type signer struct {
	t     testing.TB
	keys  author.Quorum
	signs author.Signer
	image []byte
}

func newSigner(t testing.TB) *signer {
	t.Helper()
	_, classical, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	post := must(mldsa.GenerateKey(mldsa.MLDSA65()))(t)
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	return &signer{t: t, signs: author.Signer{Classical: classical, MLDSA: post}, image: must(mcuboot.Build(make([]byte, 2<<20), mcuboot.Version{Major: 1, Minor: 4}, 7, key))(t),
		keys: author.Quorum{Threshold: 1, Classical: []crypto.PublicKey{classical.Public()}, MLDSA: []*mldsa.PublicKey{post.PublicKey()}}}
}

// sign returns a document's file.
func (m *signer) sign(d *author.Document, err error) []byte {
	m.t.Helper()
	if err == nil {
		err = d.Sign(m.signs, true, true)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return must(d.Bytes())(m.t)
}

// files are a first publication on a hub with these keys.
func (m *signer) files(at operator.Repository) map[string][]byte {
	m.t.Helper()
	public := func(text string) ed25519.PublicKey { return must(hex.DecodeString(text))(m.t) }
	img := must(mcuboot.Parse(m.image))(m.t)
	end := time.Now().AddDate(1, 0, 0)
	root, rootErr := author.Root{Version: 1, Expires: end, Release: m.keys, Snapshot: public(at.SnapshotKey), Timestamp: public(at.TimestampKey)}.Document()
	targets, targetsErr := author.Targets{Version: 1, Expires: end, Products: []author.Delegation{{Product: "pump", Signers: m.keys}}}.Document()
	pump, pumpErr := author.Product{Name: "pump", Version: 1, Expires: end, Releases: []release.Release{{Image: blobOf(m.image), Target: release.Target{
		Product: "pump", Version: img.Version, SecurityVersion: 7, Measured: img.Digest, Health: release.Health{Seconds: 60}}}}}.Document()
	return map[string][]byte{"1.root.json": m.sign(root, rootErr), "1.targets.json": m.sign(targets, targetsErr), "1.pump.json": m.sign(pump, pumpErr)}
}

func blobOf(b []byte) release.Blob {
	return release.Blob{Length: int64(len(b)), SHA256: identity.Sum(b)}
}

// fetch fetches of the repository with a certificate, or without.
func (w *world) fetch(cert *tls.Certificate, path string) (int, []byte) {
	w.t.Helper()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: w.tls(cert)}, Timeout: patience}
	defer c.CloseIdleConnections()
	resp, err := c.Get("https://" + w.at.HTTPS + "/repository/" + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, must(io.ReadAll(resp.Body))(w.t)
}

// What an operator publishes, devices fetch, and nobody else; a backup has it.
func TestReleasesReachDevices(t *testing.T) {
	w, m := newWorld(t), newSigner(t)
	at := must(w.api.Repository(t.Context()))(t)
	files := m.files(at)
	publish := func() error {
		_, err := w.api.PublishMetadata(t.Context(), operator.Metadata{Files: files})
		return err
	}
	if err := publish(); fault.Of(err) != fault.Invalid {
		t.Errorf("published what is not there: %v", err)
	}
	image := blobOf(m.image)
	if has := must(w.api.HasBlob(t.Context(), image.SHA256))(t); has {
		t.Error("the hub has an image that nobody uploaded")
	}
	if err := w.api.PutBlob(t.Context(), image, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.image)), nil }); err != nil {
		t.Fatal(err)
	}
	if has := must(w.api.HasBlob(t.Context(), image.SHA256))(t); !has {
		t.Error("the hub does not have the image")
	}
	if status, _ := w.fetch(w.healthy.ldevid, "blobs/"+image.SHA256.String()); status != 404 {
		t.Errorf("before it is published: %d", status)
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	w.recorded(t, "release.root", "", "admin")
	w.recorded(t, "release.publish", "", "1.4.0")
	if list := must(w.api.Releases(t.Context(), "pump"))(t); len(list) != 1 || !list[0].Newest {
		t.Errorf("releases %+v", list)
	}
	w.served(t, m, files["1.root.json"])
	if status, _ := w.fetch(nil, "timestamp.json"); status != 403 {
		t.Errorf("without a certificate: %d", status)
	}
	var archive bytes.Buffer
	if err := w.api.Backup(t.Context(), &archive); err != nil {
		t.Fatal(err)
	}
	w.stop()
	seal := filepath.Join(w.dir, "seal.key")
	again := filepath.Join(t.TempDir(), "hub")
	if _, err := hub.Restore(t.Context(), hub.RestoreConfig{State: again, SealFile: seal, Admin: "admin"}, &archive); err != nil {
		t.Fatal(err)
	}
	w.dir = again
	w.start()
	w.served(t, m, files["1.root.json"])
}

// served has the healthy device fetch the release, by signed metadata.
func (w *world) served(t *testing.T, m *signer, root []byte) {
	t.Helper()
	trust := must(tuf.NewTrust(root, tuf.DefaultLimits()))(t)
	for range 2 { // the first round learns which products there are
		r := trust.Refresh(tuf.At(time.Now()), trust.Products()...)
		for f, ok := r.Next(); ok; f, ok = r.Next() {
			status, b := w.fetch(w.healthy.ldevid, f.Name)
			var err error
			if status == http.StatusNotFound {
				err = r.Absent()
			} else {
				err = r.Take(b)
			}
			if err != nil {
				t.Fatalf("%s: %d, %v", f.Name, status, err)
			}
		}
	}
	rel := must(trust.Find("pump", mcuboot.Version{Major: 1, Minor: 4}, tuf.At(time.Now())))(t)
	if status, b := w.fetch(w.healthy.ldevid, "blobs/"+rel.Image.SHA256.String()); status != 200 || !bytes.Equal(b, m.image) {
		t.Errorf("image: %d, %d bytes", status, len(b))
	}
}
