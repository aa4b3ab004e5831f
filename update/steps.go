package update

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/identity"
	"holdfast/release"
)

// installing reports whether a target is on its way to its trial.
func (m Machine) installing() bool {
	switch m.State {
	case release.Downloading, release.Verifying, release.Staged:
		return true
	}
	return false
}

// onTrial reports whether a trial has been asked for or runs.
func (m Machine) onTrial() bool {
	switch m.State {
	case release.Trying, release.Confirming, release.Reverting:
		return true
	}
	return false
}

// Busy reports whether the machine is in the middle of an update.
func (m Machine) Busy() bool { return m.installing() || m.onTrial() }

// booted brings what was persisted in line with what the boot ROM left.
func (m Machine) booted(f Facts) (Machine, []Action) {
	m.Facts = f
	rec := f.Record
	if f.Trial && rec.Trying() && rec.Trial.Slot == f.Running.Slot {
		if m.Target.Measured != f.Running.Measured { // what was persisted is lost
			m = Machine{Target: targetOf(*rec.Trial), Ends: m.Ends, Facts: f}
		}
		m.State, m.Reason = release.Confirming, ""
		return m, []Action{Report, CheckHealth}
	}
	repair := m.repair()
	if m.State == release.Committed && m.Target.Measured != (identity.Digest{}) && !m.committed() {
		// The power went before the record was written, or the slot is damaged.
		attempt := attemptOf(m.Offer)
		m.State, m.Ends = release.Confirming, slices.DeleteFunc(slices.Clone(m.Ends), func(d End) bool { return d.Attempt == attempt })
	}
	switch {
	case m.onTrial():
		next, actions := m.afterTrial()
		return next, append(repair, actions...)
	case m.State == release.Downloading:
		if m.Paused {
			return m, repair
		}
		return m, append(repair, Download)
	case m.State == release.Verifying, m.State == release.Staged:
		m.State = release.Verifying
		return m, append(repair, VerifySlot)
	}
	return m, repair
}

// committed reports whether the target runs from the active slot.
func (m Machine) committed() bool {
	return m.Facts.Running.Measured == m.Target.Measured && m.Facts.Record.Active == m.Facts.Running.Slot
}

// repair are the steps of a commit that a power cut has left undone.
func (m Machine) repair() []Action {
	f, rec := m.Facts, m.Facts.Record
	var actions []Action
	if rec.Trial != nil && rec.Trial.Tried && rec.Active == rec.Trial.Slot {
		actions = append(actions, ClearTrial)
	}
	if rec.Active == f.Running.Slot && !rec.Trying() && f.Minimum < f.Running.SecurityVersion {
		actions = append(actions, BurnCounter)
	}
	return actions
}

// targetOf is what a record knows of a release. Without the release's own
// checks the trial has to pass those of every release.
func targetOf(t Trial) release.Release {
	return release.Release{Target: release.Target{Version: t.Version, SecurityVersion: t.SecurityVersion, Measured: t.Digest,
		Health: release.Health{Checks: []string{release.CheckHub, release.CheckAttested}, Seconds: int(t.Seconds)}}}
}

// afterTrial says how a trial ended that was on when the machine was persisted.
func (m Machine) afterTrial() (Machine, []Action) {
	last := m.Facts.Record.Last
	switch {
	case m.committed():
		m.State = release.Committed
		return m.ended(m.report(true)), []Action{Report}
	case m.State == release.Trying && (last.Result == None || last.Digest != m.Target.Measured): // it was not marked yet
		m.State = release.Verifying
		return m, []Action{VerifySlot}
	}
	reason := m.Reason
	if reason == "" {
		reason = last.Reason
	}
	switch {
	case last.Result == Committed && last.Digest == m.Target.Measured:
		reason = "it was committed and does not boot any more"
	case reason == "":
		reason = unconfirmed
	}
	p := m.report(true)
	p.State, p.Reason, p.Reset = release.Reverting, short(reason), last.Reset
	m.State = release.Idle
	return m.ended(p), []Action{Report}
}

