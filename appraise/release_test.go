package appraise_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/appraise"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/measure"
	"holdfast/release"
)

// began is when the device first showed what it runs.
var began = now.Add(-10 * 24 * time.Hour)

// published is pump 1.minor.0 with security version minor, published so many
// days ago.
func published(minor uint8, days int) appraise.Published {
	return appraise.Published{Since: now.Add(-time.Duration(days) * 24 * time.Hour), Release: release.Release{Target: release.Target{
		Product: "pump", Version: mcuboot.Version{Major: 1, Minor: minor}, SecurityVersion: uint32(minor),
		Measured: identity.Sum([]byte(fmt.Sprint("pump ", minor))), Health: release.Health{Seconds: 600}}}}
}

func withdrawn(p appraise.Published, why string) appraise.Published {
	p.Target.Withdrawn, p.Withdrawn = why, now.Add(-time.Hour)
	return p
}

// running is a device that runs pump 1.minor.0, with its counter at the version
// below which nothing starts.
func running(minor uint8, minimum int) appraise.Running {
	r := appraise.Running{Digest: published(minor, 0).Measured, Grade: measure.Attested, Time: now}
	if minimum >= 0 {
		m := uint64(minimum)
		r.Minimum = &m
	}
	return r
}

func shelf(ps ...appraise.Published) appraise.Shelf {
	return appraise.Shelf{Product: "pump", Releases: ps}
}

func offered(s appraise.Shelf, minor uint8) appraise.Shelf {
	s.Offered = &appraise.Offered{Product: "pump", Version: mcuboot.Version{Major: 1, Minor: minor}, Since: now.Add(-2 * time.Hour)}
	return s
}

