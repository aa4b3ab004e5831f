package appraise

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/mcuboot"
	"holdfast/measure"
	"holdfast/release"
)

// BurnGrace is how long after the deadline of its trial a release may run
// before the counter has to stand at its security version. It is counted from
// the first evidence of the release to the evidence that is judged: that a
// device stays silent proves nothing against it.
const BurnGrace = 30 * time.Minute

// Published is a release with what the hub knows of its life.
type Published struct {
	release.Release
	Since     time.Time // when it was published
	Withdrawn time.Time // when it was withdrawn, which Target.Withdrawn says why; zero: it is not
}

// Why returns why the release was withdrawn, or "" where it is not.
func (p Published) Why() string {
	if p.Withdrawn.IsZero() {
		return ""
	}
	return cmp.Or(strings.TrimSpace(p.Target.Withdrawn), "no reason is on file")
}

// Offered is what a running rollout offers a device.
type Offered struct {
	Product release.Product
	Version mcuboot.Version
	Since   time.Time
}

// Shelf is what is signed for a device: the releases of its group's product, or
// of the product that it runs where the group names none.
type Shelf struct {
	Product  release.Product // of the group; empty: it names none
	Releases []Published     // of the product, in any order
	// Elsewhere is the signed release of another product with the digest that
	// runs; nil: there is none.
	Elsewhere *release.Release
	Offered   *Offered // nil: no rollout offers it anything
}

// Standing is what releases say of the firmware that runs.
type Standing struct {
	Runs   *Published // the release that runs; nil: none is signed with that digest
	Behind *Published // the release that it should run; nil: it does, or nobody knows
	Since  time.Time  // since when it should; zero with no Behind and no Late
	Late   string     // why it is not up to date; empty: it is, or nobody knows
}

// Stand holds what runs against a shelf.
func Stand(r Running, s Shelf) Standing {
	var st Standing
	for i := range s.Releases {
		p := &s.Releases[i]
		// of several with that digest one counts that is not withdrawn
		if p.Measured == r.Digest && (st.Runs == nil || !st.Runs.Withdrawn.IsZero()) {
			st.Runs = p
		}
	}
	if st.Runs != nil {
		st.compare(s)
	}
	return st
}

// compare says whether a newer release should run.
func (st *Standing) compare(s Shelf) {
	newest, since := newer(st.Runs, s.Releases)
	if o := s.Offered; o != nil && o.Product == st.Runs.Product {
		target := good(o.Version, s.Releases)
		switch {
		case target == nil: // withdrawn since: the rollout offers nothing
		case target.Version.Compare(st.Runs.Version) > 0:
			newest, since = target, o.Since
		case st.Runs.Withdrawn.IsZero():
			return // it runs what it was offered; others come first
		}
	}
	switch {
	case newest != nil:
		st.Behind, st.Since = newest, since
		st.Late = fmt.Sprintf("runs %s, and is behind %s since %s", title(st.Runs), newest.Version, since.UTC().Format(time.DateOnly))
	case !st.Runs.Withdrawn.IsZero():
		st.Since = st.Runs.Withdrawn
		st.Late = "runs " + title(st.Runs) + ", which was withdrawn; no newer release is published"
	}
}

// newer returns the newest release that is not withdrawn and newer than the one
// that runs, and since when there has been a newer one. What shares no hardware
// revision with the one that runs is for other devices.
func newer(runs *Published, all []Published) (newest *Published, since time.Time) {
	for i := range all {
		p := &all[i]
		if !p.Withdrawn.IsZero() || p.Version.Compare(runs.Version) <= 0 ||
			len(runs.Hardware) > 0 && !slices.ContainsFunc(runs.Hardware, p.Runs) {
			continue
		}
		if newest == nil || p.Version.Compare(newest.Version) > 0 {
			newest = p
		}
		if since.IsZero() || p.Since.Before(since) {
			since = p.Since
		}
	}
	return newest, since
}

// good returns the release of a version unless it is withdrawn.
func good(v mcuboot.Version, all []Published) *Published {
	i := slices.IndexFunc(all, func(p Published) bool { return p.Version == v && p.Withdrawn.IsZero() })
	if i < 0 {
		return nil
	}
	return &all[i]
}

