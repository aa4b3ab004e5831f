package durability_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"holdfast/client"
	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/internal/synctrace"
	"holdfast/internal/testkit"
	"holdfast/operator"
	"holdfast/pki"
)

// promises are the exchanges with a traced hub, by what covers them.
type promises struct {
	stream, sql []synctrace.Window
}

// Of the real hub, no PUBACK leaves before the sync that covers the message,
// and no success of an operator's write, of a birth or of a renewal before the
// database is synced. A hub that is built without the syncs is found out at
// each of them.
func TestHubAcknowledgesAfterTheSync(t *testing.T) {
	strace := testkit.Need(t, "strace")
	for _, tags := range []string{"", "unsafe_nosync"} {
		t.Run("tags="+tags, func(t *testing.T) {
			s := newStation(t, t.TempDir(), build(t, "holdfast/cmd/holdfast", tags))
			out := filepath.Join(t.TempDir(), "trace")
			s.start(t, append([]string{strace}, synctrace.Args(out)...)...)
			p := s.exchange(t)
			s.proc.kill()
			calls := parseTrace(t, out)
			for name, r := range map[string]synctrace.Rule{
				"PUBACK": {Dir: filepath.Join(s.dir, "stream"), Windows: p.stream},
				"answer": {Files: filepath.Join(s.dir, "holdfast.db"), Windows: p.sql},
			} {
				acks, found := synctrace.Check(calls, r)
				t.Logf("%s: %d in the trace, %d without a sync", name, acks, len(found))
				if acks < len(r.Windows) {
					t.Errorf("%s: %d in the trace, want %d", name, acks, len(r.Windows))
				}
				if tags == "" {
					for _, v := range found {
						t.Errorf("%s: %v", name, v)
					}
				} else if len(found) < len(r.Windows) {
					t.Errorf("%s: the check found %d of %d without a sync", name, len(found), len(r.Windows))
				}
			}
		})
	}
}

func parseTrace(t testing.TB, path string) []synctrace.Call {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	calls, err := synctrace.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

// exchange has the hub make each of its promises some times, one at a time.
func (s *station) exchange(t testing.TB) promises {
	t.Helper()
	const times = 20
	admin := s.operatorClient(t)
	m := newMaker(t, admin)
	if _, err := admin.SetGroup(t.Context(), "files", operator.SetGroup{PolicyName: "lenient", FileKeys: true}); err != nil {
		t.Fatal(err)
	}
	var p promises
	p.stream = s.publishOneByOne(t, m, times)

	conn := s.connect(t, s.at.Operator, s.operatorCertificate(t))
	api := client.New(client.Config{URL: "https://" + s.at.Operator, HTTP: &conn.Client})
	if _, err := api.Hub(t.Context()); err != nil { // what TLS sends once has been sent
		t.Fatal(err)
	}
	tokens := map[identity.Device]string{}
	for i := range times {
		id := identity.Device(fmt.Sprintf("valve-%02d", i))
		p.sql = append(p.sql, conn.exchange(t, func() error {
			added, err := api.AddDevice(t.Context(), operator.AddDevice{ID: id, Group: "files", Token: true})
			tokens[id] = added.Token
			return err
		}))
	}
	births := s.connect(t, s.at.HTTPS, nil)
	births.must(t, http.MethodGet, s.url("/healthz"), "", nil)
	for _, token := range tokens {
		body, err := json.Marshal(evidence.BeginRequest{Token: token, CSR: newRequest(t, "")})
		if err != nil {
			t.Fatal(err)
		}
		p.sql = append(p.sql, births.exchange(t, func() error {
			_, err := births.ask(t, http.MethodPost, s.url("/enroll/begin"), "application/json", body)
			return err
		}))
	}
	est := s.connect(t, s.at.HTTPS, m.device(t, "sensor-est"))
	est.must(t, http.MethodGet, s.url("/healthz"), "", nil)
	for range times {
		p.sql = append(p.sql, est.exchange(t, func() error { _, err := est.enroll(t, s, "sensor-est"); return err }))
	}
	return p
}

func (s *station) url(path string) string { return "https://" + s.at.HTTPS + path }

// publishOneByOne sends messages with one in flight.
func (s *station) publishOneByOne(t testing.TB, m *maker, n int) []synctrace.Window {
	t.Helper()
	d, err := s.open(t, "sensor-01", m.device(t, "sensor-01"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var ws []synctrace.Window
	for i := range n {
		w := synctrace.Window{Client: local(d), Sent: time.Now()}
		if err := d.publish(uint16(i+1), []byte("reading")); err != nil {
			t.Fatal(err)
		}
		if id, err := d.acknowledged(); err != nil || int(id) != i+1 {
			t.Fatalf("acknowledgement of %d, %v", id, err)
		}
		w.Received = time.Now()
		ws = append(ws, w)
	}
	return ws
}

// exchange times one request and its answer.
func (c *connection) exchange(t testing.TB, do func() error) synctrace.Window {
	t.Helper()
	w := synctrace.Window{Client: c.address, Sent: time.Now()}
	if err := do(); err != nil {
		t.Fatal(err)
	}
	w.Received = time.Now()
	return w
}

// ask asks for a success.
func (c *connection) ask(t testing.TB, method, url, contentType string, body []byte) ([]byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, answer)
	}
	return answer, nil
}

func (c *connection) must(t testing.TB, method, url, contentType string, body []byte) {
	t.Helper()
	if _, err := c.ask(t, method, url, contentType, body); err != nil {
		t.Fatal(err)
	}
}

// enroll asks for an operational certificate with a maker's.
func (c *connection) enroll(t testing.TB, s *station, id identity.Device) (*x509.Certificate, error) {
	t.Helper()
	body := []byte(base64.StdEncoding.EncodeToString(newRequest(t, id)))
	answer, err := c.ask(t, http.MethodPost, s.url("/.well-known/est/simpleenroll"), "application/pkcs10", body)
	if err != nil {
		return nil, err
	}
	der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(answer), nil)))
	if err != nil {
		return nil, err
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		return nil, err
	}
	return p7.Certificates[0], nil
}

// newRequest makes a certificate request for a new key.
func newRequest(t testing.TB, id identity.Device) []byte {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: string(id)}, SignatureAlgorithm: x509.ECDSAWithSHA256}, key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}
