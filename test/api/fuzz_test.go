package api_test

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"holdfast/internal/apidoc"
)

var (
	seed   = flag.Uint64("seed", 20261122, "of the requests that are made up")
	rounds = flag.Int("rounds", 20, "how many requests of each kind are made for each operation")
)

// known is what requests may speak of so that the hub knows it.
type known struct {
	rnd *rand.Rand
	cas []string            // certificates of CAs, PEM
	csr string              // a request for a certificate, PEM
	ids map[string][]string // that the hub has answered with, by the part of the API
	now string              // the part that is asked now
}

func newKnown(t testing.TB, rnd *rand.Rand) *known {
	t.Helper()
	k := &known{rnd: rnd, ids: map[string][]string{}}
	text := func(kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		ca := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "a maker"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		der, err := x509.CreateCertificate(crand.Reader, ca, ca, key.Public(), key)
		k.cas = append(k.cas, text("CERTIFICATE", der, err))
	}
	der, err := x509.CreateCertificateRequest(crand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ada"}}, key)
	k.csr = text("CERTIFICATE REQUEST", der, err)
	return k
}

// maxIDs bounds what is remembered of answers of one part.
const maxIDs = 16

// learn remembers the ids and names in an answer.
func (k *known) learn(a answer) {
	type named struct{ ID, Name string }
	var one named
	var list []named
	if json.Unmarshal(a.body, &one) == nil {
		list = append(list, one)
	} else if json.Unmarshal(a.body, &list) != nil {
		return
	}
	for _, v := range list {
		if id := cmp.Or(v.ID, v.Name); id != "" && id != "admin" && !slices.Contains(k.ids[k.now], id) {
			k.ids[k.now] = append(k.ids[k.now][max(0, len(k.ids[k.now])-maxIDs):], id)
		}
	}
}

// part is the part of the API that an operation is of.
func part(o *apidoc.Operation) string { return strings.Split(o.Path, "/")[2] }

// id is one that the hub knows, or a new one.
func (k *known) id() string {
	if ids := k.ids[k.now]; len(ids) > 0 && k.rnd.IntN(3) > 0 {
		return ids[k.rnd.IntN(len(ids))]
	}
	return fmt.Sprintf("made-%d", k.rnd.IntN(100))
}

// value gives values that mean something to the hub: devices and groups that
// there are, and others.
func (k *known) value(name string, s *apidoc.Schema) (any, bool) {
	one := func(of ...any) (any, bool) { return of[k.rnd.IntN(len(of))], true }
	switch {
	case name == "maker_cas":
		return []any{}, true
	case name == "legacy_selfsigned":
		return true, true // or nothing could come by an enrolment
	case s.Items != nil:
		return nil, false
	case strings.HasPrefix(s.Pattern, "^[A-Za-z0-9]"):
		return one("lamp-01", "lamp-02", "lamp-03", "pump-01", k.id())
	case name == "product":
		return one("pump", "fan")
	case strings.HasPrefix(s.Pattern, "^[0-9]{1,3}"):
		return one("1.4.0", "0.0.1+7")
	case strings.HasPrefix(s.Pattern, "^[a-z]"):
		return one("lab", "pumps", "nowhere")
	case strings.HasPrefix(s.Pattern, "^[0-9a-fA-F]{64}"):
		return strings.Repeat("5a", 32), true
	}
	switch name {
	case "follow", "disabled":
		return false, true
	case "timeout_seconds", "connect_timeout_seconds":
		return 0, true
	case "policy_name":
		return one("standard", "bench", "lenient", "none")
	case "policy":
		return one(json.RawMessage(`{"name":"x","version":9,"require":[]}`), map[string]any{}, 7)
	case "name", "account", "id":
		return k.id(), true
	case "If-Match":
		return one("*", `"0123"`)
	case "Idempotency-Key":
		return one("k1", "k2", "k3")
	case "tags", "desired", "payload", "initial_twin":
		return one(map[string]any{"a": 1}, map[string]any{}, 7, nil, []any{1})
	case "pcr":
		return one(0, 4, 16)
	case "ids":
		return one("made-1", "x*")
	case "pem":
		return one(k.cas[k.rnd.IntN(len(k.cas))], "", "x")
	case "type", "kind":
		if len(s.Enum) == 0 {
			return one("device.add", "nothing")
		}
		return nil, false
	case "csr":
		return k.csr, true
	}
	return nil, false
}

// sound says what of an answer must never be.
func (w *world) sound(t testing.TB, spec *openapi3.T, o *apidoc.Operation, r apidoc.Request, a answer, logged int) int {
	t.Helper()
	log, logged := w.log.since(logged)
	report := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s %.300s %v (%s), body %.300s\nanswered %d %.500s", r.Method, r.URL, r.Header, r.What, r.Body, a.status, a.body)
		t.Errorf(format, args...)
	}
	for _, line := range strings.Split(log, "\n") {
		if strings.Contains(line, "panic") || strings.Contains(line, `"level":"ERROR"`) {
			report("the log has %.1000s", line)
		}
	}
	if a.cut {
		return logged
	}
	if a.status >= 500 {
		report("a failure of the hub's own")
	}
	if a.status != 404 && a.status != 405 || strings.HasPrefix(a.kind, "application/") { // a path that is no operation's is the multiplexer's to refuse
		if wrong := asDescribed(spec, o, a); wrong != "" && !elsewhere(o, r) {
			report("%.1500s", wrong)
		}
	}
	return logged
}

