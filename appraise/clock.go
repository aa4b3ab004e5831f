package appraise

// Clock is a TPM's TPMS_CLOCK_INFO and firmware version, as signed by the AK.
// For an AK outside the endorsement hierarchy the TPM adds to both counts and
// to the version a constant that is secret and the same in each statement of
// this AK (TPM 2.0 Library, Part 1, "Timing Components"): they can be compared with earlier values of
// the same key, by their difference modulo 2^32, and mean nothing alone.
type Clock struct {
	ResetCount   uint32 `json:"reset_count"`   // grows on each TPM Reset
	RestartCount uint32 `json:"restart_count"` // grows on each resume, begins anew on a reset
	Milliseconds uint64 `json:"milliseconds"`  // powered time over the TPM's life
	Safe         bool   `json:"safe"`          // the TPM never reported a greater Milliseconds
	Firmware     uint64 `json:"firmware"`      // version of the TPM's firmware
}

// maxClockLoss is how far Clock may fall behind what was reported when the
// power fails: TPMs save it at least every 2^22 milliseconds (TPM_PT_CLOCK_UPDATE,
// Part 2).
const maxClockLoss = 1 << 22

// checkClock refuses a TPM whose time goes back: its state was restored from a
// copy, or TPM2_Clear was executed (which also takes its keys). Within one
// power cycle Clock never decreases. After a reset it may, by at most
// maxClockLoss, and then the TPM says so itself by Safe = NO; Safe = YES
// promises that no greater value was ever reported, and we hold one.
func (a *appraisal) checkClock() *Failure {
	if a.in.Previous == nil {
		return nil
	}
	old, now := a.in.Previous.Clock, a.clock
	resets := int32(now.ResetCount - old.ResetCount)
	lost := old.Milliseconds - now.Milliseconds // where it went back at all
	switch {
	case resets < 0:
		return fail(StepClock, "resetCount went back by %d", -int64(resets))
	case resets == 0 && int32(now.RestartCount-old.RestartCount) < 0:
		return fail(StepClock, "restartCount went back by %d without a reset", old.RestartCount-now.RestartCount)
	case now.Milliseconds >= old.Milliseconds:
		return nil
	case resets == 0:
		return fail(StepClock, "clock went back by %d ms without a reset", lost)
	case now.Safe:
		return fail(StepClock, "clock went back by %d ms and says it is safe", lost)
	case lost > maxClockLoss:
		return fail(StepClock, "clock went back by %d ms, more than a power failure can lose", lost)
	}
	return nil
}
