package repository_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"holdfast/delta"
	"holdfast/fault"
	"holdfast/hub/repository"
	"holdfast/identity"
	"holdfast/release"
)

func TestServeMetadata(t *testing.T) {
	w := newWorld(t)
	if rec := w.get("/repository/timestamp.json"); rec.Code != 404 {
		t.Errorf("an empty repository: %d", rec.Code)
	}
	w.first(w.image(4, 1000))
	for path, want := range map[string]int{
		"timestamp.json": 200, "1.root.json": 200, "1.targets.json": 200, "1.pump.json": 200,
		"2.root.json": 404, "root.json": 404, "2.pump.json": 404, "1.valve.json": 404, "online.key": 404,
		"%2e%2e%2fonline.key": 404, "..%2f..%2fetc%2fpasswd": 404, "blobs": 404,
	} {
		rec := w.get("/repository/" + path)
		if rec.Code != want {
			t.Errorf("%s: %d, want %d", path, rec.Code, want)
		}
		if n := rec.Header().Get("Content-Length"); want == 200 && n != strconv.Itoa(rec.Body.Len()) {
			t.Errorf("%s: length %q of %d", path, n, rec.Body.Len())
		}
	}
	for _, method := range []string{"PUT", "POST", "DELETE"} {
		rec := httptest.NewRecorder()
		w.Handler(who).ServeHTTP(rec, httptest.NewRequest(method, "/repository/timestamp.json", nil))
		if rec.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, rec.Code)
		}
	}
}

