package dps_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/dps"
	"holdfast/identity"
)

func TestParseRegistration(t *testing.T) {
	for _, s := range []string{"a", "A-", "Meter-7", "a.b_c:d-", strings.Repeat("x", dps.MaxRegistration)} {
		if r, err := dps.ParseRegistration(s); err != nil || string(r) != s {
			t.Errorf("%q: %q, %v", s, r, err)
		}
	}
	for _, s := range []string{"", "-a", "a.", "a_", "a:", "a/b", "a b", "a\x00", "a%41", "\u00e4", "a+", "a#", strings.Repeat("x", dps.MaxRegistration+1)} {
		if r, err := dps.ParseRegistration(s); err == nil {
			t.Errorf("%q was read as %q", s, r)
		}
	}
	if !dps.Registration("Meter-7").Is("METER-7") || dps.Registration("meter-7").Is("meter-70") {
		t.Error("case counts, or more than case does not")
	}
}

func TestScope(t *testing.T) {
	s := dps.ScopeOf(identity.Sum([]byte("root")))
	if len(s) != 11 || !strings.HasPrefix(string(s), "0ne") || s != dps.ScopeOf(identity.Sum([]byte("root"))) {
		t.Errorf("scope is %q", s)
	}
	if !s.Is(strings.ToLower(string(s))) || s.Is("") || s.Is(string(s)+"0") || s == dps.ScopeOf(identity.Sum(nil)) {
		t.Error("another scope passes")
	}
}

func TestOperation(t *testing.T) {
	o := dps.NewOperation()
	if got, err := dps.ParseOperation(string(o)); err != nil || got != o || len(o) > 100 || o == dps.NewOperation() {
		t.Errorf("%q: %q, %v", o, got, err)
	}
	for _, s := range []string{"", "4.", string(o) + "0", string(o[:54]), "5" + string(o[1:]), strings.ToUpper(string(o)) + "",
		strings.Replace(string(o), "-", "0", 1), strings.Replace(string(o), ".", "/", 2), string(o[:54]) + "/"} {
		if got, err := dps.ParseOperation(s); err == nil && s != string(o) {
			t.Errorf("%q was read as %q", s, got)
		}
	}
}

func TestParseRequest(t *testing.T) {
	csr := base64.StdEncoding.EncodeToString([]byte("der"))
	for body, want := range map[string]dps.Request{
		"":                               {},
		" \n":                            {},
		"{}":                             {},
		`{"registrationId" : "meter-7"}`: {Registration: "meter-7"},
		`{"registrationId":"meter-7","payload":{"a":[1,{"b":null}]},"new":true}`: {Registration: "meter-7"},
		`{"registrationId":null,"payload":null,"tpm":null,"csr":null}`:           {},
		`{"registrationId":"meter-7","csr":"` + csr + `"}`:                       {Registration: "meter-7", CSR: []byte("der")},
	} {
		got, err := dps.ParseRequest([]byte(body))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", body, err, diff)
		}
	}
}

