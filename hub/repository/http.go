package repository

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/httpfault"
)

// Client is a device that fetches, and how fast it may.
type Client struct {
	Device identity.Device
	Group  identity.Group
	// Bytes in a second: of the device alone and of all of its group together.
	// Zero: as fast as it goes.
	Rate, GroupRate int64
}

// retryAfter is when a device asks again for a delta that is being made, and who
// has too many downloads open for another, in seconds.
const retryAfter = 5

// maxDownloads is how many downloads a device may have open: one, and what it has
// left of connections that broke.
const maxDownloads = 4

// Handler serves devices, below /repository/. who authenticates a request.
func (r *Repository) Handler(who func(*http.Request) (Client, error)) http.Handler {
	h := &handler{Repository: r, who: who, pacers: newPacers()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /repository/{name}", h.metadata)
	mux.HandleFunc("GET /repository/blobs/{digest}", h.blob)
	mux.HandleFunc("GET /repository/deltas/{from}/{to}", h.delta)
	return mux
}

type handler struct {
	*Repository
	who    func(*http.Request) (Client, error)
	pacers *pacers
}

// refuse answers with err.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, kind, outcome string, err error) {
	h.stats.Asked.Inc(kind, outcome)
	httpfault.Write(w, h.cfg.Log, err, "path", r.URL.Path, "remote", r.RemoteAddr)
}

func (h *handler) absent(w http.ResponseWriter, r *http.Request, kind string) {
	if err := h.Trouble(); err != nil {
		h.refuse(w, r, kind, "refused", fault.Hide(fault.Unavailable, "the repository is not available", err))
		return
	}
	h.stats.Asked.Inc(kind, "not-found") // every device asks for the root after the newest: nothing to log
	http.NotFound(w, r)
}

func (h *handler) metadata(w http.ResponseWriter, r *http.Request) {
	c, err := h.who(r)
	if err != nil {
		h.refuse(w, r, "metadata", "refused", err)
		return
	}
	name, s := r.PathValue("name"), h.held.Load()
	if !s.names[name] {
		h.absent(w, r, "metadata")
		return
	}
	b := s.files[name]
	if name == timestampURL {
		b = s.trust.Timestamp
	} else if b == nil {
		b, err = os.ReadFile(filepath.Join(h.disk.dir, name))
	}
	if err != nil {
		h.refuse(w, r, "metadata", "refused", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	h.serve(w, r, c, "metadata", bytes.NewReader(b))
}

// digestOf reads a digest of a path: as blobs are named, and not otherwise.
func digestOf(text string) (identity.Digest, bool) {
	d, err := identity.ParseDigest(text)
	return d, err == nil && d.String() == text
}

func (h *handler) blob(w http.ResponseWriter, r *http.Request) {
	c, err := h.who(r)
	if err != nil {
		h.refuse(w, r, "blob", "refused", err)
		return
	}
	d, ok := digestOf(r.PathValue("digest"))
	if _, published := h.held.Load().blobs[d]; !ok || !published {
		h.absent(w, r, "blob")
		return
	}
	h.file(w, r, c, "blob", h.blobPath(d), d)
}

func (h *handler) delta(w http.ResponseWriter, r *http.Request) {
	c, err := h.who(r)
	if err != nil {
		h.refuse(w, r, "delta", "refused", err)
		return
	}
	from, okFrom := digestOf(r.PathValue("from"))
	to, okTo := digestOf(r.PathValue("to"))
	p := pair{from, to}
	if !okFrom || !okTo || !h.held.Load().between(p) {
		h.absent(w, r, "delta")
		return
	}
	m, known := h.deltas.get(p, h.cfg.Now())
	switch {
	case !known:
		h.stats.Asked.Inc("delta", "pending")
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		http.Error(w, "the delta is being made", http.StatusServiceUnavailable)
	case m.size == 0:
		h.absent(w, r, "delta")
	default:
		h.file(w, r, c, "delta", filepath.Join(h.deltas.dir, p.name(m)), m.digest)
	}
}

// file serves a file whose digest is known.
func (h *handler) file(w http.ResponseWriter, r *http.Request, c Client, kind, path string, d identity.Digest) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) { // a delta may go meanwhile
		h.cfg.Log.WarnContext(r.Context(), "a published file is not there", "path", path)
		h.absent(w, r, kind)
		return
	}
	if err != nil {
		h.refuse(w, r, kind, "refused", err)
		return
	}
	defer f.Close()
	w.Header().Set("ETag", `"`+d.String()+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "max-age=31536000, immutable")
	h.serve(w, r, c, kind, f)
}

// serve answers with content, or the range of it that is asked for, at the pace
// that the device and its group have.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, c Client, kind string, content io.ReadSeeker) {
	p, ok := h.pacers.enter(c)
	if !ok {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		h.refuse(w, r, kind, "refused", fault.New(fault.Unavailable, "%d downloads of this device are open already", maxDownloads))
		return
	}
	defer h.pacers.leave(c)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the listener's is for requests; nothing more is read of this one
	out := &paced{ResponseWriter: w, control: control, ctx: r.Context(), pace: p, stall: h.stall}
	http.ServeContent(out, r, "", time.Time{}, content)
	h.stats.Served.Add(uint64(out.written), kind)
	outcome := "served"
	if out.err != nil {
		outcome = "cut-off"
		h.cfg.Log.DebugContext(r.Context(), "a download was cut off", "device", c.Device, "path", r.URL.Path, "bytes", out.written, "err", fmt.Sprint(out.err))
	}
	h.stats.Asked.Inc(kind, outcome)
}