func title(p *Published) string { return string(p.Product) + " " + p.Version.String() }

// ReleaseRows judges what runs by what is signed. first is when evidence first
// showed it. The rows have the time of the evidence, but for a failing
// firmware.update: it has the time since which the device is behind, so that
// its age is what a policy can set a limit to.
func ReleaseRows(r Running, first time.Time, s Shelf) []measure.Row {
	st := Stand(r, s)
	row := func(id measure.ID, v measure.Verdict, reason string, at time.Time) measure.Row {
		g := r.Grade
		if v == measure.Unknown {
			g = measure.None
		}
		return measure.Row{Measure: id, Verdict: v, Grade: g, Reason: reason, Time: at}
	}
	if r.Doubt != "" {
		why := "what runs is not proved: " + r.Doubt
		return []measure.Row{row(measure.FirmwareSigning, measure.Unknown, why, r.Time),
			row(measure.FirmwareDowngrade, measure.Unknown, why, r.Time), row(measure.FirmwareUpdate, measure.Unknown, why, r.Time)}
	}
	signed, signing := st.signing(r, s)
	kept, downgrade := st.downgrade(r, first)
	rows := []measure.Row{row(measure.FirmwareSigning, signed, signing, r.Time), row(measure.FirmwareDowngrade, kept, downgrade, r.Time)}
	switch {
	case st.Runs == nil:
		return append(rows, row(measure.FirmwareUpdate, measure.Unknown, "no signed release says which version runs", r.Time))
	case st.Late != "":
		return append(rows, row(measure.FirmwareUpdate, measure.Fail, st.Late, st.Since))
	}
	why := "runs " + title(st.Runs) + ", the newest release"
	if o := s.Offered; o != nil && o.Product == st.Runs.Product {
		why = "runs " + title(st.Runs) + "; its rollout offers " + o.Version.String()
	}
	return append(rows, row(measure.FirmwareUpdate, measure.Pass, why, r.Time))
}

// signing says whether what runs is a signed release that nobody has withdrawn.
func (st Standing) signing(r Running, s Shelf) (measure.Verdict, string) {
	switch {
	case st.Runs != nil && !st.Runs.Withdrawn.IsZero():
		return measure.Fail, "release " + title(st.Runs) + " was withdrawn: " + st.Runs.Why()
	case st.Runs != nil:
		return measure.Pass, "the measured image is release " + title(st.Runs) + ", signed by the threshold"
	case s.Elsewhere != nil:
		return measure.Fail, fmt.Sprintf("the measured image is %s %s; the group's product is %s", s.Elsewhere.Product, s.Elsewhere.Version, s.Product)
	case r.Reference != "":
		return measure.Unknown, "known by an operator's reference as " + r.Reference + ", not a signed release"
	}
	return measure.Fail, "the measured image " + r.Digest.String() + " is no signed release"
}

// downgrade says whether the counter keeps out what is older than what runs.
func (st Standing) downgrade(r Running, first time.Time) (measure.Verdict, string) {
	switch {
	case r.CounterFault != "":
		return measure.Fail, r.CounterFault
	case r.Minimum == nil:
		return measure.Unknown, "its boot measures no counter of security versions"
	case st.Runs == nil:
		return measure.Unknown, fmt.Sprintf("the counter stands at %d, and no signed release says which security version runs", *r.Minimum)
	}
	least, runs := *r.Minimum, uint64(st.Runs.SecurityVersion)
	switch until := first.Add(st.Runs.Health.Deadline() + BurnGrace); {
	case least > runs:
		return measure.Fail, fmt.Sprintf("the counter stands at %d, and security version %d runs: nothing may have started it", least, runs)
	case least == runs:
		return measure.Pass, fmt.Sprintf("the counter stands at security version %d, which runs", runs)
	case !r.Time.After(until):
		return measure.Pass, fmt.Sprintf("the counter stands at %d and keeps out what is older; version %d is on trial and has until %s to raise it",
			least, runs, until.UTC().Format(time.RFC3339))
	}
	return measure.Fail, fmt.Sprintf("the counter has not been burned: it stands at %d, and security version %d runs since %s", least, runs, first.UTC().Format(time.RFC3339))
}
