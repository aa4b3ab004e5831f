package bench_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/hub/fleet"
	"holdfast/hub/store" // and the driver of its database
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/mqtt"
	"holdfast/operator"
	"holdfast/posture"
)

// registered is how many devices the hub of BenchmarkFleet has.
const registered = 100_000

// populate gives a hub that does not run its devices, as their life leaves
// them: trusted and offline, stale, failing, never seen, revoked, held.
func (s *station) populate(b testing.TB, n int) {
	b.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.state, "holdfast.db")+"?_pragma=synchronous(OFF)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		b.Fatal(err)
	}
	defer tx.Rollback()
	insert, err := tx.Prepare(`INSERT INTO fleet_device (id, grp, doc) VALUES (?, ?, ?)`)
	if err != nil {
		b.Fatal(err)
	}
	outlines := make([]fleet.Outline, 0, n)
	for i := range n {
		r := record(i, time.Now().UTC())
		outlines = append(outlines, fleet.OutlineOf(r))
		doc, err := json.Marshal(r)
		if err == nil {
			_, err = insert.Exec(string(r.ID), string(r.Group), string(doc))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
	st, err := store.Open(b.Context(), filepath.Join(s.state, "holdfast.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	if err := st.Fleet().FillOutlines(b.Context(), outlines); err != nil {
		b.Fatal(err)
	}
}

// record is the i-th device.
func record(i int, now time.Time) fleet.Record {
	seen := now.Add(-time.Duration(i%3000) * time.Minute)
	r := fleet.Record{ID: identity.Device(fmt.Sprintf("pump-%06d", i*7919%registered)), Group: identity.Group(fmt.Sprintf("field-%d", i%20)),
		By: "admin", Added: now.Add(-1000 * time.Hour), Admits: fleet.ByEK, Class: "hardware", Born: now.Add(-900 * time.Hour), Birth: fmt.Sprintf("%030x", i),
		LastSeen: seen, Provisional: seen, Release: fmt.Sprintf("pump %d.%d", i%3, i%40), Version: 7,
		Certificates: []fleet.Certificate{{Serial: fmt.Sprintf("%030x", i+1), NotBefore: seen, NotAfter: seen.Add(24 * time.Hour), Lifetime: 24 * time.Hour}},
		Rows:         make(map[posture.Source][]measure.Row)}
	sources := []posture.Source{posture.Birth, posture.Attestation, posture.Certificate, posture.Session, posture.Logs}
	for j, id := range measure.IDs() {
		row := measure.Row{Measure: id, Verdict: measure.Pass, Grade: measure.Observed, Time: seen, Reason: "what the evidence says of it in some forty letters"}
		if id == measure.AppDebug && i%50 == 0 {
			row.Verdict = measure.Fail
		}
		s := sources[j%len(sources)]
		r.Rows[s] = append(r.Rows[s], row)
	}
	mark := &fleet.Mark{By: "admin", Reason: "lost", Time: now}
	switch i % 100 {
	case 1:
		r.Revoked = mark
	case 2:
		r.Held = mark
	case 3, 4:
		r.Rows, r.Provisional, r.LastSeen, r.Certificates, r.Release = nil, time.Time{}, time.Time{}, nil, ""
	}
	return r
}

// startFleet is a hub with so many devices registered, on one processor.
func startFleet(b testing.TB, a *authority, n int) *station {
	b.Helper()
	s := startHub(b, a)
	for i := range 20 {
		id := identity.Group(fmt.Sprintf("field-%d", i))
		if _, err := s.operator.SetGroup(b.Context(), id, operator.SetGroup{PolicyName: "standard"}); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.proc.Stop(patience); err != nil {
		b.Fatal(err)
	}
	s.populate(b, n)
	s.env = []string{"GOMAXPROCS=1"}
	s.start()
	return s
}

// pace has each session send a message a second until stop is closed, and
// returns how many were acknowledged once all is over.
func pace(b testing.TB, ss []*session, stop <-chan struct{}) func() int {
	var group sync.WaitGroup
	counts := make([]int, len(ss))
	for i, s := range ss {
		group.Go(func() {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			select { // so that they do not come all at once
			case <-time.After(time.Second * time.Duration(i) / time.Duration(len(ss))):
			case <-stop:
			}
			for {
				if _, err := ask[*mqtt.Puback](s, telemetry(s.id, uint16(counts[i]%60000+1))); err != nil {
					b.Error(err)
					return
				}
				counts[i]++
				select {
				case <-stop:
					return
				case <-tick.C:
				}
			}
		})
	}
	return func() int {
		group.Wait()
		sum := 0
		for _, n := range counts {
			sum += n
		}
		return sum
	}
}

// queries are what the fleet page asks for.
var queries = []operator.FleetQuery{
	{}, {Sort: "-seen"}, {Sort: "status"}, {Group: "field-7"}, {Status: posture.Quarantined}, {Search: "0042"},
	{Sort: "release", Status: posture.Offline}, {Group: "field-3", Sort: "-id", Search: "9"},
}

// BenchmarkFleet is what operators ask of a hub on one processor that has
// 100,000 devices, of which 1,000 have a session and publish once a second:
// "page" is a page of 50 with its counts, "check" the dry-run of a policy.
func BenchmarkFleet(b *testing.B) {
	const publishing = 1000
	a := newAuthority(b)
	allowFiles(b)
	s := startFleet(b, a, registered)
	h, err := s.operator.Hub(b.Context())
	if err != nil || h.Devices != registered {
		b.Fatalf("%d devices are registered, want %d: %v", h.Devices, registered, err)
	}
	empty := s.resident(b)
	ss := s.openAll(b, a.devices(b, "sensor", publishing))
	b.Run("page", func(b *testing.B) {
		stop := make(chan struct{})
		published, began := pace(b, ss, stop), time.Now()
		var took []time.Duration
		for b.Loop() {
			for round := range 50 {
				for _, q := range queries {
					if round%2 == 1 { // the second page of it
						p, err := s.operator.Fleet(b.Context(), q)
						if err != nil {
							b.Fatal(err)
						}
						q.After = p.Next
					}
					asked := time.Now()
					p, err := s.operator.Fleet(b.Context(), q)
					took = append(took, time.Since(asked))
					if err != nil || len(p.Devices) == 0 || p.Total < len(p.Devices) {
						b.Fatalf("%+v: %d of %d devices: %v", q, len(p.Devices), p.Total, err)
					}
				}
			}
		}
		close(stop)
		n := published()
		slices.Sort(took)
		b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
		b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
		b.ReportMetric(float64(n)/time.Since(began).Seconds(), "acked/s")
		b.ReportMetric(float64(empty)/1024, "MiB-without-sessions")
	})
	for name, text := range map[string]string{
		"check/table":     "policy next\nrequire memory.stack audited 24h\nrequire app.debug attested\nrequire crypto.time observed 10h grace\n",
		"check/condition": "policy next\nrequire app.debug attested\nwhen rows[\"app.debug\"].verdict == \"fail\" && device.release.startsWith(\"pump 1\") weak \"old\"\n",
	} {
		b.Run(name, func(b *testing.B) {
			began, n := time.Now(), 0
			for b.Loop() {
				n++
				fx, err := s.operator.CheckPolicy(b.Context(), operator.PolicyCheck{Text: text})
				if err != nil || fx.Devices < registered || fx.Lose+fx.Gain+fx.Shorter == 0 {
					b.Fatalf("%+v: %v", fx, err)
				}
			}
			b.ReportMetric(time.Since(began).Seconds()/float64(n), "s")
		})
	}
	for _, s := range ss {
		s.drop()
	}
}