func TestStrangersGetNothing(t *testing.T) {
	w := newWorld(t)
	image := w.image(4, 1000)
	w.first(image)
	nobody := w.Handler(func(*http.Request) (repository.Client, error) {
		return repository.Client{}, fault.New(fault.Denied, "a device's certificate is needed here")
	})
	d := identity.Sum(image).String()
	for _, path := range []string{"timestamp.json", "blobs/" + d, "deltas/" + d + "/" + d} {
		rec := httptest.NewRecorder()
		if nobody.ServeHTTP(rec, httptest.NewRequest("GET", "/repository/"+path, nil)); rec.Code != 403 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
}

func TestServeBlobs(t *testing.T) {
	w := newWorld(t)
	image, unpublished := w.image(4, 10_000), []byte("not yet")
	w.upload(unpublished)
	w.first(image)
	d := identity.Sum(image).String()
	rec := w.get("/repository/blobs/" + d)
	if rec.Code != 200 || !bytes.Equal(rec.Body.Bytes(), image) || rec.Header().Get("ETag") != `"`+d+`"` || rec.Header().Get("Content-Length") != strconv.Itoa(len(image)) {
		t.Errorf("status %d, %d bytes, header %v", rec.Code, rec.Body.Len(), rec.Header())
	}
	for _, tt := range []struct {
		name, spec, ifRange string
		status              int
		want                []byte
	}{
		{"a range", "bytes=100-199", "", 206, image[100:200]},
		{"the rest", "bytes=9000-", "", 206, image[9000:]},
		{"the rest of this one", "bytes=9000-", `"` + d + `"`, 206, image[9000:]},
		{"the rest of another", "bytes=9000-", `"other"`, 200, image},
		{"behind the end", "bytes=20000-", "", 416, nil},
	} {
		header := []string{"Range", tt.spec}
		if tt.ifRange != "" {
			header = append(header, "If-Range", tt.ifRange)
		}
		rec := w.get("/repository/blobs/"+d, header...)
		if rec.Code != tt.status || tt.want != nil && !bytes.Equal(rec.Body.Bytes(), tt.want) {
			t.Errorf("%s: status %d, %d bytes", tt.name, rec.Code, rec.Body.Len())
		}
	}
	for _, path := range []string{identity.Sum(unpublished).String(), "..%2fonline.key", "", "A" + d[1:], d + "0"} {
		if rec := w.get("/repository/blobs/" + path); rec.Code != 404 {
			t.Errorf("%q: %d", path, rec.Code)
		}
	}
}

func TestPutBlob(t *testing.T) {
	w := newWorld(t)
	b := []byte("firmware")
	d := identity.Sum(b)
	put := func(d identity.Digest, size int64, in io.Reader) error { return w.PutBlob(t.Context(), d, size, in) }
	for name, tt := range map[string]struct {
		err  error
		kind fault.Kind
	}{
		"another digest": {put(identity.Sum(nil), 8, bytes.NewReader(b)), fault.Integrity},
		"less":           {put(d, 9, bytes.NewReader(b)), fault.Integrity},
		"more":           {put(d, 7, bytes.NewReader(b)), fault.Integrity},
		"nothing":        {put(d, 0, bytes.NewReader(nil)), fault.Invalid},
		"no length":      {put(d, -1, bytes.NewReader(b)), fault.Invalid},
		"too much":       {put(d, repository.MaxBlob+1, bytes.NewReader(b)), fault.Invalid},
		"a broken line":  {put(d, 8, io.MultiReader(bytes.NewReader(b[:3]), broken{})), fault.Unavailable},
	} {
		kindOf(t, name, tt.err, tt.kind, "")
	}
	if _, err := w.HasBlob(t.Context(), d); fault.Of(err) != fault.NotFound {
		t.Errorf("it is there: %v", err)
	}
	for range 2 {
		if err := put(d, 8, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := w.HasBlob(t.Context(), d); n != 8 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if es, _ := os.ReadDir(filepath.Join(w.dir, ".incoming")); len(es) != 0 {
		t.Errorf("left over: %v", es)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// What nobody names goes after a week; what a release names stays, withdrawn or not.
func TestSweep(t *testing.T) {
	w := newWorld(t)
	one, two := w.image(4, 1000), w.image(5, 1000)
	rels := w.first(one, two)
	rels[1].Withdrawn = "bad"
	w.publish(map[string][]byte{"2.pump.json": w.product(2, rels...)})
	stray := []byte("stray")
	w.upload(stray)
	old := w.clock().Add(-repository.UnneededFor - time.Hour)
	for _, b := range [][]byte{one, two, stray} {
		if err := os.Chtimes(filepath.Join(w.dir, "blobs", identity.Sum(b).String()), old, old); err != nil {
			t.Fatal(err)
		}
	}
	fresh := []byte("fresh")
	w.upload(fresh)
	if err := os.Chtimes(filepath.Join(w.dir, "blobs", identity.Sum(fresh).String()), w.clock(), w.clock()); err != nil {
		t.Fatal(err)
	}
	if err := w.Sweep(); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		b    []byte
		want bool
	}{"published": {one, true}, "withdrawn": {two, true}, "stray": {stray, false}, "fresh": {fresh, true}} {
		if _, err := w.HasBlob(t.Context(), identity.Sum(tt.b)); (err == nil) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// running runs the repository until the test ends.
func (w *world) running() {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	w.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			w.Error(err)
		}
	})
}

func deltaPath(from, to []byte) string {
	return "/repository/deltas/" + identity.Sum(from).String() + "/" + identity.Sum(to).String()
}

func TestDeltasAreMadeOnDemand(t *testing.T) {
	w := newWorld(t)
	one, two, other := w.image(4, 300_000), w.image(5, 300_000), w.image(6, 100)
	w.first(one, two, other)
	rec := w.get(deltaPath(one, two))
	if rec.Code != 503 || rec.Header().Get("Retry-After") == "" {
		t.Fatalf("at first: %d, %v", rec.Code, rec.Header())
	}
	w.running()
	until(t, "the delta is made", func() bool { rec = w.get(deltaPath(one, two)); return rec.Code != 503 })
	if rec.Code != 200 || rec.Body.Len() > 10_000 {
		t.Fatalf("status %d, %d bytes", rec.Code, rec.Body.Len())
	}
	patch := rec.Body.Bytes()
	if tag := `"` + identity.Sum(patch).String() + `"`; rec.Header().Get("ETag") != tag {
		t.Errorf("ETag %s", rec.Header().Get("ETag"))
	}
	var back bytes.Buffer
	if err := delta.Apply(bytes.NewReader(one), int64(len(one)), bytes.NewReader(patch), &back, delta.Limits{Length: int64(len(two))}); err != nil || !bytes.Equal(back.Bytes(), two) {
		t.Errorf("%d bytes, %v", back.Len(), err)
	}
	if rec := w.get(deltaPath(one, two), "Range", "bytes=50-"); rec.Code != 206 || !bytes.Equal(rec.Body.Bytes(), patch[50:]) {
		t.Errorf("a range: %d", rec.Code)
	}
	// From an image that is so small that nothing is gained there is none.
	until(t, "the second is decided", func() bool { rec = w.get(deltaPath(one, other)); return rec.Code != 503 })
	stranger := []byte("a stranger")
	for name, path := range map[string]string{"from a stranger": deltaPath(stranger, two), "to a stranger": deltaPath(one, stranger), "to itself": deltaPath(one, one), "to a document": deltaPath(one, []byte("{}"))} {
		if rec := w.get(path); rec.Code != 404 {
			t.Errorf("%s: %d", name, rec.Code)
		}
	}
	// They outlive a restart, until the image is withdrawn.
	w.open()
	if rec := w.get(deltaPath(one, two)); rec.Code != 200 || !bytes.Equal(rec.Body.Bytes(), patch) {
		t.Errorf("after a restart: %d", rec.Code)
	}
	rels := []release.Release{w.release(one), w.release(two), w.release(other)}
	rels[1].Withdrawn = "bad"
	w.publish(map[string][]byte{"2.pump.json": w.product(2, rels...)})
	if rec := w.get(deltaPath(one, two)); rec.Code != 404 {
		t.Errorf("to a withdrawn release: %d", rec.Code)
	}
	if err := w.Sweep(); err != nil {
		t.Fatal(err)
	}
	if es, _ := filepath.Glob(filepath.Join(w.dir, ".deltas", identity.Sum(one).String()+"-"+identity.Sum(two).String()+"-*")); len(es) != 0 {
		t.Errorf("left over: %v", es)
	}
}

// A delta that is not smaller than its image is not made twice, and the oldest go
// when there is no more room.
func TestDeltasAreBounded(t *testing.T) {
	w := newWorld(t)
	one, two, three := w.image(4, 200_000), w.image(5, 200_000), w.image(6, 200_000)
	small := w.image(7, 1)
	w.first(one, two, three, small)
	r, err := repository.New(repository.Config{Dir: w.dir, Secret: w.secret, Ledger: w, Now: w.clock, Deltas: 1})
	if err != nil {
		t.Fatal(err)
	}
	w.Repository = r
	w.running()
	code := 0
	ask := func(from, to []byte) func() bool {
		return func() bool { code = w.get(deltaPath(from, to)).Code; return code != 503 }
	}
	until(t, "one is made", ask(one, two))
	until(t, "another is made", ask(one, three))
	if es, _ := os.ReadDir(filepath.Join(w.dir, ".deltas")); len(es) != 1 {
		t.Errorf("%d are kept", len(es))
	}
	if code = w.get(deltaPath(one, two)).Code; code != 503 {
		t.Errorf("the older one: %d", code)
	}
}

func TestPace(t *testing.T) {
	at := time.Unix(1000, 0)
	for name, tt := range map[string]struct {
		c        repository.Client
		atLeast  time.Duration
		less     time.Duration
		perChunk int
	}{
		"as fast as it goes": {repository.Client{}, 0, 1, 0},
		"the device's rate":  {repository.Client{Rate: 8000}, 4900 * time.Millisecond, 5100 * time.Millisecond, 0},
		"the group's rate":   {repository.Client{Rate: 1 << 30, GroupRate: 8000}, 4900 * time.Millisecond, 5100 * time.Millisecond, 0},
	} {
		got := repository.Pace(tt.c, at, 41) // an eighth of a second each, the first at once
		if got < tt.atLeast || got >= tt.less {
			t.Errorf("%s: the last waits %s", name, got)
		}
	}
}

// A device may have few downloads open; who is stuck loses its own connection.
func TestDownloadsOfADeviceAreFew(t *testing.T) {
	w := newWorld(t)
	image := w.image(4, 30<<20)
	w.first(image)
	srv := httptest.NewServer(w.Handler(who))
	defer srv.Close()
	url := srv.URL + "/repository/blobs/" + identity.Sum(image).String()
	for range 4 { // they read nothing
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /repository/blobs/"+identity.Sum(image).String()+" HTTP/1.1\r\nHost: hub\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil { // it is served
			t.Fatal(err)
		}
	}
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a fifth: %d", resp.StatusCode)
	}
	rec := httptest.NewRecorder()
	w.Handler(who).ServeHTTP(rec, httptest.NewRequest("GET", "/repository/timestamp.json", nil))
	if rec.Code != 200 {
		t.Errorf("metadata: %d", rec.Code)
	}
}

// The listener's bounds are for requests; a download at a slow pace lasts longer.
func TestDownloadsOutliveTheListenersBounds(t *testing.T) {
	w := newWorld(t)
	image := w.image(4, 60_000)
	w.first(image)
	srv := httptest.NewUnstartedServer(w.Handler(func(*http.Request) (repository.Client, error) {
		return repository.Client{Device: "pump-01", Group: "pumps", GroupRate: 64 << 10}, nil
	}))
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = 300*time.Millisecond, 300*time.Millisecond
	srv.Start()
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/repository/blobs/" + identity.Sum(image).String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(b, image) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// Who takes nothing loses the connection, and with it what it had of the hub.
func TestStuckDevicesAreCutOff(t *testing.T) {
	w := newWorld(t)
	image := w.image(4, 30<<20)
	w.first(image)
	w.Stall(100 * time.Millisecond)
	srv := httptest.NewServer(w.Handler(who))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /repository/blobs/"+identity.Sum(image).String()+" HTTP/1.1\r\nHost: hub\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	until(t, "it is cut off", func() bool {
		cut := uint64(0)
		w.Stats().Asked.Each(func(n float64, labels ...string) {
			if labels[0] == "blob" && labels[1] == "cut-off" {
				cut = uint64(n)
			}
		})
		return cut == 1
	})
}
