package provision_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/dps"
	"holdfast/fault"
	"holdfast/iothub"
	"holdfast/pki"
)

// ask sends a request as the peer named by the header, whom TLS would name.
func ask(t *testing.T, h http.Handler, method, path, body, device string, header ...string) (*http.Response, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Peer", device)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	res := w.Result()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil || !strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		t.Errorf("%s %s: answer %q is no JSON", method, path, b)
	}
	return res, m
}

func (w *world) handler() http.Handler {
	return w.Handler(func(r *http.Request) (pki.Peer, error) {
		if id := r.Header.Get("Peer"); id != "" {
			return w.of("acme", "meter-1").Peer, nil
		}
		return pki.Peer{}, errors.New("no certificate")
	})
}

func TestHTTPS(t *testing.T) {
	w := newWorld(t)
	h := w.handler()
	base := "/" + string(scope) + "/registrations/METER-1"
	res, m := ask(t, h, "PUT", base+"/register?api-version=2019-03-31", `{"registrationId":"meter-1"}`, "meter-1")
	op, _ := m["operationId"].(string)
	if res.StatusCode != 202 || res.Header.Get("Retry-After") != "1" || m["status"] != "assigning" || op == "" {
		t.Fatalf("%d %v %v", res.StatusCode, res.Header, m)
	}
	res, m = ask(t, h, "GET", base+"/operations/"+op+"?api-version=2019-03-31", "{}", "meter-1")
	state, _ := m["registrationState"].(map[string]any)
	if res.StatusCode != 200 || m["status"] != "assigned" || state["assignedHub"] != "hub.example" || state["deviceId"] != "meter-1" {
		t.Errorf("%d %v", res.StatusCode, m)
	}
	res, m = ask(t, h, "POST", base, "", "meter-1")
	if res.StatusCode != 200 || m["deviceId"] != "meter-1" || m["registrationId"] != "METER-1" {
		t.Errorf("%d %v", res.StatusCode, m)
	}
}

func TestHTTPSRefuses(t *testing.T) {
	w := newWorld(t)
	h := w.handler()
	base := "/" + string(scope) + "/registrations/meter-1"
	for name, tc := range map[string]struct {
		method, path, body, peer, authorization string
		status, code                            int
	}{
		"no certificate":         {"PUT", base + "/register", "", "", "", 401, 401002},
		"a shared access key":    {"PUT", base + "/register", "", "meter-1", "SharedAccessSignature sr=x&sig=y&se=1", 401, 401002},
		"a key, no certificate":  {"PUT", base + "/register", "", "", "SharedAccessSignature sr=x&sig=y&se=1", 401, 401002},
		"attestation by TPM":     {"PUT", base + "/register", `{"tpm":{"endorsementKey":"AA=="}}`, "meter-1", "", 401, 401002},
		"another scope":          {"PUT", "/0neXXXXXXXX/registrations/meter-1/register", "", "meter-1", "", 401, 401002},
		"another's id":           {"PUT", strings.Replace(base, "-1", "-2", 1) + "/register", "", "meter-1", "", 401, 401002},
		"an escaped id":          {"PUT", strings.Replace(base, "-1", "-1%2f..", 1) + "/register", "", "meter-1", "", 400, 400004},
		"bad JSON":               {"PUT", base + "/register", "{", "meter-1", "", 400, 400006},
		"too long":               {"PUT", base + "/register", strings.Repeat(" ", dps.MaxRequest+1), "meter-1", "", 400, 400006},
		"operation of nobody":    {"GET", base + "/operations/" + string(dps.NewOperation()), "", "meter-1", "", 404, 404001},
		"operation of no form":   {"GET", base + "/operations/1", "", "meter-1", "", 400, 400004},
		"never registered":       {"POST", base, "", "meter-1", "", 404, 404001},
		"lookup, no certificate": {"POST", base, "", "", "", 401, 401002},
		"another method":         {"DELETE", base, "", "meter-1", "", 404, 404001},
		"another path":           {"GET", "/favicon.ico", "", "", "", 404, 404001},
	} {
		var header []string
		if tc.authorization != "" {
			header = []string{"Authorization", tc.authorization}
		}
		res, m := ask(t, h, tc.method, tc.path, tc.body, tc.peer, header...)
		if res.StatusCode != tc.status || m["errorCode"] != float64(tc.code) || m["trackingId"] == "" || m["message"] == "" || m["timestampUtc"] == nil {
			t.Errorf("%s: %d %v", name, res.StatusCode, m)
		}
	}
	if w.group("meter-1") != "" {
		t.Error("the device was entered")
	}
}

