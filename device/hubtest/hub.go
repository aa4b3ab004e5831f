// Package hubtest is a small hub for tests of a device: it has the real PKI,
// real TLS and the device's side of the protocol, and believes whom it is told
// to believe. It checks what a device must get right: the challenge of its
// TPM, and that evidence is bound to nonce, connection and claims.
package hubtest

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/smallstep/pkcs7"

	"holdfast/device/provision"
	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/httpfault"
	"holdfast/iothub"
	"holdfast/mqtt"
	"holdfast/pki"
	"holdfast/posture"
	"holdfast/release"
	"holdfast/tlspolicy"
)

// Device and Group are who comes to this hub.
const (
	Device identity.Device = "pump-01"
	Group  identity.Group  = "pumps"
)

// Hub is a running hub. The functions may be replaced before devices come.
type Hub struct {
	// Fail, if it returns an error, makes a step fail: the path of a request,
	// or "mqtt".
	Fail func(step string) error
	// Intercept, if set and true, has answered a request itself.
	Intercept func(w http.ResponseWriter, r *http.Request) bool
	// Posture is told to each session when it subscribes.
	Posture func(class pki.Class) posture.Report
	// Lifetime is that of operational certificates.
	Lifetime time.Duration
	// Repository answers what is asked for below /repository/; it may be nil.
	Repository http.Handler

	t          testing.TB
	root       *pki.Authority
	ca         map[pki.Class]*pki.Authority
	server     *tls.Certificate
	trust      *pki.Trust
	https      net.Listener
	mqtt       net.Listener
	goroutines sync.WaitGroup

	mu       sync.Mutex
	steps    []string
	pending  map[string]pendingBirth
	nonces   map[string][]byte // exporter by nonce
	evidence []evidence.Attestation
	messages []mqtt.Publish
	progress []release.Progress
	offer    []byte            // told to each session when it subscribes, and when it changes
	conns    map[net.Conn]bool // whether it has asked for offers
}

// pendingBirth is a challenge that waits for its answer.
type pendingBirth struct {
	secret []byte
	key    crypto.PublicKey
	ak     []byte
}

// New starts a hub that runs until the test ends.
func New(t testing.TB) *Hub {
	t.Helper()
	h := &Hub{
		Fail: func(string) error { return nil }, Lifetime: time.Hour, t: t, ca: map[pki.Class]*pki.Authority{},
		Posture: func(pki.Class) posture.Report { return posture.Report{Version: 1, Status: posture.Trusted} },
		pending: map[string]pendingBirth{}, nonces: map[string][]byte{}, conns: map[net.Conn]bool{},
	}
	h.makePKI()
	var server http.Server
	server.Handler = h.handler()
	server.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	h.https = h.listen(tlspolicy.DeviceHTTPS)
	h.mqtt = h.listen(tlspolicy.DeviceMQTT)
	h.goroutines.Go(func() { _ = server.Serve(h.https) })
	h.goroutines.Go(h.accept)
	t.Cleanup(func() {
		_ = server.Close()
		_ = h.mqtt.Close()
		h.Cut()
		h.goroutines.Wait()
	})
	return h
}

func (h *Hub) makePKI() {
	now := time.Now()
	h.root = must(pki.NewRoot(now))(h.t)
	names := pki.Names{DNS: []string{"localhost"}, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	for _, class := range pki.Classes() {
		h.ca[class] = must(h.root.NewIntermediate(class, names, now))(h.t)
	}
	key := must(pki.NewKey())(h.t)
	leaf := must(h.ca[pki.Server].Issue(pki.ServerLeaf(names, key.Public(), 24*time.Hour), now))(h.t)
	h.server = &tls.Certificate{Certificate: [][]byte{leaf.Raw, h.ca[pki.Server].Cert.Raw}, PrivateKey: key}
	h.trust = must(pki.NewTrust(pki.Anchor{Class: pki.Birth, Cert: h.ca[pki.Birth].Cert},
		pki.Anchor{Class: pki.Operational, Cert: h.ca[pki.Operational].Cert}))(h.t)
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (h *Hub) listen(policy func(tlspolicy.Listener) (*tls.Config, error)) net.Listener {
	cfg := must(policy(tlspolicy.Listener{
		Certificate: func() (*tls.Certificate, error) { return h.server, nil },
		Trust:       func() *pki.Trust { return h.trust }, Now: time.Now,
		Verify: func(_ tls.ConnectionState, p pki.Peer) error { return h.Fail("TLS by " + string(p.Class)) },
	}))(h.t)
	return must(tls.Listen("tcp", "127.0.0.1:0", cfg))(h.t)
}

// Provision is what a device of this hub is provisioned with.
func (h *Hub) Provision() provision.Provision {
	return provision.Provision{
		Hub: "127.0.0.1", HTTPSPort: h.https.Addr().(*net.TCPAddr).Port, MQTTPort: h.mqtt.Addr().(*net.TCPAddr).Port,
		Root: string(pki.EncodeCerts(h.root.Cert)), Token: "claim",
	}
}

// Certificate makes a certificate of a class for the device, valid from now on
// for a lifetime.
func (h *Hub) Certificate(class pki.Class, lifetime time.Duration) *tls.Certificate {
	key := must(pki.NewKey())(h.t)
	leaf := pki.OperationalLeaf(Device, key.Public(), lifetime)
	if class == pki.Birth {
		leaf = pki.BirthLeaf(Device, key.Public())
	}
	cert := must(h.ca[class].Issue(leaf, time.Now()))(h.t)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw, h.ca[class].Cert.Raw}, PrivateKey: key, Leaf: cert}
}