// offered judges an offer.
func (m Machine) offered(e Offered, now time.Time) (Machine, []Action) {
	switch {
	case m.onTrial():
		return m, nil
	case e.Offer.Product == "":
		return m.drop()
	case m.installing() && same(m.Offer, e.Offer) && e.Err == nil && e.Release.Image == m.Target.Image:
		return m.again(e, now)
	}
	attempt := attemptOf(e.Offer)
	m, before := m.drop()
	m.Offer, m.Target = e.Offer, e.Release
	if e.Err != nil { // a report says what was offered all the same
		m.Target.Product, m.Target.Version = e.Offer.Product, e.Offer.Version
	}
	if i := slices.IndexFunc(m.Ends, func(d End) bool { return d.Attempt == attempt }); i >= 0 {
		return m.replayed(m.Ends[i].Report), append(before, Report) // Progress reports the newest
	}
	if err := m.judge(e, now); err != nil {
		next, actions := m.end("", err)
		return next, append(before, actions...)
	}
	if f := m.Facts; e.Release.Measured == f.Running.Measured {
		m.State = release.Committed
		if f.Record.Active != f.Running.Slot { // the boot ROM fell back to it: it stays
			before = append(before, MarkCommitted, BurnCounter)
		}
		return m.ended(m.report(true)), append(before, Report)
	}
	m.State, m.Bytes, m.Paused, m.Reason = release.Downloading, 0, !e.Offer.Unpaused, ""
	if m.Paused {
		return m, append(before, Report)
	}
	return m, append(before, Report, Download)
}

// replayed is an offer whose attempt has ended: what came of it is told once
// more. What was committed then and does not run any more is not wanted again.
func (m Machine) replayed(p release.Progress) Machine {
	switch {
	case p.State == release.Committed && p.Version == m.Facts.Running.Version:
		m.State = release.Committed
		return m.ended(p)
	case p.State == release.Committed:
		p.State, p.Attack, p.Reason = release.Idle, release.UnwantedUpdate, fmt.Sprintf("it was committed before; version %s runs", m.Facts.Running.Version)
	}
	m.State = release.Idle
	return m.ended(p)
}

// again is the offer that is being followed, with other words about when.
func (m Machine) again(e Offered, now time.Time) (Machine, []Action) {
	if err := m.judge(e, now); err != nil { // withdrawn since, or too late
		m.Target = e.Release
		return m.end(DropTrial, err)
	}
	was := m.Paused
	m.Offer, m.Target, m.Paused = e.Offer, e.Release, !e.Offer.Unpaused
	switch {
	case m.State == release.Staged:
		return m.staged(now)
	case m.State == release.Downloading && m.Paused && !was:
		return m, []Action{Stop}
	case m.State == release.Downloading && !m.Paused && was:
		return m, []Action{Download}
	}
	return m, nil
}

func same(a, b release.Offer) bool {
	return a.Product == b.Product && attemptOf(a) == attemptOf(b)
}

func attemptOf(o release.Offer) Attempt { return Attempt{o.Rollout, o.Attempt, o.Version} }

// judge says why an offer is not followed.
func (m Machine) judge(e Offered, now time.Time) error {
	r, f := e.Release, m.Facts
	switch {
	case e.Err != nil:
		return e.Err
	case r.Product != e.Offer.Product || r.Version != e.Offer.Version:
		return release.Refuse(release.MixAndMatch, fmt.Errorf("%s %s was offered, the metadata is of %s", e.Offer.Product, e.Offer.Version, r.Path()))
	case f.Product != "" && r.Product != f.Product:
		return release.Refuse(release.WrongProduct, fmt.Errorf("%s, this device is a %s", r.Product, f.Product))
	case !r.Runs(f.Hardware):
		return release.Refuse(release.WrongProduct, fmt.Errorf("%s does not run on hardware %q", r.Path(), f.Hardware))
	case r.Withdrawn != "":
		return release.Refuse(release.WithdrawnRelease, fmt.Errorf("%s: %s", r.Path(), r.Withdrawn))
	case r.SecurityVersion < f.Minimum || r.SecurityVersion < f.Running.SecurityVersion:
		return release.Refuse(release.Rollback, fmt.Errorf("%s has security version %d, the least is %d", r.Path(), r.SecurityVersion, max(f.Minimum, f.Running.SecurityVersion)))
	case r.Version.Compare(f.Running.Version) < 0:
		return release.Refuse(release.Rollback, fmt.Errorf("%s: version %s runs", r.Path(), f.Running.Version))
	case r.Version == f.Running.Version && r.Measured != f.Running.Measured:
		return release.Refuse(release.ArbitrarySoftware, fmt.Errorf("%s is not the version %s that runs", r.Path(), f.Running.Version))
	case r.Measured != f.Running.Measured && late(e.Offer, now):
		return errors.New("the offer's deadline has passed")
	}
	return m.meets(r)
}

