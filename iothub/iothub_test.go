package iothub_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/identity"
	"holdfast/iothub"
)

func TestParseTopic(t *testing.T) {
	for _, c := range []struct {
		topic string
		want  iothub.Topic
	}{
		{"devices/pump-01/messages/events/", iothub.Events{Device: "pump-01"}},
		{"devices/pump-01/messages/events/a=b&c", iothub.Events{Device: "pump-01",
			Bag: iothub.Bag{{Key: "a", Value: "b"}, {Key: "c", Null: true}}}},
		{"$hub/attest/nonce/?$rid=7f-0a", iothub.Attest{Op: iothub.AttestNonce, RequestID: "7f-0a"}},
		{"$hub/attest/evidence/?$rid=%41", iothub.Attest{Op: iothub.AttestEvidence, RequestID: "%41"}},
		{"$hub/attest/res/422/?$rid=1", iothub.AttestResult{Status: 422, RequestID: "1"}},
		{"$hub/posture/?$version=12", iothub.Posture{Version: 12}},
		{"$hub/update/?$version=12", iothub.UpdateOffer{Version: 12}},
		{"$hub/update/progress/?$rid=7", iothub.UpdateProgress{RequestID: "7"}},
		{"$hub/update/res/204/?$rid=7", iothub.UpdateResult{Status: 204, RequestID: "7"}},
		{"$hub/logs/?$first=18446744073709551615", iothub.Logs{First: 1<<64 - 1}},
		{"devices/pump-01/messages/devicebound/%24.mid=1", iothub.Devicebound{Device: "pump-01", Bag: iothub.Bag{{Key: "$.mid", Value: "1"}}}},
		{"$iothub/twin/GET/?$rid=2", iothub.TwinGet{RequestID: "2"}},
		{"$iothub/twin/PATCH/properties/reported/?$rid=reported_prop", iothub.ReportedPatch{RequestID: "reported_prop"}},
		{"$iothub/twin/res/200/?$rid=2", iothub.TwinResult{Status: 200, RequestID: "2"}},
		{"$iothub/twin/res/204/?$rid=3&$version=2", iothub.TwinResult{Status: 204, RequestID: "3", Version: 2}},
		{"$iothub/twin/PATCH/properties/desired/?$version=2", iothub.DesiredPatch{Version: 2}},
		{"$iothub/methods/POST/thermostat1*getMaxMinReport/?$rid=1a", iothub.MethodCall{Name: "thermostat1*getMaxMinReport", RequestID: "1a"}},
		{"$iothub/methods/res/-7/?$rid=1a", iothub.MethodResult{Status: -7, RequestID: "1a"}},
		{"$iothub/credentials/POST/issueCertificate/?$rid=1", iothub.IssueCertificate{RequestID: "1"}},
		{"$iothub/credentials/res/202/?$rid=1", iothub.CredentialResult{Status: 202, RequestID: "1"}},
		{"$dps/registrations/PUT/iotdps-register/?$rid=1", iothub.Register{RequestID: "1"}},
		{"$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1&operationId=4.ab.c-d", iothub.OperationStatus{RequestID: "1", OperationID: "4.ab.c-d"}},
		{"$dps/registrations/res/202/?$rid=1&retry-after=3", iothub.RegisterResult{Status: 202, RequestID: "1", RetryAfter: 3}},
		{"$dps/registrations/res/401/?$rid=1", iothub.RegisterResult{Status: 401, RequestID: "1"}},
	} {
		got, err := iothub.ParseTopic(c.topic)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", c.topic, err, diff)
		}
		if c.want.String() != c.topic {
			t.Errorf("%#v is %q, want %q", c.want, c.want, c.topic)
		}
	}
	if got, err := iothub.ParseTopic("devices/a/messages/events"); err != nil || got.String() != "devices/a/messages/events/" {
		t.Errorf("without the last slash: %v, %v", got, err)
	}
}

