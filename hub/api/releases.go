package api

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/release"
)

// releaseRequirement is how a requirement of a release is described: demands of
// policies have the name.
type releaseRequirement release.Requirement

// Repository keeps what release keys have signed.
type Repository interface {
	Describe(ctx context.Context) (operator.Repository, error)
	Metadata(ctx context.Context) (operator.Metadata, error)
	// Publish publishes files together; mayRoot is asked where one of them is a root
	// that is not published yet.
	Publish(ctx context.Context, by string, m operator.Metadata, mayRoot func() error) (operator.Repository, error)
	// HasBlob returns the length of content that is there, or a fault of kind
	// NotFound.
	HasBlob(ctx context.Context, d identity.Digest) (int64, error)
	PutBlob(ctx context.Context, d identity.Digest, size int64, in io.Reader) error
	List(ctx context.Context, p release.Product) ([]operator.Release, error)
	Release(ctx context.Context, p release.Product, v mcuboot.Version) (operator.Release, error)
}

// maxMetadata bounds a publication in bytes: a root, targets and a few products at
// their longest, in base64.
const maxMetadata = 4 << 20

// maxUpload bounds content: an image is the largest.
const maxUpload = max(release.MaxImage, release.MaxDocument)

const (
	metadataPath = "/v1/repository/metadata"
	blobPath     = "/v1/repository/blobs/"
)

// blobName is content in a path.
type blobName struct {
	Digest string `path:"sha256" pattern:"^[0-9a-f]{64}$" doc:"SHA-256 of the content, hexadecimal"`
}

func (b blobName) digest() (identity.Digest, error) {
	d, err := identity.ParseDigest(b.Digest)
	if err != nil {
		return d, fault.New(fault.Invalid, "%w", err)
	}
	return d, nil
}

func (a *api) registerReleases(h huma.API) {
	type none = struct{}
	serve(a, h, op("show-repository", http.MethodGet, "/v1/repository", "Show the release repository"),
		func(ctx context.Context, _ *none) (operator.Repository, error) { return a.Repository.Describe(ctx) })
	serve(a, h, op("show-metadata", http.MethodGet, metadataPath, "Show the metadata that release keys have signed"),
		func(ctx context.Context, _ *none) (operator.Metadata, error) { return a.Repository.Metadata(ctx) })
	type publish struct {
		Body operator.Metadata
	}
	o := op("publish-metadata", http.MethodPost, metadataPath, "Publish metadata, all or nothing")
	o.MaxBodyBytes = maxMetadata
	serve(a, h, o, func(ctx context.Context, in *publish) (operator.Repository, error) {
		mayRoot := func() error { return a.may(ctx, "publish-metadata:root") }
		return a.Repository.Publish(ctx, operator.From(ctx).Name, in.Body, mayRoot)
	})
	serve(a, h, op("show-blob", http.MethodGet, blobPath+"{sha256}", "Show whether content is there, published or not"),
		func(ctx context.Context, in *blobName) (release.Blob, error) {
			d, err := in.digest()
			if err != nil {
				return release.Blob{}, err
			}
			n, err := a.Repository.HasBlob(ctx, d)
			return release.Blob{Length: n, SHA256: d}, err
		})
	a.registerUpload(h)
	type list struct {
		Product release.Product `query:"product" doc:"only of this product"`
	}
	serve(a, h, op("list-releases", http.MethodGet, "/v1/releases", "List published releases, by product and version"),
		func(ctx context.Context, in *list) ([]operator.Release, error) {
			return a.Repository.List(ctx, in.Product)
		})
	type show struct {
		Product release.Product `path:"product" doc:"the product"`
		Version mcuboot.Version `path:"version" doc:"the version"`
	}
	serve(a, h, op("show-release", http.MethodGet, "/v1/releases/{product}/{version}", "Show a published release"),
		func(ctx context.Context, in *show) (operator.Release, error) {
			return a.Repository.Release(ctx, in.Product, in.Version)
		})
}

// registerUpload takes content in as it comes: it is never held in memory.
func (a *api) registerUpload(h huma.API) {
	o := op("put-blob", http.MethodPut, blobPath+"{sha256}", "Upload an image or a document that a release will name")
	o.DefaultStatus = http.StatusNoContent
	o.RequestBody = &huma.RequestBody{Required: true, Description: "the content; its length has to be said beforehand",
		Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}
	o.Responses = map[string]*huma.Response{"204": {Description: "The hub has the content."}}
	register(a, h, o, func(_ context.Context, in *blobName) (*huma.StreamResponse, error) {
		d, err := in.digest()
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := unwrap(hc)
			control := http.NewResponseController(w)
			err := a.Repository.PutBlob(r.Context(), d, r.ContentLength, patient{r.Body, control})
			_ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) // where it cannot be set there is none
			if err != nil {
				a.problem(r.Context(), w, err)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		}}, nil
	})
}

// patient is a body whose sender may take long over all of it but not over any
// part.
type patient struct {
	io.Reader
	control *http.ResponseController
}

func (p patient) Read(b []byte) (int, error) {
	end := time.Now().Add(writeTimeout)
	_ = p.control.SetReadDeadline(end) // where they cannot be set there are none
	_ = p.control.SetWriteDeadline(end)
	return p.Reader.Read(b)
}

// mostBody returns the most bytes that the body of a request may have.
func mostBody(r *http.Request) int64 {
	switch {
	case r.Method == http.MethodPost && r.URL.Path == metadataPath:
		return maxMetadata
	case r.Method == http.MethodPost && r.URL.Path == auditsPath:
		return maxAudit
	case r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, blobPath):
		return maxUpload
	}
	return maxBody
}

// Bounded bounds the bodies of operators' requests: most are short, and content has
// a length of its own.
func Bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.MaxBytesHandler(next, mostBody(r)).ServeHTTP(w, r)
	})
}