// Steps returns what devices have asked for, in order.
func (h *Hub) Steps() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.steps...)
}

// Messages returns what devices have published.
func (h *Hub) Messages() []mqtt.Publish {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]mqtt.Publish(nil), h.messages...)
}

// Evidence returns the evidence that was found to be bound as it must.
func (h *Hub) Evidence() []evidence.Attestation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]evidence.Attestation(nil), h.evidence...)
}

// Progress returns what devices have reported of updates.
func (h *Hub) Progress() []release.Progress {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]release.Progress(nil), h.progress...)
}

// Offer offers an update: a JSON release.Offer, or whatever else a hub might
// send.
func (h *Hub) Offer(body string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.offer = []byte(body)
	for c, open := range h.conns {
		if open {
			send(c, &mqtt.Publish{Topic: iothub.UpdateOffer{Version: 1}.String(), Payload: h.offer})
		}
	}
}

// Cut closes all MQTT sessions.
func (h *Hub) Cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		_ = c.Close()
	}
}

func (h *Hub) step(s string) error {
	h.mu.Lock()
	h.steps = append(h.steps, s)
	h.mu.Unlock()
	return h.Fail(s)
}

func (h *Hub) handler() http.Handler {
	mux := http.NewServeMux()
	handle(h, mux, "/enroll/begin", h.begin)
	handle(h, mux, "/enroll/finish", h.finish)
	handle(h, mux, "/attest/nonce", func(r *http.Request, _ *struct{}) (any, error) { return h.nonce(r) })
	handle(h, mux, "/attest/evidence", h.appraise)
	mux.HandleFunc("POST /.well-known/est/{op}", h.est)
	mux.HandleFunc("GET /repository/", h.repository)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.Intercept == nil || !h.Intercept(w, r) {
			mux.ServeHTTP(w, r)
		}
	})
}

// repository serves a device that shows a certificate.
func (h *Hub) repository(w http.ResponseWriter, r *http.Request) {
	err := h.step(r.URL.Path)
	if err == nil {
		_, err = tlspolicy.Peer(r.TLS, h.trust, time.Now())
	}
	switch {
	case err != nil:
		httpfault.Write(w, slog.New(slog.DiscardHandler), fault.New(fault.Denied, "%w", err))
	case h.Repository == nil:
		http.NotFound(w, r)
	default:
		h.Repository.ServeHTTP(w, r)
	}
}

// handle serves a path with JSON both ways.
func handle[T any](h *Hub, mux *http.ServeMux, path string, f func(r *http.Request, req *T) (any, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		req := new(T)
		body, err := io.ReadAll(r.Body)
		if err == nil && len(body) > 0 {
			err = json.Unmarshal(body, req)
		}
		var resp any
		if err == nil {
			err = h.step(path)
		}
		if err == nil {
			resp, err = f(r, req)
		}
		if err != nil {
			httpfault.Write(w, slog.New(slog.DiscardHandler), err)
			return
		}
		_ = json.NewEncoder(w).Encode(resp)
	})
}

func (h *Hub) begin(_ *http.Request, req *evidence.BeginRequest) (any, error) {
	csr, err := pki.CheckCSR(req.CSR, Device)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	if req.Token != "claim" {
		return nil, fault.New(fault.Denied, "claim token is wrong")
	}
	if req.TPM == nil {
		issued, err := h.born(csr.PublicKey)
		return evidence.BeginResponse{Issued: &issued}, err
	}
	return h.challenge(req, csr.PublicKey)
}

