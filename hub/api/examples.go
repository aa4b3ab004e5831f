package api

import (
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"
)

// examples are bodies that say what an operation is asked, by its id.
func examples() map[string]string {
	return map[string]string{
		"set-group":        `{"policy_name": "standard", "ids": ["pump-*"]}`,
		"check-policy":     `{"group": "pumps", "policy": {"name": "strict", "version": 2, "require": [{"measure": "protocol.tls", "grade": "observed"}]}}`,
		"add-ca":           `{"name": "acme", "kind": "maker", "pem": "-----BEGIN CERTIFICATE-----\n..."}`,
		"verify-ca":        `{}`,
		"add-device":       `{"id": "pump-01", "group": "pumps", "token": true}`,
		"act-on-device":    `{"reason": "stolen"}`,
		"revoke-devices":   `{"group": "pumps", "reason": "the batch's keys have leaked"}`,
		"add-reference":    `{"group": "pumps", "kind": "firmware", "pcr": 4, "digest": "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a", "name": "pump firmware", "version": "1.4.0"}`,
		"merge-twin":       `{"desired": {"interval": 60, "colour": null}}`,
		"replace-twin":     `{"tags": {"hall": "north"}}`,
		"call-method":      `{"payload": {"times": 3}, "timeout_seconds": 10}`,
		"send-message":     `{"body": "hello", "expires_seconds": 3600, "ack": "full"}`,
		"start-rollout":    `{"product": "pump", "version": "1.4.0", "groups": ["pumps"], "canary_percent": 5, "step_percent": 25, "soak_seconds": 600, "halt_on_percent": 2, "windows": [{"from": "22:00", "to": "04:00"}]}`,
		"act-on-rollout":   `{"reason": "the pumps of hall 3 stopped"}`,
		"publish-metadata": `{"files": {"3.pump.json": "eyJzaWduYXR1cmVzIjpbXX0="}}`,
		"add-enrollment":   `{"kind": "individual", "id": "pump-02", "group": "pumps", "certificates": ["5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"]}`,
		"add-account":      `{"name": "ada", "role": "operator", "groups": ["pumps"]}`,
		"change-account":   `{"name": "ada", "role": "viewer"}`,
		"revoke-account":   `{"reason": "left the company"}`,
		"certify-account":  `{"csr": "-----BEGIN CERTIFICATE REQUEST-----\n..."}`,
		"new-link":         `{}`,
		"add-token":        `{"name": "nightly report", "role": "viewer", "ttl_seconds": 86400}`,
		"accept-pending":   `{"device": "pump-03", "group": "pumps"}`,
		"refuse-pending":   `{"reason": "not one of ours"}`,
	}
}

// exemplify puts the examples into the description.
func exemplify(doc *huma.OpenAPI) {
	bodies := examples()
	for _, item := range doc.Paths {
		for _, o := range operationsOf(item) {
			if text, ok := bodies[o.OperationID]; ok && o.RequestBody != nil {
				o.RequestBody.Content["application/json"].Example = json.RawMessage(text)
			}
		}
	}
}
