package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed assets
var assetFiles embed.FS

// kinds are the types of the files that are served; others are not.
var kinds = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// asset is a file under a name that changes with its content.
type asset struct {
	kind string
	body []byte
}

// assets are the files by their public name, "console.0123456789ab.css".
type assets struct {
	files map[string]asset
	names map[string]string // public by own
}

func loadAssets() (assets, error) {
	as := assets{files: map[string]asset{}, names: map[string]string{}}
	entries, err := assetFiles.ReadDir("assets")
	if err != nil {
		return as, fmt.Errorf("read assets: %w", err)
	}
	for _, e := range entries {
		ext := path.Ext(e.Name())
		kind, served := kinds[ext]
		if !served {
			continue
		}
		body, err := assetFiles.ReadFile("assets/" + e.Name())
		if err != nil {
			return as, fmt.Errorf("read assets: %w", err)
		}
		sum := sha256.Sum256(body)
		name := strings.TrimSuffix(e.Name(), ext) + "." + hex.EncodeToString(sum[:6]) + ext
		as.names[e.Name()], as.files[name] = name, asset{kind, body}
	}
	return as, nil
}

// path returns where a file is served.
func (as assets) path(name string) (string, error) {
	public, ok := as.names[name]
	if !ok {
		return "", fmt.Errorf("there is no asset %q", name)
	}
	return "/assets/" + public, nil
}

// ServeHTTP serves a file. Its name says what is in it, so that a browser may
// keep it for ever.
func (as assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, ok := as.files[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
}
