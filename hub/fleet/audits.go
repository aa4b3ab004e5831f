package fleet

import (
	"context"

	"holdfast/appraise"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/posture"
)

// Audits knows what registered auditors said of images. It is asked as Releases
// are.
type Audits interface {
	// Of returns what counts about the image that a device measures as digest.
	Of(digest identity.Digest) []appraise.Audit
	// Epoch names all that counts; zero where nothing does.
	Epoch() identity.Digest
}

// judgeAudits holds what r runs against what auditors said of it. Like
// judgeFirmware it is done anew with every decision.
func (f *Fleet) judgeAudits(r *Record) {
	delete(r.Rows, posture.Audits)
	if f.cfg.Audits == nil || r.Firmware == nil || r.Firmware.Void {
		return
	}
	if rows := appraise.AuditRows(r.Firmware.Running, f.cfg.Audits.Of(r.Firmware.Digest)); rows != nil {
		r.Rows[posture.Audits] = rows
	}
}

// AuditsChanged decides again on the devices that attest their firmware, where
// other statements count than when that was last done. Those with a session come
// first. What an interruption leaves is done by the next call; Run makes one
// every Recheck.
func (f *Fleet) AuditsChanged(ctx context.Context) error {
	if f.cfg.Audits == nil {
		return nil
	}
	f.auditing.Lock()
	defer f.auditing.Unlock()
	return f.actOnAudits(ctx)
}

// missedAudits is AuditsChanged for Run, which does not wait where that is being
// done.
func (f *Fleet) missedAudits(ctx context.Context) error {
	if f.cfg.Audits == nil || !f.auditing.TryLock() {
		return nil
	}
	defer f.auditing.Unlock()
	return f.actOnAudits(ctx)
}

func (f *Fleet) actOnAudits(ctx context.Context) error {
	epoch := f.cfg.Audits.Epoch()
	was, err := f.cfg.Store.JudgedAudits(ctx)
	if err != nil || was == epoch {
		return err
	}
	if err := f.rejudge(ctx, func(operator.Group) bool { return true }); err != nil {
		return err
	}
	return f.cfg.Store.SaveJudgedAudits(ctx, epoch)
}
