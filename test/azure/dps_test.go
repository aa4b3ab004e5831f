package azure_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"holdfast/dps"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/mqtt"
	"holdfast/operator"
)

func (w *world) scope() string {
	w.t.Helper()
	h, err := w.operator.Hub(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return h.Scope
}

// dial opens a TLS connection for a session with DPS and sends CONNECT; code is
// what it was answered, err that the handshake failed.
func (w *world) dial(id, username string, cert tls.Certificate, password []byte) (d *device, code mqtt.Code, err error) {
	w.t.Helper()
	raw, err := net.Dial("tcp", w.at.MQTT)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { raw.Close() })
	conn := tls.Client(raw, &tls.Config{RootCAs: w.roots, ServerName: "localhost", Certificates: []tls.Certificate{cert}})
	if err := conn.Handshake(); err != nil {
		return nil, 0, err
	}
	d = &device{t: w.t, id: id, conn: conn, in: mqtt.NewDecoder(mqtt.FromServer, mqtt.DefaultLimit), auto: true}
	d.send(&mqtt.Connect{ClientID: id, Clean: true, KeepAlive: 60, Username: &username, Password: password})
	p, err := d.next()
	if err != nil {
		return nil, 0, err
	}
	return d, p.(*mqtt.Connack).Code, nil
}

// registrar opens a session with DPS, subscribed.
func (w *world) registrar(id string, cert tls.Certificate) *device {
	w.t.Helper()
	d, code, err := w.dial(id, w.scope()+"/registrations/"+id+"/api-version=2019-03-31&ClientVersion=test%2F1", cert, nil)
	if err != nil || code != mqtt.Accepted {
		w.t.Fatalf("connect %s to DPS: code %d, %v", id, code, err)
	}
	d.send(&mqtt.Subscribe{ID: d.next16(), Filters: []mqtt.Filter{{Filter: "$dps/registrations/res/#", QoS: mqtt.AtLeastOnce}}})
	if ack := expect[*mqtt.Suback](d); ack.Codes[0] == mqtt.SubackFailure {
		w.t.Fatal("subscription was refused")
	}
	return d
}

// register asks, polls, and returns the outcome.
func (d *device) register(body string) dps.Progress {
	d.t.Helper()
	d.publish("$dps/registrations/PUT/iotdps-register/?$rid=1", body)
	p := d.receive()
	var first, second dps.Progress
	if p.Topic != "$dps/registrations/res/202/?$rid=1&retry-after=1" || json.Unmarshal(p.Payload, &first) != nil {
		d.t.Fatalf("first answer: %s %s", p.Topic, p.Payload)
	}
	d.publish("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1&operationId="+string(first.Operation), `{"registrationId" : "x"}`)
	p = d.receive()
	if p.Topic != "$dps/registrations/res/200/?$rid=1" || json.Unmarshal(p.Payload, &second) != nil {
		d.t.Fatalf("second answer: %s %s", p.Topic, p.Payload)
	}
	return second
}

// refused sends a registration and returns the refusal.
func (d *device) refusedRegistration(body string) (code int) {
	d.t.Helper()
	d.publish("$dps/registrations/PUT/iotdps-register/?$rid=1", body)
	p := d.receive()
	var e struct {
		Code int `json:"errorCode"`
	}
	if json.Unmarshal(p.Payload, &e) != nil || !strings.HasPrefix(p.Topic, fmt.Sprintf("$dps/registrations/res/%d/?$rid=1", e.Code/1000)) {
		d.t.Fatalf("refusal: %s %s", p.Topic, p.Payload)
	}
	return e.Code
}

func (w *world) enroll(e operator.Enrollment) {
	w.t.Helper()
	if _, err := w.operator.AddEnrollment(w.t.Context(), e); err != nil {
		w.t.Fatal(err)
	}
}

func TestProvisioningOverMQTT(t *testing.T) {
	w := newWorld(t)
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "meter-1", Group: "meters",
		Twin: &operator.SetTwin{Tags: raw(`{"site":"A"}`), Desired: raw(`{"interval":5}`)}, Payload: raw(`{"welcome":true}`)})
	cert := w.certificate("meter-1")
	d := w.registrar("METER-1", cert)
	p := d.register("")
	_, port, _ := net.SplitHostPort(w.at.MQTT)
	if p.Status != dps.Assigned || p.State.Hub != "localhost:"+port || p.State.Device != "meter-1" || p.State.Substatus != dps.InitialAssignment ||
		string(p.State.Payload) != `{"welcome":true}` {
		t.Fatalf("%+v", p.State)
	}
	// What belongs to the hub is not open in a session with DPS.
	d.send(&mqtt.Subscribe{ID: d.next16(), Filters: []mqtt.Filter{{Filter: "$iothub/twin/res/#"}}})
	if ack := expect[*mqtt.Suback](d); ack.Codes[0] != mqtt.SubackFailure {
		t.Error("a twin in a session with DPS")
	}
	d.leave()

	// The hub knows the device, with the twin that it was to begin with.
	hub := w.connect(t, "meter-1", cert, "$iothub/twin/res/#")
	hub.publish("$iothub/twin/GET/?$rid=7", "")
	if got := string(hub.receive().Payload); !strings.Contains(got, `"interval":5`) {
		t.Errorf("twin is %s", got)
	}
	w.restart()
	if p := w.registrar("meter-1", cert).register(`{"registrationId" : "meter-1"}`); p.State.Substatus != dps.DataMigrated {
		t.Errorf("%+v", p.State)
	}
}