func TestParseRequestRefuses(t *testing.T) {
	long := base64.StdEncoding.EncodeToString(make([]byte, dps.MaxCSR+1))
	for _, body := range []string{
		"null", "[]", `"x"`, "1", "{", `{"a"}`, `{"a":}`, `{"a":1,}`, "{}{}", "{} x", "\xff",
		`{"registrationId":1}`, `{"registrationId":""}`, `{"registrationId":"a/b"}`, `{"registrationId":"a\u0000"}`,
		`{"registrationId":"a","registrationId":"b"}`, `{"payload":1,"payload":1}`,
		`{"csr":1}`, `{"csr":""}`, `{"csr":"%"}`, `{"csr":"-----BEGIN CERTIFICATE REQUEST-----"}`, `{"csr":"` + long + `"}`, `{"csr":"YR=="}`,
		`{"payload":"` + strings.Repeat("x", dps.MaxRequest) + `"}`, strings.Repeat(" ", dps.MaxRequest+1),
		`{"payload":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
	} {
		if got, err := dps.ParseRequest([]byte(body)); err == nil {
			t.Errorf("%.80s was read as %.80v", body, got)
		}
	}
	if _, err := dps.ParseRequest([]byte(`{"tpm":{"endorsementKey":"AA=="}}`)); !errors.Is(err, dps.ErrTPM) {
		t.Errorf("TPM: %v", err)
	}
}

func TestParseRenewal(t *testing.T) {
	for body, want := range map[string]dps.Renewal{
		`{"id":"meter-7","csr":"ZGVy"}`:                {Device: "meter-7", CSR: []byte("der")},
		`{"id":"meter-7","csr":"ZGVy","replace":null}`: {Device: "meter-7", CSR: []byte("der")},
		`{"id":"meter-7","csr":"ZGVy","replace":"*"}`:  {Device: "meter-7", CSR: []byte("der"), Replace: "*"},
	} {
		got, err := dps.ParseRenewal([]byte(body))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", body, err, diff)
		}
	}
	for _, body := range []string{
		"", "{}", `{"id":"meter-7"}`, `{"csr":"ZGVy"}`, `{"id":"a/b","csr":"ZGVy"}`, `{"id":"meter-7","csr":null}`,
		`{"id":"meter-7","csr":"ZGVy","replace":1}`, `{"id":"meter-7","csr":"ZGVy","replace":""}`,
		`{"id":"meter-7","csr":"ZGVy","x":"` + strings.Repeat("x", dps.MaxRenewal) + `"}`,
	} {
		if got, err := dps.ParseRenewal([]byte(body)); err == nil {
			t.Errorf("%.80s was read as %.80v", body, got)
		}
	}
}

func TestAnswersHaveTheServicesForm(t *testing.T) {
	at := dps.Time(time.Date(2026, 11, 20, 12, 0, 0, 1230000, time.FixedZone("", 3600)))
	p := dps.Progress{Operation: "4.0", Status: dps.Assigned, State: &dps.State{
		Registration: "Meter-7", Created: at, Hub: "hub.example", Device: "Meter-7", Status: dps.Assigned,
		Substatus: dps.InitialAssignment, Updated: at, ETag: "IjEi", Chain: dps.Chain([][]byte{[]byte("der")}),
	}}
	got, err := json.Marshal(p)
	const want = `{"operationId":"4.0","status":"assigned","registrationState":{"registrationId":"Meter-7",` +
		`"createdDateTimeUtc":"2026-11-20T11:00:00.0012300Z","assignedHub":"hub.example","deviceId":"Meter-7","status":"assigned",` +
		`"substatus":"initialAssignment","lastUpdatedDateTimeUtc":"2026-11-20T11:00:00.0012300Z","etag":"IjEi","issuedCertificateChain":["ZGVy"]}}`
	if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	got, err = json.Marshal(dps.Progress{Operation: "4.0", Status: dps.Assigning})
	if want := `{"operationId":"4.0","status":"assigning"}`; err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}

// FuzzRegister checks that no body makes the parser panic, and that what it
// reads is within the limits and means the same when it is written again.
func FuzzRegister(f *testing.F) {
	f.Add([]byte(`{"registrationId" : "meter-7", "payload" : {"a":1}, "csr":"ZGVy"}`))
	f.Add([]byte(`{"tpm":{"endorsementKey":"AA=="}}`))
	f.Add([]byte(`{"id":"meter-7","csr":"ZGVy","replace":"*"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if r, err := dps.ParseRenewal(body); err == nil && (len(r.CSR) == 0 || len(r.CSR) > dps.MaxCSR || r.Device == "") {
			t.Fatalf("%q was read as %+v", body, r)
		}
		r, err := dps.ParseRequest(body)
		if err != nil {
			return
		}
		again, err := json.Marshal(map[string]any{"registrationId": r.Registration, "csr": r.CSR})
		if r.Registration == "" || r.CSR == nil || err != nil {
			return
		}
		same, err := dps.ParseRequest(again)
		if diff := cmp.Diff(r, same); err != nil || diff != "" {
			t.Fatalf("%q became %q: %v\n%s", body, again, err, diff)
		}
	})
}
