package dps

import (
	"encoding/base64"
	"encoding/json"

	"holdfast/identity"
	"holdfast/iothub"
)

// Status says how far a registration is.
type Status string

// The statuses. Node's client takes any other as an error of the protocol.
const (
	Assigning Status = "assigning"
	Assigned  Status = "assigned"
	Failed    Status = "failed"
	Disabled  Status = "disabled"
)

// Substatus says what became of the device's data.
type Substatus string

// The substatuses.
const (
	InitialAssignment Substatus = "initialAssignment"
	DataMigrated      Substatus = "deviceDataMigrated" // the device came again, its data were kept
	DataReset         Substatus = "deviceDataReset"    // the device came again, its data were reset
)

// Progress is the answer to a registration and to the question how it stands.
type Progress struct {
	Operation Operation `json:"operationId"`
	Status    Status    `json:"status"`
	State     *State    `json:"registrationState,omitempty"`
}

// State is what the service knows of a registration.
type State struct {
	X509         *X509           `json:"x509,omitempty"`
	Registration Registration    `json:"registrationId"`
	Created      Time            `json:"createdDateTimeUtc,omitzero"`
	Hub          string          `json:"assignedHub,omitempty"` // with Device or not at all
	Device       identity.Device `json:"deviceId,omitempty"`
	Status       Status          `json:"status"`
	Substatus    Substatus       `json:"substatus,omitempty"`
	ErrorCode    iothub.Code     `json:"errorCode,omitempty"`
	ErrorMessage string          `json:"errorMessage,omitempty"`
	Updated      Time            `json:"lastUpdatedDateTimeUtc,omitzero"`
	ETag         string          `json:"etag,omitempty"`
	Payload      json.RawMessage `json:"payload,omitempty"`
	// Chain is the certificate that was asked for, the leaf first, each base64
	// of its DER.
	Chain []string `json:"issuedCertificateChain,omitempty"`
}

// X509 says by what enrolment and certificate a device was known.
type X509 struct {
	Group       string       `json:"enrollmentGroupId,omitempty"`
	Certificate *Certificate `json:"signingCertificateInfo,omitempty"`
	Leaf        *Certificate `json:"primaryCertificateInfo,omitempty"`
}

// Certificate describes a certificate. SHA1 of the service's form is left out.
type Certificate struct {
	Subject   string          `json:"subjectName,omitempty"`
	SHA256    identity.Digest `json:"sha256Thumbprint"`
	NotBefore Time            `json:"notBeforeUtc,omitzero"`
	NotAfter  Time            `json:"notAfterUtc,omitzero"`
	Serial    string          `json:"serialNumber,omitempty"`
}

// Chain writes DER certificates, the leaf first, as answers carry them.
func Chain(certs [][]byte) []string {
	var out []string
	for _, der := range certs {
		out = append(out, base64.StdEncoding.EncodeToString(der))
	}
	return out
}

// Accepted is the first answer to a [Renewal].
type Accepted struct {
	Correlation string `json:"correlationId"`
	Expires     Time   `json:"operationExpires"`
}

// Issued is the second.
type Issued struct {
	Certificates []string `json:"certificates"` // as Chain has them: leaf, intermediate, root
}

// The error codes that iothub's do not cover.
const (
	CodeCSR    iothub.Code = 400040 // the certificate request breaks a rule
	CodeActive iothub.Code = 409005 // another operation of the device runs
)