func (h *Hub) challenge(req *evidence.BeginRequest, key crypto.PublicKey) (any, error) {
	ek, err := tpm2.Unmarshal[tpm2.TPMTPublic](req.TPM.EKPublic)
	if err != nil {
		return nil, err
	}
	ak, err := tpm2.Unmarshal[tpm2.TPMTPublic](req.TPM.AKPublic)
	if err != nil {
		return nil, err
	}
	encap, err := tpm2.ImportEncapsulationKey(ek)
	if err != nil {
		return nil, err
	}
	name, err := tpm2.ObjectName(ak)
	if err != nil {
		return nil, err
	}
	secret := pki.NewSecret()
	credential, encrypted, err := tpm2.CreateCredential(rand.Reader, encap, name.Buffer, secret)
	if err != nil {
		return nil, err
	}
	session := rand.Text()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pending[session] = pendingBirth{secret, key, req.TPM.AKPublic}
	return evidence.BeginResponse{Session: session, Credential: credential, Secret: encrypted}, nil
}

func (h *Hub) finish(_ *http.Request, req *evidence.FinishRequest) (any, error) {
	h.mu.Lock()
	p := h.pending[req.Session]
	delete(h.pending, req.Session)
	h.mu.Unlock()
	if p.key == nil || string(p.secret) != string(req.Secret) {
		return nil, fault.New(fault.Integrity, "challenge is not answered")
	}
	return h.born(p.key)
}

func (h *Hub) born(key crypto.PublicKey) (evidence.Issued, error) {
	leaf, err := h.ca[pki.Birth].Issue(pki.BirthLeaf(Device, key), time.Now())
	if err != nil {
		return evidence.Issued{}, err
	}
	return evidence.Issued{Device: Device, Group: Group, Chain: [][]byte{leaf.Raw, h.ca[pki.Birth].Cert.Raw}}, nil
}

func (h *Hub) nonce(r *http.Request) (any, error) {
	exporter, err := binding(r)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, evidence.NonceSize)
	_, _ = rand.Read(nonce) // never fails
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nonces[string(nonce)] = exporter
	return evidence.Nonce{Nonce: nonce, Expires: time.Now().Add(time.Minute)}, nil
}

func binding(r *http.Request) ([]byte, error) {
	if len(r.TLS.PeerCertificates) == 0 {
		return nil, fault.New(fault.Denied, "no certificate")
	}
	return r.TLS.ExportKeyingMaterial(evidence.ExporterLabel, nil, evidence.ExporterSize)
}

// appraise checks what binds the evidence and believes the rest.
func (h *Hub) appraise(r *http.Request, ev *evidence.Attestation) (any, error) {
	exporter, err := binding(r)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	at, known := h.nonces[string(ev.Nonce)]
	delete(h.nonces, string(ev.Nonce))
	if !known || string(at) != string(exporter) {
		return nil, fault.New(fault.Conflict, "nonce is not of this connection")
	}
	quote, err := tpm2.Unmarshal[tpm2.TPMSAttest](ev.Quote.Attest)
	if err != nil {
		return nil, err
	}
	want := evidence.Binding(ev.Nonce, Device, exporter, ev.Claims)
	if string(quote.ExtraData.Buffer) != string(want[:]) {
		return evidence.Result{Reason: "qualifying data"}, nil
	}
	h.evidence = append(h.evidence, *ev)
	return evidence.Result{Time: time.Now(), Verified: true}, nil
}

func (h *Hub) est(w http.ResponseWriter, r *http.Request) {
	answer, err := h.certify(r)
	if err != nil {
		httpfault.Write(w, slog.New(slog.DiscardHandler), err)
		return
	}
	w.Header().Set("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
	_, _ = io.WriteString(w, answer)
}

func (h *Hub) certify(r *http.Request) (string, error) {
	if err := h.step(r.URL.Path); err != nil {
		return "", err
	}
	body, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, r.Body))
	if err != nil {
		return "", fault.New(fault.Invalid, "%w", err)
	}
	csr, err := pki.CheckCSR(body, Device)
	if err != nil {
		return "", fault.New(fault.Invalid, "%w", err)
	}
	peer, err := tlspolicy.Peer(r.TLS, h.trust, time.Now())
	if err != nil {
		return "", fault.New(fault.Denied, "%w", err)
	}
	want := map[string]pki.Class{"simpleenroll": pki.Birth, "simplereenroll": pki.Operational}[r.PathValue("op")]
	if peer.Class != want {
		return "", fault.New(fault.Denied, "%s with a %s certificate", r.PathValue("op"), peer.Class)
	}
	leaf, err := h.ca[pki.Operational].Issue(pki.OperationalLeaf(Device, csr.PublicKey, h.Lifetime), time.Now())
	if err != nil {
		return "", err
	}
	der, err := pkcs7.DegenerateCertificate(append(leaf.Raw, h.ca[pki.Operational].Cert.Raw...))
	if err != nil {
		return "", fmt.Errorf("PKCS#7: %w", err)
	}
	return base64.StdEncoding.EncodeToString(der), nil
}
