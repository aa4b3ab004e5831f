package repository_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"holdfast/identity"
)

// BenchmarkServe fetches an image of 16 MiB over TLS 1.3, from the repository and
// from net/http's file server, in turns; of-fileserver is how many times as fast
// as that the repository is, of-fileserver-by-cpu the same by processor time of
// server and client together.
func BenchmarkServe(b *testing.B) {
	w := newWorld(b)
	image := w.image(4, 16<<20)
	w.first(image)
	path := filepath.Join(b.TempDir(), "image")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		b.Fatal(err)
	}
	ours := httptest.NewTLSServer(w.Handler(who))
	defer ours.Close()
	bare := httptest.NewTLSServer(http.FileServer(http.Dir(filepath.Dir(path))))
	defer bare.Close()
	fetch := func(s *httptest.Server, path string) (took, cpu time.Duration) {
		begun, used := time.Now(), cpuTime(b)
		resp, err := s.Client().Get(s.URL + path)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); n != int64(len(image)) || err != nil || resp.TLS.Version != tls.VersionTLS13 {
			b.Fatalf("%d bytes, %v", n, err)
		}
		return time.Since(begun), cpuTime(b) - used
	}
	var took, cpu [2]time.Duration
	b.SetBytes(2 * int64(len(image)))
	for b.Loop() {
		for i, from := range []struct {
			server *httptest.Server
			path   string
		}{{ours, "/repository/blobs/" + identity.Sum(image).String()}, {bare, "/image"}} {
			t, c := fetch(from.server, from.path)
			took[i] += t
			cpu[i] += c
		}
	}
	b.ReportMetric(float64(len(image))*float64(b.N)/took[0].Seconds()/1e6, "MB/s-served")
	b.ReportMetric(took[1].Seconds()/took[0].Seconds(), "of-fileserver")
	b.ReportMetric(cpu[1].Seconds()/cpu[0].Seconds(), "of-fileserver-by-cpu")
}

// cpuTime is the processor time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
