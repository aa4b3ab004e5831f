package issuer

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/smallstep/pkcs7"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/httpfault"
	"holdfast/pki"
)

// maxESTBody is the longest request body: pki.MaxCSR in base64, with line ends.
const maxESTBody = 2 * pki.MaxCSR

// retryAfter is what a device is told that has to ask again later (RFC 7030
// section 4.2.3 demands the header), in seconds.
const retryAfter = "60"

// GrantRequest asks what operational certificate a device may have.
type GrantRequest struct {
	Peer     pki.Peer        // who asks, by the certificate it authenticated with
	Key      identity.Digest // the public key that is to be certified
	Reenroll bool
}

// Gate decides on operational certificates: by posture, and by whether the key
// was certified by the device's AK in evidence that was appraised lately.
type Gate interface {
	// Grant returns the lifetime that the device has earned, or why it gets no
	// certificate, as a fault.
	Grant(ctx context.Context, req GrantRequest) (time.Duration, error)
}

// ESTConfig has what the EST edge works with. All of it is required.
type ESTConfig struct {
	Issuer *Issuer
	Gate   Gate
	// Authenticate says which device is at the other end, from the connection's
	// client certificate, or refuses it with a fault.
	Authenticate func(*http.Request) (pki.Peer, error)
	// Refused is told of each request of an authenticated device that gets no
	// certificate, and why.
	Refused func(r *http.Request, peer pki.Peer, err error)
	Log     *slog.Logger
}

// EST serves RFC 7030 under /.well-known/est/: cacerts, csrattrs, simpleenroll
// and simplereenroll, for operational certificates. Bodies are base64; as in
// RFC 8951 the Content-Transfer-Encoding header is not looked at.
type EST struct {
	cfg     ESTConfig
	mux     *http.ServeMux
	cacerts []byte
	attrs   []byte
}

// NewEST makes the handler.
func NewEST(cfg ESTConfig) (*EST, error) {
	if cfg.Issuer == nil || cfg.Gate == nil || cfg.Authenticate == nil || cfg.Refused == nil || cfg.Log == nil {
		return nil, errors.New("EST: Issuer, Gate, Authenticate, Refused and Log are required")
	}
	e := &EST{cfg: cfg, mux: http.NewServeMux()}
	var err error
	if e.cacerts, err = certsOnly(cfg.Issuer.Authority(pki.Operational), cfg.Issuer.Root()); err != nil {
		return nil, err
	}
	if e.attrs, err = csrAttrs(); err != nil {
		return nil, err
	}
	const prefix = "/.well-known/est/"
	e.mux.HandleFunc("GET "+prefix+"cacerts", e.serveCACerts)
	e.mux.HandleFunc("GET "+prefix+"csrattrs", e.serveCSRAttrs)
	e.mux.Handle("POST "+prefix+"simpleenroll", e.enroll(false))
	e.mux.Handle("POST "+prefix+"simplereenroll", e.enroll(true))
	return e, nil
}

// ServeHTTP implements http.Handler.
func (e *EST) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.mux.ServeHTTP(w, r) }

func (e *EST) serveCACerts(w http.ResponseWriter, _ *http.Request) {
	e.answer(w, "application/pkcs7-mime", e.cacerts)
}

func (e *EST) serveCSRAttrs(w http.ResponseWriter, _ *http.Request) {
	e.answer(w, "application/csrattrs", e.attrs)
}

// answer writes DER as EST wants it: base64, in lines (RFC 2045 section 6.8).
func (e *EST) answer(w http.ResponseWriter, contentType string, der []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Transfer-Encoding", "base64")
	text := base64.StdEncoding.EncodeToString(der)
	var body strings.Builder
	for line := range slices.Chunk([]byte(text), 76) {
		body.Write(line)
		body.WriteString("\r\n")
	}
	if _, err := io.WriteString(w, body.String()); err != nil {
		e.cfg.Log.Debug("EST answer not delivered", "err", err)
	}
}

// enroll serves simpleenroll, which takes an IDevID or a maker's certificate,
// and simplereenroll, which takes an LDevID.
func (e *EST) enroll(again bool) http.Handler {
	allowed := []pki.Class{pki.Birth, pki.Maker}
	if again {
		allowed = []pki.Class{pki.Operational}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := e.cfg.Authenticate(r)
		if err != nil {
			e.refuse(w, 0, err, peer)
			return
		}
		answer, status, err := e.serve(w, r, peer, allowed, again)
		if err != nil {
			e.cfg.Refused(r, peer, err)
			e.refuse(w, status, err, peer)
			return
		}
		e.answer(w, "application/pkcs7-mime; smime-type=certs-only", answer)
	})
}