func TestParseTopicRefuses(t *testing.T) {
	for _, s := range []string{
		"", "/", "devices", "devices/", "devices//messages/events/", "telemetry",
		"Devices/pump-01/messages/events/", "devices/pump-01/Messages/events/",
		"devices/pump-01/messages/eventsx", "devices/pump-01/messages/events/a/b",
		"devices/pump-01/messages/devicebound", "devices/pump-01/messages/devicebound/a/b", "devices/pump-01//messages/events/",
		"/devices/pump-01/messages/events/", "devices/pump-01/modules/m/messages/events/",
		// Other spellings of pump-02.
		"devices/pump%2D02/messages/events/", "devices/pump-01%2F../pump-02/messages/events/",
		"devices/pump-01/../pump-02/messages/events/", "devices%2Fpump-02/messages/events/",
		"devices/pump-02\x00/messages/events/", "devices/pump-\xc0\xaf02/messages/events/",
		"devices/pump\u201302/messages/events/", "devices/ pump-02/messages/events/",
		"devices/+/messages/events/", "devices/#",
		"devices/" + strings.Repeat("a", identity.MaxDevice+1) + "/messages/events/",
		"devices/pump-01/messages/events/%", "devices/pump-01/messages/events/a=%4",
		"devices/pump-01/messages/events/a=%00", "devices/pump-01/messages/events/a=%c0%af",
		"devices/pump-01/messages/events/a=1&a=2", "devices/pump-01/messages/events/a=1&%61=2",
		"$hub", "$hub/", "$hub/attest/nonce", "$hub/attest/nonce/", "$hub/attest/nonce/?$rid=",
		"$hub/attest/nonce/?rid=1", "$hub/attest/Nonce/?$rid=1", "$hub/attest/other/?$rid=1",
		"$hub/attest/nonce/?$rid=a/b", "$hub/attest/nonce/?$rid=a&b", "$hub/attest/nonce/?$rid=a#",
		"$hub/attest/nonce/?$rid=a+", "$hub/attest/nonce/?$rid=a b", "$hub/attest/nonce/?$rid=\u00fc",
		"$hub/attest/nonce/?$rid=" + strings.Repeat("a", iothub.MaxRequestID+1),
		"$hub/attest/res/2/?$rid=1", "$hub/attest/res/0200/?$rid=1", "$hub/attest/res/-20/?$rid=1",
		"$hub/attest/res/+20/?$rid=1", "$hub/attest/res/099/?$rid=1", "$hub/attest/res/200/?$rid=",
		"$hub/update/?$version=01", "$hub/update/?$rid=1", "$hub/update/progress/?$version=1", "$hub/update/progress/", "$hub/update/res/20/?$rid=1", "$hub/logs/res/200/?$rid=1",
		"$hub/posture/?$version=", "$hub/posture/?$version=01", "$hub/posture/?$version=-1",
		"$hub/logs/?$first=18446744073709551616", "$hub/logs/?$first=1&x", "$hub/logs/?first=1",
		"$iothub", "$iothub/", "$iothub/twin/GET", "$iothub/twin/GET/", "$iothub/twin/GET?$rid=1", "$iothub/twin/get/?$rid=1",
		"$iothub/twin/GET/?$rid=1&$version=2", "$IOTHUB/twin/GET/?$rid=1", "$iothub/twin/PATCH/properties/reported/?$rid=",
		"$iothub/twin/PATCH/properties/reported/?$version=1", "$iothub/twin/PATCH/properties/desired/?$version=-1",
		"$iothub/twin/res/20/?$rid=1", "$iothub/twin/res/204/?$rid=1&$version=", "$iothub/twin/res/204/?$rid=1&$version=0",
		"$iothub/methods/POST//?$rid=1", "$iothub/methods/POST/a/b/?$rid=1", "$iothub/methods/POST/a?b/?$rid=1",
		"$iothub/methods/POST/" + strings.Repeat("a", iothub.MaxMethod+1) + "/?$rid=1", "$iothub/methods/PUT/a/?$rid=1",
		"$iothub/methods/res//?$rid=1", "$iothub/methods/res/+1/?$rid=1", "$iothub/methods/res/01/?$rid=1", "$iothub/methods/res/2147483648/?$rid=1",
		"$iothub/credentials/POST/other/?$rid=1", "$iothub/credentials/res/x/?$rid=1",
		"$dps", "$dps/registrations/PUT/iotdps-register/", "$dps/registrations/PUT/iotdps-register/?$rid=1&x=1",
		"$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1", "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1&operationId=",
		"$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1&operationId=a&b",
		"$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1&operationId=" + strings.Repeat("a", iothub.MaxOperation+1),
		"$dps/registrations/res/202/?$rid=1&retry-after=0", "$dps/registrations/res/202/?$rid=1&retry-after=86401",
		"$dps/registrations/res/202/?$rid=1&retry-after=18446744073709551615", "$dps/other/res/202/?$rid=1",
		"$HUB/logs/?$first=1", "$SYS/broker",
	} {
		if got, err := iothub.ParseTopic(s); err == nil {
			t.Errorf("%q was read as %#v", s, got)
		}
	}
}

