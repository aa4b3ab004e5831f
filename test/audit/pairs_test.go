package audit_test

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/audit"
	"holdfast/audit/checks"
	"holdfast/finding"
	"holdfast/measure"
)

// pair is a thing built twice, with one choice between: exactly its rules have
// to turn, from not failing to failing.
type pair struct {
	on    string // the base
	rules []string
	good  delta // what both builds have beyond the base
	bad   delta // the choice
	// ends are rules whose matter the choice takes away or brings: they may pass
	// on one side and not apply, or not know, on the other.
	ends []string
	// both are rules that are right to fail on both sides.
	both []string
}

// name says what the choice is.
func (p pair) name() string {
	if p.bad.label != "" {
		return p.on + ": " + p.bad.label
	}
	words := slices.Clone(p.bad.flags)
	for _, d := range p.bad.drop {
		words = append(words, "without "+d)
	}
	for _, e := range p.bad.edits {
		words = append(words, fmt.Sprintf("%s: %q for %q", e.file, e.new, e.old))
	}
	if p.bad.settings != "" {
		words = append(words, strings.TrimSpace(p.bad.settings))
	}
	words = append(words, slices.Sorted(maps.Keys(p.bad.files))...)
	words = append(words, slices.Sorted(maps.Keys(p.bad.given))...)
	return p.on + ": " + strings.Join(words, " ")
}

// and joins two deltas.
func (d delta) and(o delta) delta {
	all := delta{label: o.label, flags: slices.Concat(d.flags, o.flags), drop: slices.Concat(d.drop, o.drop), edits: slices.Concat(d.edits, o.edits),
		files: maps.Clone(d.files), given: maps.Clone(d.given), settings: d.settings + o.settings}
	if all.files == nil {
		all.files = map[string]string{}
	}
	if all.given == nil {
		all.given = map[string][]byte{}
	}
	maps.Copy(all.files, o.files)
	maps.Copy(all.given, o.given)
	return all
}

// state is what a rule came to: "fail" when it has findings, whatever their
// severity, else its verdict, or "none" when it does not apply.
type state string

// outcome is what all rules came to.
type outcome struct {
	states   map[string]state
	reasons  map[string]string
	findings []finding.Finding
}

// now is when the audits are made.
var now = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)

// audited judges files by all rules.
func audited(t testing.TB, settings string, inputs ...string) (outcome, error) {
	s, err := audit.ParseSettings(audit.SettingsName, []byte(settings))
	if err != nil {
		return outcome{}, err
	}
	r, err := audit.Run(t.Context(), audit.Config{Inputs: inputs, Settings: s, Now: now})
	if err != nil {
		return outcome{}, err
	}
	if len(r.Troubles) > 0 {
		return outcome{}, fmt.Errorf("trouble with %s: %s", r.Troubles[0].Location, r.Troubles[0].Message)
	}
	return outcomeOf(r), nil
}

func outcomeOf(r *finding.Report) outcome {
	o := outcome{states: map[string]state{}, reasons: map[string]string{}, findings: r.Findings}
	for _, res := range r.Results {
		o.reasons[res.Rule] = res.Reason
		switch {
		case res.Verdict == measure.Unknown && !res.Applies:
			o.states[res.Rule] = "none"
		default:
			o.states[res.Rule] = state(res.Verdict)
		}
	}
	for _, f := range r.Findings {
		o.states[f.Rule], o.reasons[f.Rule] = "fail", f.Message
	}
	return o
}

// built is what both sides of a pair came to.
type built struct {
	pair
	good, bad outcome
}

// results builds and judges all pairs, once.
var results = struct {
	once sync.Once
	all  []built
	err  error
}{}

// build makes one side and judges it.
func build(t testing.TB, b base, d delta) (outcome, error) {
	dir, err := os.MkdirTemp("", "holdfast-audit-")
	if err != nil {
		return outcome{}, err
	}
	defer os.RemoveAll(dir)
	inputs, err := b.make(dir, d)
	if err != nil {
		return outcome{}, err
	}
	return audited(t, settings(b.settings, d.settings), inputs...)
}

