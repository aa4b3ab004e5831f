package rollout_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/identity"
	"holdfast/release"
	"holdfast/rollout"
)

var rewrite = flag.Bool("rewrite", false, "write what comes out into testdata")

// TestDevices plays the stories of testdata/devices.txt: each is a device of a
// running rollout, what happens to it, a line of dashes and where it stands
// after each step. A step is a word, arguments as key=value, and the minutes
// since the start as @n.
func TestDevices(t *testing.T) {
	const path = "testdata/devices.txt"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, story := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		told, want, _ := strings.Cut(story, "\n----\n")
		got, err := play(told)
		if err != nil {
			t.Fatalf("%s: %v", told, err)
		}
		if diff := cmp.Diff(strings.TrimSpace(want), got); diff != "" && !*rewrite {
			t.Errorf("%s\n(-want +got):\n%s", told, diff)
		}
		out = append(out, told+"\n----\n"+got)
	}
	if *rewrite {
		if err := os.WriteFile(path, []byte(strings.Join(out, "\n\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func play(told string) (string, error) {
	r := running()
	d := r.Enter("pump-01", rollout.Facts{Group: "pumps"}, start)
	var out []string
	for line := range strings.Lines(told) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		args, now := map[string]string{}, start
		for _, w := range words[1:] {
			if minutes, ok := strings.CutPrefix(w, "@"); ok {
				m, err := time.ParseDuration(minutes + "m")
				if err != nil {
					return "", err
				}
				now = start.Add(m)
				continue
			}
			k, v, _ := strings.Cut(w, "=")
			args[k] = strings.ReplaceAll(v, "_", " ")
		}
		var err error
		if r, d, err = happen(r, d, words[0], args, now); err != nil {
			return "", err
		}
		out = append(out, stands(r, d))
	}
	return strings.Join(out, "\n"), nil
}

func happen(r rollout.Rollout, d rollout.Device, word string, args map[string]string, now time.Time) (rollout.Rollout, rollout.Device, error) {
	digest := map[string]identity.Digest{"": {}, "fresh": fresh, "stale": stale}[args["attests"]]
	f := rollout.Facts{Attested: digest, Connected: args["connected"] == "yes", Revoked: args["revoked"] == "yes"}
	if args["seen"] != "" {
		m, err := time.ParseDuration(args["seen"] + "m")
		if err != nil {
			return r, d, err
		}
		f.Seen = start.Add(m)
	}
	switch word {
	case "offer":
		d = r.Offer(d, now)
	case "undelivered":
		d = d.Undelivered(f.Connected, now)
	case "deaf":
		d = d.Deaf(now)
	case "retry":
		d, _ = d.Again(now)
	case "look":
		up := start
		if args["restarted"] == "yes" {
			up = now
		}
		d = r.Look(d, f, up, now)
	case "crash":
		at := now
		if args["at"] == "before" {
			at = start.Add(-time.Hour)
		}
		d = d.CrashedAt(at, "the watchdog reset the board", now)
	case "replace":
		d = d.Replace("pump-y", now)
	case "resume":
		r.Resumed = now
	case "stage":
		r.Stage = rollout.Stage(args["is"])
	default:
		g := release.Progress{Rollout: r.ID, Attempt: d.Attempt, Product: "pump", Version: r.Version, State: release.State(word),
			Reason: args["reason"], Attack: release.Attack(args["attack"]), Reset: args["reset"], Final: args["final"] == "yes"}
		if args["of"] != "" {
			g.Rollout = args["of"]
		}
		if args["attempt"] != "" {
			if _, err := fmt.Sscan(args["attempt"], &g.Attempt); err != nil {
				return r, d, err
			}
		}
		d = r.Reported(d, g, now)
	}
	return r, d, nil
}

// stands says where a device stands, when it is looked at again, and what it is
// to be told.
func stands(r rollout.Rollout, d rollout.Device) string {
	s := string(d.State)
	if d.Step != "" {
		s += " (" + string(d.Step) + ")"
	}
	if d.Cause != "" {
		s += ", " + string(d.Cause)
	}
	if d.Reason != "" {
		s += ": " + d.Reason
	}
	if !d.Due.IsZero() {
		s += fmt.Sprintf("; due @%g", d.Due.Sub(start).Minutes())
	}
	switch o, says := r.Wanted(d); {
	case !says:
		s += "; no say"
	case o.Rollout == "":
		s += "; stay"
	case !o.Unpaused:
		s += "; paused"
	default:
		s += fmt.Sprintf("; run %s, attempt %d", o.Version, o.Attempt)
		if !o.Deadline.IsZero() {
			s += fmt.Sprintf(" by @%g", o.Deadline.Sub(start).Minutes())
		}
	}
	return s
}

// A device may be told the same and report the same any number of times.
func TestReportsAreIdempotent(t *testing.T) {
	r := running()
	reports := []release.Progress{
		{State: release.Downloading, Bytes: 10, Length: 100}, {State: release.Staged}, {State: release.Committed, Final: true},
		{State: release.Idle, Final: true, Attack: release.Rollback, Reason: "no"}, {State: release.Reverting, Final: true}, {State: release.Idle, Final: true, Attack: release.WrongProduct},
	}
	for _, g := range reports {
		g.Rollout = r.ID
		once := r.Reported(r.Offer(r.Enter("a", rollout.Facts{}, start), start), g, start.Add(time.Minute))
		twice := r.Reported(once, g, start.Add(time.Minute))
		if diff := cmp.Diff(once, twice); diff != "" {
			t.Errorf("%+v (-once +twice):\n%s", g, diff)
		}
	}
}

// What a device says is text to whoever reads it, and short.
func TestReasonsOfDevices(t *testing.T) {
	r := running()
	d := r.Reported(r.Offer(r.Enter("a", rollout.Facts{}, start), start),
		release.Progress{Rollout: r.ID, State: release.Idle, Final: true, Reason: "a\nb\x1b[31m\xff" + strings.Repeat("ä", 400)}, start)
	if d.State != rollout.Failed || len(d.Reason) > rollout.MaxReason || strings.ContainsAny(d.Reason, "\n\x1b") || !strings.HasPrefix(d.Reason, "a b [31m\ufffdä") {
		t.Errorf("%s %q", d.State, d.Reason)
	}
}

// The number of an offer grows with everything that an offer can say.
func TestOfferVersions(t *testing.T) {
	r := running()
	d := r.Enter("a", rollout.Facts{}, start)
	var last uint64
	grows := func(what string) {
		t.Helper()
		v := r.OfferVersion(d)
		if v <= last {
			t.Errorf("%s: version %d after %d", what, v, last)
		}
		last = v
	}
	grows("waiting")
	d = r.Offer(d, start)
	grows("offered")
	r.Stage, r.Rev = rollout.Paused, r.Rev+1
	grows("paused")
	r.Stage, r.Rev = rollout.Halted, r.Rev+1
	grows("halted")
	r, d = rollout.Rollout{Plan: r.Plan, Seq: r.Seq + 1, Rev: 1}, r.Enter("a", rollout.Facts{}, start)
	grows("another rollout")
}