func TestProvisioningIsRefused(t *testing.T) {
	w := newWorld(t)
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "meter-off", Group: "meters", Disabled: true})
	d := w.registrar("meter-1", w.certificate("meter-1"))
	for body, want := range map[string]int{
		`{"registrationId":"meter-2"}`: 400004, "{": 400006, `{"tpm":{"endorsementKey":"AA=="}}`: 401002, `{"csr":"ZGVy"}`: 400040,
	} {
		if got := d.refusedRegistration(body); got != want {
			t.Errorf("%s: %d, want %d", body, got, want)
		}
	}
	if got := w.registrar("valve-1", w.certificate("valve-1")).refusedRegistration(""); got != 401002 {
		t.Errorf("a device of nobody's: %d", got)
	}
	if p := w.registrar("meter-off", w.certificate("meter-off")).register(""); p.Status != dps.Failed || p.State.ErrorCode != 403012 {
		t.Errorf("disabled: %+v", p.State)
	}
	cert := w.certificate("meter-1")
	name := w.scope() + "/registrations/meter-1/api-version=2019-03-31"
	for what, c := range map[string]struct {
		id, name string
		cert     tls.Certificate
		password []byte
	}{
		"a token":        {"meter-1", name, cert, []byte("SharedAccessSignature sr=x&sig=y&se=1&skn=registration")},
		"another's id":   {"meter-2", strings.Replace(name, "meter-1", "meter-2", 1), cert, nil},
		"two ids":        {"meter-1", strings.Replace(name, "meter-1", "meter-2", 1), cert, nil},
		"another scope":  {"meter-1", "0neFFFFFFFF/registrations/meter-1/api-version=2019-03-31", cert, nil},
		"no api-version": {"meter-1", w.scope() + "/registrations/meter-1/", cert, nil},
	} {
		if _, code, err := w.dial(c.id, c.name, c.cert, c.password); err == nil && code == mqtt.Accepted {
			t.Errorf("%s was let in", what)
		}
	}
	if _, _, err := w.dial("meter-1", name, selfSigned(t, "meter-1"), nil); err == nil {
		t.Error("a self-signed certificate was let in")
	}
	if _, err := w.operator.Device(t.Context(), "meter-1"); err == nil {
		t.Error("a refused device was entered")
	}
}

func selfSigned(t *testing.T, id string) tls.Certificate {
	cert, key := makeCert(t, &x509.Certificate{Subject: pkix.Name{CommonName: id}, IsCA: true, BasicConstraintsValid: true}, nil, nil)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// https sends a request to DPS.
func (w *world) https(cert *tls.Certificate, method, path, body string, header ...string) (int, http.Header, map[string]any) {
	w.t.Helper()
	cfg := &tls.Config{RootCAs: w.roots, ServerName: "localhost"}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	c := http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(w.t.Context(), method, "https://"+w.at.HTTPS+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		w.t.Fatalf("%s %s: %d %q", method, path, res.StatusCode, b)
	}
	return res.StatusCode, res.Header, m
}

func TestProvisioningOverHTTPS(t *testing.T) {
	w := newWorld(t)
	cert := w.certificate("meter-3")
	base := "/" + w.scope() + "/registrations/meter-3"
	const version = "?api-version=2019-03-31"
	status, header, m := w.https(&cert, "PUT", base+"/register"+version, `{"registrationId":"meter-3"}`)
	if status != 202 || header.Get("Retry-After") != "1" || m["status"] != "assigning" {
		t.Fatalf("%d %v %v", status, header, m)
	}
	status, _, m = w.https(&cert, "GET", base+"/operations/"+m["operationId"].(string)+version, "{}")
	if status != 200 || m["status"] != "assigned" {
		t.Errorf("%d %v", status, m)
	}
	for what, c := range map[string]struct {
		cert   *tls.Certificate
		path   string
		header []string
	}{
		"no certificate":  {nil, base, nil},
		"a token":         {nil, base, []string{"Authorization", "SharedAccessSignature sr=x&sig=y&se=1"}},
		"token with cert": {&cert, base, []string{"Authorization", "SharedAccessSignature sr=x&sig=y&se=1"}},
		"another's id":    {&cert, strings.Replace(base, "meter-3", "meter-4", 1), nil},
	} {
		if status, _, m := w.https(c.cert, "PUT", c.path+"/register"+version, "{}", c.header...); status != 401 || m["errorCode"] != 401002.0 {
			t.Errorf("%s: %d %v", what, status, m)
		}
	}
}

// request makes a certificate request.
func request(t *testing.T, id string) (string, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}, SignatureAlgorithm: x509.ECDSAWithSHA384}, key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der), key
}