func TestMQTT(t *testing.T) {
	w := newWorld(t)
	c := w.of("acme", "meter-1")
	topic, b, err := w.Answer(t.Context(), c, iothub.Register{RequestID: "1"}, nil)
	var p dps.Progress
	if err != nil || topic.String() != "$dps/registrations/res/202/?$rid=1&retry-after=1" || json.Unmarshal(b, &p) != nil {
		t.Fatalf("%v %s %v", topic, b, err)
	}
	topic, b, err = w.Answer(t.Context(), c, iothub.OperationStatus{RequestID: "1", OperationID: string(p.Operation)}, []byte(`{"registrationId":"meter-1"}`))
	if err != nil || topic.String() != "$dps/registrations/res/200/?$rid=1" || !strings.Contains(string(b), `"assignedHub":"hub.example"`) {
		t.Errorf("%v %s %v", topic, b, err)
	}
	_, _, err = w.Answer(t.Context(), c, iothub.TwinGet{RequestID: "1"}, nil)
	if fault.Of(err) != fault.Invalid || err == nil {
		t.Errorf("a twin: %v", err)
	}
}

func TestRenew(t *testing.T) {
	w := newWorld(t)
	p := w.of("acme", "meter-1").Peer
	request, key := csr(t, "meter-1")
	accepted := 0
	renew := func(p pki.Peer, rid string, b map[string]any) ([]byte, error) {
		return w.Renew(t.Context(), p, rid, []byte(body(t, b)), func(b []byte) {
			var a dps.Accepted
			if err := json.Unmarshal(b, &a); err != nil || a.Correlation == "" || a.Expires.IsZero() {
				t.Errorf("first answer %s: %v", b, err)
			}
			accepted++
		})
	}
	ok := map[string]any{"id": "meter-1", "csr": request}
	foreign, _ := csr(t, "meter-2")
	birthPeer := p
	birthPeer.Class = pki.Birth
	for name, tc := range map[string]struct {
		p    pki.Peer
		body map[string]any
		want iothub.Code
	}{
		"another's id":               {p, map[string]any{"id": "meter-2", "csr": foreign}, iothub.CodeArgument},
		"another's CSR":              {p, map[string]any{"id": "meter-1", "csr": foreign}, dps.CodeCSR},
		"no CSR":                     {p, map[string]any{"id": "meter-1"}, iothub.CodeFormat},
		"a birth certificate":        {birthPeer, ok, iothub.CodeForbidden},
		"replaces what is not there": {p, map[string]any{"id": "meter-1", "csr": request, "replace": "9"}, iothub.CodePrecondition},
	} {
		if out, err := renew(tc.p, "1", tc.body); err == nil || iothub.CodeOf(err) != tc.want {
			t.Errorf("%s: %s, %v", name, out, err)
		}
	}
	if accepted != 0 {
		t.Errorf("%d were accepted", accepted)
	}
	out, err := renew(p, "1", ok)
	var issued dps.Issued
	if err != nil || json.Unmarshal(out, &issued) != nil || accepted != 1 {
		t.Fatalf("%s, %v", out, err)
	}
	if len(issued.Certificates) != 3 || issued.Certificates[0] != base64.StdEncoding.EncodeToString([]byte("leaf of meter-1")) {
		t.Errorf("%q", issued.Certificates)
	}
	// A renewal makes a new key.
	_, err = renew(p, "2", map[string]any{"id": "meter-1", "csr": csrOf(t, "meter-1", key)})
	w.refused(err, dps.CodeCSR)
	fresh, _ := csr(t, "meter-1")
	w.issuer.err = fault.New(fault.Denied, "posture")
	_, err = renew(p, "3", map[string]any{"id": "meter-1", "csr": fresh})
	w.refused(err, iothub.CodeForbidden)
}

func TestOneRenewalAtATime(t *testing.T) {
	w := newWorld(t)
	w.issuer.wait = make(chan struct{})
	p := w.of("acme", "meter-1").Peer
	started, ended := make(chan struct{}, 2), make(chan error, 2)
	renew := func(rid string, replace any) {
		request, _ := csr(t, "meter-1")
		_, err := w.Renew(t.Context(), p, rid, []byte(body(t, map[string]any{"id": "meter-1", "csr": request, "replace": replace})),
			func([]byte) { started <- struct{}{} })
		ended <- err
	}
	go renew("1", nil)
	<-started
	renew("2", nil)
	w.refused(<-ended, dps.CodeActive)
	renew("2", "7")
	w.refused(<-ended, iothub.CodePrecondition)
	go renew("2", "1")
	<-started
	w.refused(<-ended, iothub.CodeConflict) // the first
	close(w.issuer.wait)
	w.must(<-ended)
	if diff := cmp.Diff(1, w.issuer.made); diff != "" {
		t.Error(diff)
	}
}
