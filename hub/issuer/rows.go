package issuer

import (
	"fmt"
	"time"

	"holdfast/measure"
	"holdfast/pki"
)

// Rows are what the issue of a device's certificate proves: the hub did it
// itself, so the grade is observed. Other certificates prove nothing.
func (i Issued) Rows() []measure.Row {
	row := func(id measure.ID, reason string) measure.Row {
		return measure.Row{Measure: id, Verdict: measure.Pass, Grade: measure.Observed, Reason: reason, Time: i.Issued.UTC()}
	}
	switch i.Class {
	case pki.Birth:
		return []measure.Row{row(measure.IdentityCertificates,
			"birth certificate "+i.Serial+" issued for a key that signed its own request and was never seen before")}
	case pki.Operational:
		return []measure.Row{
			row(measure.IdentityCertificates, fmt.Sprintf(
				"certificate %s issued until %s for a new key that signed its own request; it can be revoked and renewed",
				i.Serial, i.NotAfter.UTC().Format(time.RFC3339))),
			row(measure.CredentialsRenewable, fmt.Sprintf("lives %s; renewed only with a new key, as the posture then allows", i.Lifetime)),
		}
	}
	return nil
}