func TestParseBag(t *testing.T) {
	for _, c := range []struct {
		text string
		want iothub.Bag
	}{
		{"", nil},
		{"?", nil},
		{"$.mid=1&%24.cid=2", iothub.Bag{{Key: "$.mid", Value: "1"}, {Key: "$.cid", Value: "2"}}},
		{"?a=b", iothub.Bag{{Key: "a", Value: "b"}}},
		{"a&b=", iothub.Bag{{Key: "a", Null: true}, {Key: "b"}}},
		{"a=b=c", iothub.Bag{{Key: "a", Value: "b=c"}}},
		{"a=1+1%20%2f%2F%e2%82%ac", iothub.Bag{{Key: "a", Value: "1+1 //\u20ac"}}},
	} {
		got, err := iothub.ParseBag(c.text)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", c.text, err, diff)
		}
	}
	bag := iothub.Bag{{Key: "$.to", Value: "/devices/a"}, {Key: "n", Null: true}, {Key: "e"}}
	if got, want := bag.String(), "%24.to=%2Fdevices%2Fa&n&e="; got != want {
		t.Errorf("bag is %q, want %q", got, want)
	}
}

func TestParseBagRefuses(t *testing.T) {
	for _, s := range []string{
		"&", "a&", "&a", "=", "=b", "a/b", "a=b/c", "%", "%4", "%zz", "%4z", "%z4", "a=%", "a=%e2%82",
		"a=%ff", "%00", "a=%00", "a=%c0%80", "a=%ed%a0%80", "a&a", "a=1&%61",
		"$.mid=" + strings.Repeat("x", iothub.MaxMessageID+1),
		"%24.cid=" + strings.Repeat("x", iothub.MaxMessageID+1),
		strings.Repeat("a&", iothub.MaxProperties) + "b",
	} {
		if bag, err := iothub.ParseBag(s); err == nil {
			t.Errorf("%q was read as %v", s, bag)
		}
	}
}