// elsewhere reports whether a request reached another operation than it was
// made for: a name in its path may be another path's word.
func elsewhere(o *apidoc.Operation, r apidoc.Request) bool {
	path, _, _ := strings.Cut(r.URL, "?")
	return strings.Count(path, "/") != strings.Count(o.Path, "/")
}

// TestRequestsOfEveryKind asks for every operation in every way that the
// description allows, and in some that it does not.
func TestRequestsOfEveryKind(t *testing.T) {
	w := newWorld(t)
	doc, spec := described(t)
	rnd := rand.New(rand.NewPCG(*seed, 1))
	k := newKnown(t, rnd)
	m := &apidoc.Maker{Doc: doc, Rand: rnd, Value: k.value}
	statuses, done, logged := map[int]int{}, map[string]bool{}, 0
	_, logged = w.log.since(logged)
	for range *rounds {
		for _, o := range doc.Operations() {
			k.now = part(o)
			for _, r := range []apidoc.Request{m.Valid(o), m.Broken(o)} {
				a := w.ask(t, r)
				logged = w.sound(t, spec, o, r, a, logged)
				k.learn(a)
				statuses[a.status/100]++
				done[o.ID] = done[o.ID] || a.status/100 == 2 || a.cut
			}
		}
		if t.Failed() {
			break
		}
	}
	t.Logf("seed %d: answers by class: %v", *seed, statuses)
	var never []string
	for _, o := range doc.Operations() {
		if !done[o.ID] {
			never = append(never, o.ID)
		}
	}
	t.Logf("never done: %q", never) // some take a device that is there, a published release, or a browser
	if statuses[4] == 0 || len(never) > 20 {
		t.Error("too little was done, or refused, to say anything")
	}
	if _, err := w.api.Hub(t.Context()); err != nil {
		t.Errorf("the hub does not go on: %v", err)
	}
}

// FuzzRequest sends what a seed makes of an operation, with a body that the
// fuzzer may have changed.
func FuzzRequest(f *testing.F) {
	w := newWorld(f)
	doc, spec := described(f)
	operations, k := doc.Operations(), newKnown(f, nil)
	for i := range operations {
		f.Add(uint16(i), uint64(1), false, []byte(nil))
		f.Add(uint16(i), uint64(2), true, []byte(`{"reason":"x"}`))
	}
	_, logged := w.log.since(0)
	f.Fuzz(func(t *testing.T, which uint16, seed uint64, broken bool, body []byte) {
		o := operations[int(which)%len(operations)]
		k.now = part(o)
		k.rnd = rand.New(rand.NewPCG(seed, 2))
		m := &apidoc.Maker{Doc: doc, Rand: k.rnd, Value: k.value}
		r := m.Valid(o)
		if broken {
			r = m.Broken(o)
		}
		if len(body) > 0 && r.Body != nil {
			r.Body = body
		}
		logged = w.sound(t, spec, o, r, w.ask(t, r), logged)
	})
}
