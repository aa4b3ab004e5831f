package posture

// Facts is what a device's status follows from.
type Facts struct {
	Revoked  bool     // an operator revoked it
	Refused  bool     // it asked to enrol and was refused, and was not born since
	Pending  bool     // it showed itself and an operator has to decide
	Held     bool     // an operator put it in quarantine
	Standing Standing // of the decision on its posture
	Failed   bool     // a row that the policy demands fails, rather than being unknown
	Demands  bool     // the policy demands something
	Seen     bool     // it has had an operational certificate or a session
	Live     bool     // it has a live session
	Confined bool     // its live session is a quarantine session whatever its posture: opened with a birth certificate
}

// StatusOf derives a device's status. The first that applies counts:
//
//  1. revoked: nothing else matters any more;
//  2. refused, then pending: it is not a device of the fleet yet;
//  3. quarantined by an operator, whatever its posture;
//  4. quarantined by its posture: a demand is unmet. A device that never was
//     here has merely proved nothing yet: it is offline until a demand fails;
//  5. quarantined because its session is;
//  6. offline without a live session;
//  7. connected, when its policy demands nothing;
//  8. degraded, when a demand is met only weakly;
//  9. trusted.
func StatusOf(f Facts) Status {
	switch {
	case f.Revoked:
		return Revoked
	case f.Refused:
		return Refused
	case f.Pending:
		return Pending
	case f.Held:
		return Quarantined
	case f.Standing == Unmet && (f.Failed || f.Seen || f.Live):
		return Quarantined
	case f.Live && f.Confined:
		return Quarantined
	case !f.Live:
		return Offline
	case !f.Demands:
		return Connected
	case f.Standing == Met:
		return Trusted
	case f.Standing == Weak:
		return Degraded
	}
	return Quarantined // an unknown standing is none to trust
}
