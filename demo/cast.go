package demo

import (
	"fmt"
	"strings"
	"time"

	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

// role is one device of the story: what it is, and where it must end.
type role struct {
	id, group string
	what      string
	noTPM     bool // its key is in a file
	noVerify  bool // its boot ROM starts anything
	tamper    bool // its flash is modified once it has been trusted
	maker     bool // not our runtime: mosquitto_pub with a maker's certificate
	end       func(operator.Device) error
}

// roles is the cast, in the order of the table.
func roles() []role {
	return []role{
		{id: "pump-01", group: "pumps", what: "a healthy board", end: trustedForLong},
		{id: "pump-02", group: "pumps", what: "another healthy board", end: trustedForLong},
		{id: "pump-03", group: "bench", what: "boot ROM does not verify; its flash gets modified", noVerify: true, tamper: true, end: unknownMeasurement},
		{id: "pump-04", group: "pumps", what: "boot ROM verifies; its flash gets modified", tamper: true, end: refusedSlot},
		{id: "valve-01", group: "valves", what: "a key in a file, where hardware is demanded", noTPM: true, end: refusedWithReason},
		{id: "sensor-01", group: "sensors", what: "mosquitto_pub with a maker's certificate", maker: true, end: connectedUnproven},
	}
}

// aside tells whether an operator has put a device aside, which only an
// operator undoes.
func aside(d operator.Device) bool {
	return d.Status == posture.Revoked || d.Status == posture.Quarantined && strings.HasPrefix(d.Reason, "quarantined by ")
}

func trustedForLong(d operator.Device) error {
	if d.Status != posture.Trusted {
		return fmt.Errorf("is %s, not trusted%s", d.Status, because(d))
	}
	if d.Certificate == nil || time.Duration(d.Certificate.Lifetime)*time.Second < 23*time.Hour {
		return fmt.Errorf("is trusted, but its certificate is still the short one")
	}
	return nil
}

func unknownMeasurement(d operator.Device) error {
	if d.Status != posture.Quarantined {
		return fmt.Errorf("is %s, not quarantined%s", d.Status, because(d))
	}
	if r := row(d, measure.IdentityAttestation); r.Verdict != measure.Fail {
		return fmt.Errorf("is quarantined, but identity.attestation is %s: %s", r.Verdict, r.Reason)
	}
	return nil
}

func refusedSlot(d operator.Device) error {
	if err := trustedForLong(d); err != nil {
		return err
	}
	r := row(d, measure.FirmwareSecureBoot)
	if r.Verdict != measure.Pass || !refusalReported(r.Reason) {
		return fmt.Errorf("is trusted, but the refused slot is not reported: firmware.secure-boot is %s: %s", r.Verdict, r.Reason)
	}
	return nil
}

func refusedWithReason(d operator.Device) error {
	if d.Status != posture.Refused || d.Reason == "" {
		return fmt.Errorf("is %s, not refused with a reason%s", d.Status, because(d))
	}
	return nil
}

func connectedUnproven(d operator.Device) error {
	if d.Status != posture.Connected {
		return fmt.Errorf("is %s, not connected%s", d.Status, because(d))
	}
	if r := row(d, measure.IdentityAttestation); r.Verdict != measure.Unknown {
		return fmt.Errorf("cannot prove identity.attestation, which says %s", r.Verdict)
	}
	return nil
}

// row returns the row of a measure, unknown when there is none.
func row(d operator.Device, id measure.ID) measure.Row {
	for _, r := range d.Posture {
		if r.Measure == id {
			return r
		}
	}
	return measure.Row{Measure: id, Verdict: measure.Unknown, Grade: measure.None}
}