// meets says which requirement of a release is not met.
func (m Machine) meets(r release.Release) error {
	for _, q := range r.Requires {
		if q.Product != r.Product || q.Version.Compare(m.Facts.Running.Version) > 0 {
			return fmt.Errorf("%s has to be installed before", release.Path(q.Product, q.Version))
		}
	}
	return nil
}

func late(o release.Offer, now time.Time) bool {
	return !now.IsZero() && !o.Deadline.IsZero() && now.After(o.Deadline)
}

// drop gives up what is on its way.
func (m Machine) drop() (Machine, []Action) {
	if !m.installing() {
		return m, nil
	}
	was := m.State
	m.State, m.Offer, m.Target, m.Bytes, m.Paused = release.Idle, release.Offer{}, release.Release{}, 0, false
	if was == release.Downloading {
		return m, []Action{Stop}
	}
	return m, []Action{DropTrial}
}

// staged starts the trial when its time has come.
func (m Machine) staged(now time.Time, first ...Action) (Machine, []Action) {
	switch {
	case late(m.Offer, now):
		return m.end(DropTrial, errors.New("the offer's deadline has passed"))
	case m.Paused || !open(m.Offer.Windows, now):
		return m, first
	}
	m.State = release.Trying
	return m, []Action{Report, MarkTrial, Reset}
}

// giveUp ends a trial that runs: the boot ROM goes back to the image before.
func (m Machine) giveUp(reason string) (Machine, []Action) {
	if m.State != release.Confirming {
		return m, nil
	}
	m.State, m.Reason = release.Reverting, reason
	return m, []Action{Report, Reset}
}

// failed is an action that could not be done.
func (m Machine) failed(e Failed) (Machine, []Action) {
	why := fmt.Errorf("%s: %w", e.Action, e.Err)
	switch {
	case m.installing():
		return m.end("", why)
	case m.State == release.Trying:
		return m.end(DropTrial, why)
	case e.Action == CheckHealth:
		return m.giveUp(short(why.Error()))
	case m.State != release.Committed || e.Action != MarkCommitted && e.Action != DropTrial:
		return m, nil // mended at the next start
	case m.Facts.Trial:
		m.State, m.Reason, m.Ends = release.Reverting, short(why.Error()), m.Ends[:max(0, len(m.Ends)-1)]
		return m, []Action{Report, Reset}
	}
	return m.end("", why)
}

// end gives an attempt up.
func (m Machine) end(first Action, err error) (Machine, []Action) {
	p := m.report(true)
	p.State, p.Reason, p.Attack = release.Idle, short(err.Error()), release.AttackOf(err)
	var actions []Action
	switch {
	case m.State == release.Downloading:
		actions = append(actions, Stop)
	case first != "":
		actions = append(actions, first)
	}
	m.State, m.Bytes = release.Idle, 0
	return m.ended(p), append(actions, Report)
}

// ended remembers how an attempt ended.
func (m Machine) ended(p release.Progress) Machine {
	attempt := attemptOf(m.Offer)
	m.Ends = slices.DeleteFunc(slices.Clone(m.Ends), func(d End) bool { return d.Attempt == attempt })
	m.Ends = append(m.Ends, End{attempt, p})
	if len(m.Ends) > maxEnds {
		m.Ends = m.Ends[len(m.Ends)-maxEnds:]
	}
	return m
}

// Progress is what is to be reported now.
func (m Machine) Progress() release.Progress {
	if !m.Busy() && len(m.Ends) > 0 {
		return m.Ends[len(m.Ends)-1].Report
	}
	return m.report(false)
}

func (m Machine) report(final bool) release.Progress {
	state := m.State
	if state == "" {
		state = release.Idle
	}
	return release.Progress{Rollout: m.Offer.Rollout, Attempt: m.Offer.Attempt, Product: m.Target.Product, Version: m.Target.Version,
		State: state, Bytes: m.Bytes, Length: m.Target.Image.Length, Reason: m.Reason, Final: final}
}

// short returns text that fits a report.
func short(s string) string {
	if len(s) > release.MaxText {
		s = s[:release.MaxText]
	}
	return s
}