// TestReleaseRows is the table of what releases say of what runs. Each row is
// its verdict and a part of its reason.
func TestReleaseRows(t *testing.T) {
	elsewhere := published(9, 1).Release
	elsewhere.Product = "valve"
	with := func(r appraise.Running, f func(*appraise.Running)) appraise.Running { f(&r); return r }
	byReference := with(running(4, 4), func(r *appraise.Running) { r.Reference = "pump 1.4.0" })
	revision := func(p appraise.Published, revisions ...string) appraise.Published { p.Hardware = revisions; return p }
	for name, c := range map[string]struct {
		runs                    appraise.Running
		shelf                   appraise.Shelf
		first                   time.Time
		signing, counter, fresh string
		since                   time.Time // of a failing firmware.update
	}{
		"the newest": {runs: running(4, 4), shelf: shelf(published(3, 40), published(4, 20)),
			signing: "pass: release pump 1.4.0", counter: "pass: security version 4", fresh: "pass: the newest"},
		"withdrawn": {runs: running(4, 4), shelf: shelf(published(3, 40), withdrawn(published(4, 20), "it leaks")),
			signing: "fail: withdrawn: it leaks", counter: "pass: ", fresh: "fail: no newer release", since: now.Add(-time.Hour)},
		"withdrawn, with a successor": {runs: running(4, 4), shelf: shelf(withdrawn(published(4, 20), "it leaks"), published(5, 3)),
			signing: "fail: it leaks", counter: "pass: ", fresh: "fail: behind 1.5.0", since: now.Add(-3 * 24 * time.Hour)},
		"withdrawn without a reason": {runs: running(4, 4), shelf: shelf(withdrawn(published(4, 20), "")),
			signing: "fail: no reason", counter: "pass: ", fresh: "fail: ", since: now.Add(-time.Hour)},
		"behind": {runs: running(3, 3), shelf: shelf(published(3, 40), published(5, 2), published(4, 20)),
			signing: "pass: ", counter: "pass: ", fresh: "fail: runs pump 1.3.0, and is behind 1.5.0 since 2026-11-02", since: now.Add(-20 * 24 * time.Hour)},
		"behind what was withdrawn": {runs: running(3, 3), shelf: shelf(published(3, 40), withdrawn(published(4, 20), "bad")),
			signing: "pass: ", counter: "pass: ", fresh: "pass: the newest"},
		"behind what runs elsewhere": {runs: running(3, 3), shelf: shelf(revision(published(3, 40), "rev-a"), revision(published(4, 20), "rev-b")),
			signing: "pass: ", counter: "pass: ", fresh: "pass: the newest"},
		"behind what runs here too": {runs: running(3, 3), shelf: shelf(revision(published(3, 40), "rev-a"), revision(published(4, 20), "rev-b", "rev-a")),
			signing: "pass: ", counter: "pass: ", fresh: "fail: behind 1.4.0", since: now.Add(-20 * 24 * time.Hour)},
		"what its rollout offers": {runs: running(4, 4), shelf: offered(shelf(published(4, 20), published(5, 2)), 4),
			signing: "pass: ", counter: "pass: ", fresh: "pass: its rollout offers 1.4.0"},
		"before its rollout": {runs: running(3, 3), shelf: offered(shelf(published(3, 40), published(4, 20), published(5, 2)), 4),
			signing: "pass: ", counter: "pass: ", fresh: "fail: behind 1.4.0", since: now.Add(-2 * time.Hour)},
		"its rollout was withdrawn": {runs: running(3, 3), shelf: offered(shelf(published(3, 40), withdrawn(published(4, 20), "bad"), published(5, 2)), 4),
			signing: "pass: ", counter: "pass: ", fresh: "fail: behind 1.5.0", since: now.Add(-2 * 24 * time.Hour)},
		"offered what runs and was withdrawn": {runs: running(4, 4), shelf: offered(shelf(withdrawn(published(4, 20), "bad"), published(5, 2)), 4),
			signing: "fail: ", counter: "pass: ", fresh: "fail: behind 1.5.0", since: now.Add(-2 * 24 * time.Hour)},
		"a rollout of another product": {runs: running(3, 3), shelf: func() appraise.Shelf {
			s := offered(shelf(published(3, 40), published(4, 20)), 4)
			s.Offered.Product = "valve"
			return s
		}(), signing: "pass: ", counter: "pass: ", fresh: "fail: behind 1.4.0", since: now.Add(-20 * 24 * time.Hour)},

		"not signed": {runs: running(8, 4), shelf: shelf(published(4, 20)),
			signing: "fail: no signed release", counter: "unknown: which security version", fresh: "unknown: "},
		"nothing is published": {runs: running(4, -1), shelf: shelf(),
			signing: "fail: no signed release", counter: "unknown: ", fresh: "unknown: "},
		"an operator's reference": {runs: byReference, shelf: shelf(),
			signing: "unknown: known by an operator's reference as pump 1.4.0, not a signed release", counter: "unknown: ", fresh: "unknown: "},
		"a reference and a release": {runs: byReference, shelf: shelf(published(4, 20)), signing: "pass: ", counter: "pass: ", fresh: "pass: "},
		"another product": {runs: running(9, 4), shelf: func() appraise.Shelf {
			s := shelf(published(4, 20))
			s.Elsewhere = &elsewhere
			return s
		}(), signing: "fail: valve 1.9.0; the group's product is pump", counter: "unknown: ", fresh: "unknown: "},

		"no counter": {runs: running(4, -1), shelf: shelf(published(4, 20)), signing: "pass: ", counter: "unknown: measures no counter", fresh: "pass: "},
		"counter fault": {runs: with(running(4, -1), func(r *appraise.Running) { r.CounterFault = "it is gone" }), shelf: shelf(published(4, 20)),
			signing: "pass: ", counter: "fail: it is gone", fresh: "pass: "},
		"counter above": {runs: running(4, 5), shelf: shelf(published(4, 20), published(5, 2)),
			signing: "pass: ", counter: "fail: the counter stands at 5, and security version 4 runs", fresh: "fail: ", since: now.Add(-2 * 24 * time.Hour)},
		"counter not burned": {runs: running(4, 3), shelf: shelf(published(4, 20)),
			signing: "pass: ", counter: "fail: has not been burned: it stands at 3, and security version 4 runs since", fresh: "pass: "},
		"on trial": {runs: running(4, 3), shelf: shelf(published(4, 20)), first: now.Add(-40 * time.Minute),
			signing: "pass: ", counter: "pass: version 4 is on trial and has until 2026-11-22T12:00:00Z", fresh: "pass: "},
		"a moment late": {runs: running(4, 3), shelf: shelf(published(4, 20)), first: now.Add(-40*time.Minute - 1),
			signing: "pass: ", counter: "fail: not been burned", fresh: "pass: "},
		"beyond all security versions": {runs: with(running(4, 0), func(r *appraise.Running) { *r.Minimum = 1<<32 + 4 }), shelf: shelf(published(4, 20)),
			signing: "pass: ", counter: "fail: stands at 4294967300", fresh: "pass: "},
		"doubt": {runs: with(running(4, 4), func(r *appraise.Running) { r.Doubt = "the boot ROM is not known" }), shelf: shelf(withdrawn(published(4, 20), "bad")),
			signing: "unknown: the boot ROM is not known", counter: "unknown: ", fresh: "unknown: "},
	} {
		t.Run(name, func(t *testing.T) {
			if c.first.IsZero() {
				c.first = began
			}
			rows := appraise.ReleaseRows(c.runs, c.first, c.shelf)
			if len(rows) != 3 {
				t.Fatalf("%d rows", len(rows))
			}
			for i, want := range []struct {
				id   measure.ID
				says string
			}{{measure.FirmwareSigning, c.signing}, {measure.FirmwareDowngrade, c.counter}, {measure.FirmwareUpdate, c.fresh}} {
				r := rows[i]
				verdict, reason, _ := strings.Cut(want.says, ": ")
				if r.Measure != want.id || string(r.Verdict) != verdict || !strings.Contains(r.Reason, reason) {
					t.Errorf("%s: %s %q, want %s", r.Measure, r.Verdict, r.Reason, want.says)
				}
				if attested := r.Grade == measure.Attested; attested != (r.Verdict != measure.Unknown) {
					t.Errorf("%s: grade %s of %s", r.Measure, r.Grade, r.Verdict)
				}
				at := c.runs.Time
				if r.Measure == measure.FirmwareUpdate && r.Verdict == measure.Fail {
					at = c.since
				}
				if !r.Time.Equal(at) {
					t.Errorf("%s: of %s, want %s", r.Measure, r.Time, at)
				}
			}
		})
	}
}

// TestReleaseRowsKeepTheGrade: what a TPM without an endorsement says is claimed.
func TestReleaseRowsKeepTheGrade(t *testing.T) {
	r := running(4, 4)
	r.Grade = measure.Claimed
	for _, row := range appraise.ReleaseRows(r, began, shelf(published(4, 1))) {
		if row.Verdict != measure.Pass || row.Grade != measure.Claimed {
			t.Errorf("%+v", row)
		}
	}
}

// TestOneOfSeveralWithTheSameDigest: the one that is not withdrawn counts.
func TestOneOfSeveralWithTheSameDigest(t *testing.T) {
	again := published(5, 1)
	again.Measured = published(4, 1).Measured
	for _, s := range []appraise.Shelf{shelf(withdrawn(published(4, 9), "named badly"), again), shelf(again, withdrawn(published(4, 9), "named badly"))} {
		if st := appraise.Stand(running(4, 4), s); st.Runs == nil || st.Runs.Version.Minor != 5 || st.Late != "" {
			t.Errorf("%+v", st)
		}
	}
}