func chainOf(t *testing.T, texts []string, key *ecdsa.PrivateKey) tls.Certificate {
	t.Helper()
	cert := tls.Certificate{PrivateKey: key}
	for _, text := range texts {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		cert.Certificate = append(cert.Certificate, der)
	}
	return cert
}

func TestCertificatesByRequestAndTheirRenewal(t *testing.T) {
	w := newWorld(t)
	csr, key := request(t, "meter-5")
	p := w.registrar("meter-5", w.certificate("meter-5")).register(`{"registrationId":"meter-5","csr":"` + csr + `"}`)
	if p.Status != dps.Assigned || len(p.State.Chain) < 2 {
		t.Fatalf("%+v", p.State)
	}
	d := w.connect(t, "meter-5", chainOf(t, p.State.Chain, key), "$iothub/credentials/res/#")
	csr, key = request(t, "meter-5")
	d.publish("$iothub/credentials/POST/issueCertificate/?$rid=9", `{"id":"meter-5","csr":"`+csr+`","replace":null}`)
	if p := d.receive(); p.Topic != "$iothub/credentials/res/202/?$rid=9" || !bytes.Contains(p.Payload, []byte(`"operationExpires"`)) {
		t.Fatalf("%s %s", p.Topic, p.Payload)
	}
	second := d.receive()
	var issued dps.Issued
	if second.Topic != "$iothub/credentials/res/200/?$rid=9" || json.Unmarshal(second.Payload, &issued) != nil || len(issued.Certificates) != 3 {
		t.Fatalf("%s %s", second.Topic, second.Payload)
	}
	renewed := chainOf(t, issued.Certificates[:2], key)
	for body, want := range map[string]string{
		`{"id":"meter-5","csr":"` + csr + `"}`:               "400", // the same key once more
		`{"id":"meter-6","csr":"` + csr + `"}`:               "400",
		`{"id":"meter-5","csr":"` + csr + `","replace":"1"}`: "412",
	} {
		d.publish("$iothub/credentials/POST/issueCertificate/?$rid=1", body)
		p := d.receive()
		if strings.Contains(p.Topic, "/res/202/") {
			p = d.receive()
		}
		if p.Topic != "$iothub/credentials/res/"+want+"/?$rid=1" || !bytes.Contains(p.Payload, []byte(`"errorCode":`+want)) {
			t.Errorf("%s: %s %s", body, p.Topic, p.Payload)
		}
	}
	d.leave()
	w.connect(t, "meter-5", renewed).sync()
}

func TestSelfSignedCertificates(t *testing.T) {
	w := newWorld(t)
	if _, err := w.operator.SetGroup(t.Context(), "old", operator.SetGroup{PolicyName: "lenient", SelfSigned: true}); err != nil {
		t.Fatal(err)
	}
	cert := selfSigned(t, "gadget-1")
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "gadget-1", Group: "old", Certificates: []identity.Digest{identity.Sum(cert.Certificate[0])}})
	if p := w.registrar("gadget-1", cert).register(""); p.Status != dps.Assigned {
		t.Fatalf("%+v", p.State)
	}
	d := w.connect(t, "gadget-1", cert)
	d.sync()
	shown, err := w.operator.Device(t.Context(), "gadget-1")
	if err != nil || shown.Group != "old" {
		t.Fatalf("%+v, %v", shown, err)
	}
	for _, id := range []measure.ID{measure.IdentityHardwareRoot, measure.IdentityDeviceID, measure.IdentityCertificates, measure.ProtocolX509} {
		i := slices.IndexFunc(shown.Posture, func(r measure.Row) bool { return r.Measure == id })
		if shown.Posture[i].Verdict != measure.Fail {
			t.Errorf("%+v", shown.Posture[i])
		}
	}
	// Another self-signed certificate of the same name, and the right one under
	// another's name, are strangers.
	name := "localhost/gadget-1/?api-version=2021-04-12"
	if _, code, err := w.dial("gadget-1", name, selfSigned(t, "gadget-1"), nil); err == nil && code == mqtt.Accepted {
		t.Error("another certificate was let in")
	}
	if _, code, err := w.dial("meter-1", "localhost/meter-1/?api-version=2021-04-12", cert, nil); err == nil && code == mqtt.Accepted {
		t.Error("it was let in as another device")
	}
	if err := w.operator.RemoveEnrollment(t.Context(), operator.Individual, "gadget-1"); err != nil {
		t.Fatal(err)
	}
	if _, code, err := w.dial("gadget-1", name, cert, nil); err == nil && code == mqtt.Accepted {
		t.Error("let in without its enrolment")
	}
}
