package hubtest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/rand"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/delta"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/tuf/author"
)

// Repository is what a hub serves of releases: real metadata, signed by two
// releasers of whom both have to sign, and by the hub.
type Repository struct {
	// Expires is when the timestamp expires that is made next.
	Expires time.Time

	t       testing.TB
	signers []author.Signer
	online  ed25519.PrivateKey
	release author.Quorum

	mu       sync.Mutex
	version  int64
	product  release.Product
	releases []release.Release
	files    map[string][]byte // by path below /repository/
	tags     map[string]string // ETags of contents
}

// NewRepository returns a repository of one product, without releases.
func NewRepository(t testing.TB, product release.Product) *Repository {
	t.Helper()
	r := &Repository{t: t, product: product, Expires: time.Now().Add(24 * time.Hour),
		files: map[string][]byte{}, tags: map[string]string{}}
	r.release.Threshold = 2
	for range 2 {
		s := author.Signer{Classical: newEd25519(t), MLDSA: must(mldsa.GenerateKey(mldsa.MLDSA65()))(t)}
		r.signers = append(r.signers, s)
		r.release.Classical = append(r.release.Classical, s.Classical.Public())
		r.release.MLDSA = append(r.release.MLDSA, s.MLDSA.PublicKey())
	}
	r.online = newEd25519(t)
	public := r.online.Public().(ed25519.PublicKey)
	r.sign(author.Root{Version: 1, Expires: time.Now().AddDate(1, 0, 0), Release: r.release, Snapshot: public, Timestamp: public}, 2)
	r.Publish()
	return r
}

func newEd25519(t testing.TB) ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return must(key, err)(t)
}

// document is what author makes metadata of.
type document interface {
	Document() (*author.Document, error)
}

// sign makes a file of metadata, signed by so many releasers; none: by the hub.
func (r *Repository) sign(d document, signers int) author.File {
	r.t.Helper()
	doc := must(d.Document())(r.t)
	var err error
	for _, s := range r.signers[:signers] {
		if err == nil {
			err = doc.SignFor(s, r.release)
		}
	}
	if signers == 0 {
		err = doc.Sign(author.Signer{Classical: r.online}, true, false)
	}
	b := must(must(doc, err)(r.t).Bytes())(r.t)
	r.files[doc.FileName()] = b
	return author.File{Role: doc.Role, Version: doc.Version, Bytes: b}
}

// Root is the root of the metadata, to provision devices with.
func (r *Repository) Root() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.files["1.root.json"]
}

// Publish adds releases, or replaces those of their versions.
func (r *Repository) Publish(releases ...release.Release) { r.PublishBy(2, releases...) }

// PublishBy is Publish where only so many releasers have signed.
func (r *Repository) PublishBy(signers int, releases ...release.Release) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rel := range releases {
		r.releases = append(slices.DeleteFunc(r.releases, func(o release.Release) bool { return o.Version == rel.Version }), rel)
	}
	r.version++
	later := time.Now().AddDate(0, 6, 0)
	targets := r.sign(author.Targets{Version: r.version, Expires: later, Products: []author.Delegation{{Product: r.product, Signers: r.release}}}, 2)
	product := r.sign(author.Product{Name: r.product, Version: r.version, Expires: later, Releases: r.releases}, signers)
	snapshot := r.sign(author.Snapshot{Version: r.version, Expires: later, Files: []author.File{targets, product}}, 0)
	r.sign(author.Timestamp{Version: r.version, Expires: r.Expires, Snapshot: snapshot}, 0)
}

// Image makes a release of an MCUboot image, and serves the image.
func (r *Repository) Image(image []byte, health release.Health) release.Release {
	r.t.Helper()
	img := must(mcuboot.Parse(image))(r.t)
	rel := release.Release{Image: release.Blob{Length: int64(len(image)), SHA256: identity.Sum(image)}, Target: release.Target{
		Product: r.product, Version: img.Version, SecurityVersion: img.SecurityCounter, Measured: img.Digest, Health: health}}
	r.Serve("blobs/"+rel.Image.SHA256.String(), image)
	return rel
}

// Delta serves the delta between two images.
func (r *Repository) Delta(from, to []byte) []byte {
	r.t.Helper()
	var out bytes.Buffer
	_ = must(delta.Make(r.t.Context(), bytes.NewReader(from), int64(len(from)), bytes.NewReader(to), int64(len(to)), &out))(r.t)
	r.Serve("deltas/"+identity.Sum(from).String()+"/"+identity.Sum(to).String(), out.Bytes())
	return out.Bytes()
}

// Serve has the repository serve content below /repository/. Its ETag is the
// name of a blob, else the digest.
func (r *Repository) Serve(path string, content []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tag, blob := strings.CutPrefix(path, "blobs/")
	if !blob {
		tag = identity.Sum(content).String()
	}
	r.files[path], r.tags[path] = content, tag
}

// Files returns all that is served now, by path below /repository/.
func (r *Repository) Files() map[string][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.files)
}

// Restore has the repository serve what Files returned before.
func (r *Repository) Restore(files map[string][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files = maps.Clone(files)
}

// ServeHTTP implements http.Handler.
func (r *Repository) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path := strings.TrimPrefix(req.URL.Path, "/repository/")
	r.mu.Lock()
	content, ok := r.files[path]
	tag := r.tags[path]
	r.mu.Unlock()
	if !ok {
		http.NotFound(w, req)
		return
	}
	if tag != "" {
		w.Header().Set("ETag", strconv.Quote(tag))
	}
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(content))
}
