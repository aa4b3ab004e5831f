package hub_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
)

// ask sends a request to the operators' listener, showing cert.
func (w *world) ask(cert *tls.Certificate, method, path, body string) (*http.Response, []byte, error) {
	w.t.Helper()
	transport := &http.Transport{TLSClientConfig: w.tls(cert, "http/1.1"), DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest(method, "https://"+w.at.Operator+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, b, err
}