func TestNewTelemetry(t *testing.T) {
	now := time.Date(2026, 11, 3, 12, 0, 0, 5, time.FixedZone("", 3600))
	bag, err := iothub.ParseBag("%24.mid=m&$.ct=text%2Fplain&$.ctime=2026&$.new=1&site=north&none&empty=")
	if err != nil {
		t.Fatal(err)
	}
	got, err := iothub.NewTelemetry(iothub.Events{Device: "d", Bag: bag}, []byte("body"), now)
	if err != nil {
		t.Fatal(err)
	}
	got.MarkRetained()
	got.MarkWill()
	want := iothub.Message{
		Device: "d", Kind: iothub.Telemetry, Time: now.UTC(), Body: []byte("body"),
		Properties: map[string]string{"site": "north", "empty": "", "mqtt-retain": "true", "iothub-MessageType": "Will"},
		System: map[string]string{
			"message-id": "m", "content-type": "text/plain", "iothub-creation-time-utc": "2026", "$.new": "1",
			"iothub-connection-device-id":   "d",
			"iothub-connection-auth-method": `{"scope":"device","type":"x509","issuer":"iothub"}`,
			"iothub-enqueuedtime":           "2026-11-03T11:00:00.000000005Z",
			"iothub-message-source":         "Telemetry",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNewTelemetryRefuses(t *testing.T) {
	for _, bag := range []iothub.Bag{
		{{Key: "iothub-connection-device-id", Value: "other"}},
		{{Key: "iothub-connection-anything"}},
		{{Key: "iothub-enqueuedtime"}},
		{{Key: "iothub-message-source"}},
		{{Key: "iothub-MessageType"}},
		{{Key: "mqtt-retain"}},
		{{Key: "dt-dataschema"}},
		{{Key: "iothub-connection-device-id", Null: true}},
		{{Key: "$.ctime", Value: "1"}, {Key: "iothub-creation-time-utc", Value: "2"}},
		{{Key: "k", Value: strings.Repeat("v", iothub.MaxMessage)}},
	} {
		if m, err := iothub.NewTelemetry(iothub.Events{Device: "d", Bag: bag}, nil, time.Time{}); err == nil {
			t.Errorf("%.60v was taken: %v", bag, m.System)
		}
	}
	if _, err := iothub.NewTelemetry(iothub.Events{}, make([]byte, iothub.MaxMessage), time.Time{}); err != nil {
		t.Errorf("largest message: %v", err)
	}
	if _, err := iothub.NewTelemetry(iothub.Events{}, make([]byte, iothub.MaxMessage+1), time.Time{}); err == nil {
		t.Error("a message over the limit was taken")
	}
}

func TestParseUsername(t *testing.T) {
	full := iothub.Username{Host: "hub.example.com", Device: "pump-01", APIVersion: "2021-04-12", ClientType: "x/1 (y)", ModelID: "dtmi:a;1"}
	bare := iothub.Username{Host: "hub.example.com", Device: "pump-01", APIVersion: "2020-09-30"}
	for _, c := range []struct {
		text string
		want iothub.Username
	}{
		{"hub.example.com:8883/pump-01/?api-version=2021-04-12&DeviceClientType=x%2F1%20(y)&model-id=dtmi%3Aa%3B1", full},
		{"hub.example.com/pump-01/?model-id=dtmi:a;1&DeviceClientType=x%2f1%20%28y%29&api-version=2021-04-12", full},
		{"hub.example.com/pump-01/?api-version=2020-09-30&other=1", bare},
		{"hub.example.com/pump-01/api-version=2020-09-30", bare},
	} {
		got, err := iothub.ParseUsername(c.text)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", c.text, err, diff)
		}
	}
	for _, s := range []string{
		"", "pump-01", "hub/pump-01", "hub/pump-01/", "hub/pump-01/?", "/pump-01/?api-version=1", "hub//?api-version=1",
		"hub/pump%2D01/?api-version=1", "hub/pump-01/module/?api-version=1", "hub/pump-01/?api-version",
		"hub/pump-01/?api-version=1&api-version=2", "hub/pump-01/?api-version=%",
	} {
		if u, err := iothub.ParseUsername(s); err == nil {
			t.Errorf("%q was read as %+v", s, u)
		}
	}
}

func TestResults(t *testing.T) {
	for _, c := range []struct{ request, result string }{
		{"$hub/attest/nonce/?$rid=r", "$hub/attest/res/429/?$rid=r"},
		{"$iothub/twin/GET/?$rid=r", "$iothub/twin/res/429/?$rid=r"},
		{"$iothub/twin/PATCH/properties/reported/?$rid=r", "$iothub/twin/res/429/?$rid=r"},
		{"$iothub/credentials/POST/issueCertificate/?$rid=r", "$iothub/credentials/res/429/?$rid=r"},
		{"$dps/registrations/PUT/iotdps-register/?$rid=r", "$dps/registrations/res/429/?$rid=r"},
		{"$dps/registrations/GET/iotdps-get-operationstatus/?$rid=r&operationId=o", "$dps/registrations/res/429/?$rid=r"},
	} {
		topic, err := iothub.ParseTopic(c.request)
		if err != nil {
			t.Fatal(err)
		}
		r, ok := topic.(iothub.Request)
		if !ok || r.Result(429).String() != c.result {
			t.Errorf("%s: answered on %v, want %s", c.request, r, c.result)
		}
	}
}

func TestParseRegistration(t *testing.T) {
	for s, want := range map[string]iothub.Registration{
		"0ne001/registrations/pump-01/api-version=2019-03-31&ClientVersion=x%2F1": {Scope: "0ne001", ID: "pump-01", APIVersion: "2019-03-31", ClientVersion: "x/1"},
		"s/registrations/pump-01/?api-version=1":                                  {Scope: "s", ID: "pump-01", APIVersion: "1"},
	} {
		got, err := iothub.ParseRegistration(s)
		if err != nil || got != want || !iothub.IsRegistration(s) {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
		if _, err := iothub.ParseUsername(s); err == nil {
			t.Errorf("%q is a user name of the hub too", s)
		}
	}
	for _, s := range []string{
		"", "/registrations/p/api-version=1", "s/registrations//api-version=1", "s/registrations/p", "s/registrations/p/", "s/registrations/p/ClientVersion=1",
		"s/registrations/p%2D/api-version=1", "s/registrations/p/q/api-version=1", "s+/registrations/p/api-version=1", "s/Registrations/p/api-version=1",
		strings.Repeat("s", iothub.MaxScope+1) + "/registrations/p/api-version=1", "h/registrations/?api-version=1",
	} {
		if got, err := iothub.ParseRegistration(s); err == nil {
			t.Errorf("%q was read as %+v", s, got)
		}
	}
	if s := "h/registrations/?api-version=1"; iothub.IsRegistration(s) {
		t.Errorf("%q of a device named registrations is taken for DPS", s)
	}
}