// serve answers a request of an authenticated device. status is set where HTTP
// has a better one than the kind of the error.
func (e *EST) serve(w http.ResponseWriter, r *http.Request, peer pki.Peer, allowed []pki.Class, again bool) (answer []byte, status int, err error) {
	if !slices.Contains(allowed, peer.Class) || peer.Device == "" {
		return nil, 0, fault.New(fault.Denied, "%s takes no %s certificate", r.URL.Path, peer.Class)
	}
	csr, status, err := readCSR(w, r)
	if err != nil {
		return nil, status, err
	}
	answer, err = e.certify(r.Context(), peer, csr, again)
	return answer, 0, err
}

// certify checks the request, asks the gate and issues.
func (e *EST) certify(ctx context.Context, peer pki.Peer, csr []byte, again bool) ([]byte, error) {
	req, err := checkCSR(csr, peer.Device)
	if err != nil {
		return nil, err
	}
	lifetime, err := e.cfg.Gate.Grant(ctx, GrantRequest{
		Peer: peer, Key: identity.Sum(req.RawSubjectPublicKeyInfo), Reenroll: again,
	})
	if err != nil {
		return nil, err
	}
	chain, err := e.cfg.Issuer.operational(ctx, peer.Device, req, lifetime, "est")
	if err != nil {
		return nil, err
	}
	return certsOnly(chain...)
}

// refuse answers with an error body; status 0 is that of the error's kind.
func (e *EST) refuse(w http.ResponseWriter, status int, err error, peer pki.Peer) {
	usual, body := httpfault.Encode(e.cfg.Log, err, "device", peer.Device, "class", peer.Class)
	if status == 0 {
		status = usual
	}
	if status == http.StatusAccepted || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		e.cfg.Log.Debug("EST refusal not delivered", "err", err)
	}
}

// readCSR reads a request body as RFC 7030 section 4.2.1 has it. status is set
// where HTTP has a better one than the kind of the error.
func readCSR(w http.ResponseWriter, r *http.Request) (der []byte, status int, err error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/pkcs10" {
		return nil, http.StatusUnsupportedMediaType, fault.New(fault.Invalid, "content type is %q, want application/pkcs10", kind)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxESTBody))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, http.StatusRequestEntityTooLarge, fault.New(fault.Invalid, "body is longer than %d bytes", tooLong.Limit)
	case err != nil:
		return nil, 0, fault.New(fault.Invalid, "body: %w", err)
	}
	// DecodeString skips line ends; RFC 8951 section 3.1 lets spaces pass too.
	der, err = base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(body), nil)))
	if err != nil {
		return nil, 0, fault.New(fault.Invalid, "body is not base64: %w", err)
	}
	return der, 0, nil
}

// certsOnly packs certificates as a PKCS#7 message without content or signers.
func certsOnly(certs ...*x509.Certificate) ([]byte, error) {
	der, err := pkcs7.DegenerateCertificate(slices.Concat(pki.RawChain(certs)...))
	if err != nil {
		return nil, fmt.Errorf("pack certificates: %w", err)
	}
	return der, nil
}

// csrAttrs says what a request should have (RFC 7030 section 4.5.2): a key on
// P-256, signed with ECDSA and SHA-256.
func csrAttrs() ([]byte, error) {
	ecPublicKey := asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	p256 := asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	ecdsaSHA256 := asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	key, err := asn1.Marshal(struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.ObjectIdentifier `asn1:"set"`
	}{ecPublicKey, []asn1.ObjectIdentifier{p256}})
	if err != nil {
		return nil, err
	}
	signature, err := asn1.Marshal(ecdsaSHA256)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal([]asn1.RawValue{{FullBytes: key}, {FullBytes: signature}})
}

// ServeCRL serves GET /crl/{ca} where ca is a class and ".crl".
func (i *Issuer) ServeCRL(w http.ResponseWriter, r *http.Request) {
	class, ok := strings.CutSuffix(r.PathValue("ca"), ".crl")
	if !ok {
		httpfault.Write(w, i.cfg.Log, fault.New(fault.NotFound, "no such list"))
		return
	}
	der, err := i.CRL(r.Context(), pki.Class(class))
	if err != nil {
		httpfault.Write(w, i.cfg.Log, err)
		return
	}
	w.Header().Set("Content-Type", "application/pkix-crl")
	if _, err := w.Write(der); err != nil {
		i.cfg.Log.DebugContext(r.Context(), "revocation list not delivered", "err", err)
	}
}
