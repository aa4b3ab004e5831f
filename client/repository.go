package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/release"
)

// Repository describes the hub's release repository.
func (c *Client) Repository(ctx context.Context) (operator.Repository, error) {
	return get[operator.Repository](ctx, c, "/v1/repository")
}

// Metadata returns the published metadata that release keys have signed.
func (c *Client) Metadata(ctx context.Context) (operator.Metadata, error) {
	return get[operator.Metadata](ctx, c, "/v1/repository/metadata")
}

// PublishMetadata publishes metadata files together. The hub takes all or none;
// what it has already, byte for byte, it takes again.
func (c *Client) PublishMetadata(ctx context.Context, m operator.Metadata) (operator.Repository, error) {
	var out operator.Repository
	return out, c.call(ctx, http.MethodPost, "/v1/repository/metadata", m, &out)
}

// Releases lists published releases, by product and version; an empty product
// means all.
func (c *Client) Releases(ctx context.Context, p release.Product) ([]operator.Release, error) {
	q := url.Values{}
	set(q, "product", string(p))
	return get[[]operator.Release](ctx, c, "/v1/releases?"+q.Encode())
}

// Release shows a published release.
func (c *Client) Release(ctx context.Context, p release.Product, v mcuboot.Version) (operator.Release, error) {
	return get[operator.Release](ctx, c, "/v1/releases/"+url.PathEscape(string(p))+"/"+url.PathEscape(v.String()))
}

// HasBlob reports whether the hub has content, whole.
func (c *Client) HasBlob(ctx context.Context, d identity.Digest) (bool, error) {
	resp, err := c.do(ctx, http.MethodHead, blobPath(d), http.Header{}, nil)
	if fault.Of(err) == fault.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, resp.Body.Close()
}

// PutBlob uploads content; open is called for each attempt. The hub keeps only
// what has its digest.
func (c *Client) PutBlob(ctx context.Context, b release.Blob, open func() (io.ReadCloser, error)) error {
	err := c.putOnce(ctx, b, open)
	if errors.Is(err, operator.ErrStepUp) && c.cfg.Token == "" {
		c.cfg.HTTP.CloseIdleConnections() // as in do
		return c.putOnce(ctx, b, open)
	}
	return err
}

func (c *Client) putOnce(ctx context.Context, b release.Blob, open func() (io.ReadCloser, error)) error {
	body, err := open()
	if err != nil {
		return err
	}
	defer body.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.cfg.URL+blobPath(b.SHA256), io.NopCloser(body))
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	req.ContentLength = b.Length
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func blobPath(d identity.Digest) string { return "/v1/repository/blobs/" + d.String() }