// settings joins lines of settings: of a key the last counts.
func settings(all ...string) string {
	lines := map[string]string{}
	for line := range strings.Lines(strings.Join(all, "")) {
		key, _, _ := strings.Cut(line, ":")
		lines[key] = line
	}
	return strings.Join(slices.Sorted(maps.Values(lines)), "")
}

func proven(t testing.TB) []built {
	t.Helper()
	all, from := pairs(t), bases(t)
	results.once.Do(func() { results.all, results.err = buildAll(t, all, from) })
	if results.err != nil {
		t.Fatal(results.err)
	}
	return results.all
}

func buildAll(t testing.TB, all []pair, from map[string]base) ([]built, error) {
	done := make([]built, len(all))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	sides := &sideCache{}
	for i, p := range all {
		b, ok := from[p.on]
		if !ok {
			return nil, fmt.Errorf("%s: there is no base %q", p.name(), p.on)
		}
		g.Go(func() error {
			good, err := sides.get(fmt.Sprintf("%s %v", p.on, p.good), func() (outcome, error) { return build(t, b, p.good) })
			if err != nil {
				return fmt.Errorf("%s, right: %w", p.name(), err)
			}
			bad, err := build(t, b, p.good.and(p.bad))
			if err != nil {
				return fmt.Errorf("%s, wrong: %w", p.name(), err)
			}
			done[i] = built{p, good, bad}
			return nil
		})
	}
	return done, g.Wait()
}

// sideCache keeps what was built once for several pairs.
type sideCache struct {
	mu  sync.Mutex
	all map[string]func() (outcome, error)
}

func (c *sideCache) get(key string, make func() (outcome, error)) (outcome, error) {
	c.mu.Lock()
	if c.all == nil {
		c.all = map[string]func() (outcome, error){}
	}
	once, ok := c.all[key]
	if !ok {
		once = sync.OnceValues(make)
		c.all[key] = once
	}
	c.mu.Unlock()
	return once()
}

// TestPairs: what a choice is about turns, and nothing else.
func TestPairs(t *testing.T) {
	for _, b := range proven(t) {
		t.Run(strings.ReplaceAll(b.name(), "/", "_"), func(t *testing.T) {
			for _, r := range checks.All() {
				good, bad := b.good.states[r.ID], b.bad.states[r.ID]
				switch {
				case slices.Contains(b.rules, r.ID):
					if good == "fail" || bad != "fail" {
						t.Errorf("%s is %s (%s), then %s (%s): want it to fail", r.ID, good, b.good.reasons[r.ID], bad, b.bad.reasons[r.ID])
					}
				case good == bad:
				case slices.Contains(b.ends, r.ID) && good != "fail" && bad != "fail":
				default:
					t.Errorf("%s turns too: from %s (%s) to %s (%s)", r.ID, good, b.good.reasons[r.ID], bad, b.bad.reasons[r.ID])
				}
			}
		})
	}
}

// TestBasesAreRight: nothing is wrong with what the pairs start from.
func TestBasesAreRight(t *testing.T) {
	for name, b := range bases(t) {
		if b.compile == nil && len(b.inputs) == 0 {
			continue
		}
		o, err := build(t, b, delta{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, f := range o.findings {
			if slices.Contains(b.wrong, f.Rule) {
				continue
			}
			t.Errorf("%s: %s at %s: %s", name, f.Rule, f.Location, f.Message)
		}
	}
}

// TestChoicesExist: every rule of a pair is in the catalogue.
func TestChoicesExist(t *testing.T) {
	for _, p := range pairs(t) {
		for _, id := range slices.Concat(p.rules, p.ends) {
			if _, ok := checks.Find(id); !ok {
				t.Errorf("%s: there is no rule %s", p.name(), id)
			}
		}
		if len(p.rules) == 0 {
			t.Errorf("%s turns nothing", p.name())
		}
	}
}
