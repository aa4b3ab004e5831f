package checks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

// Judge judges a subject by rules, several at once, and returns the findings
// in the order of reports and a result for each rule in theirs. done is told of
// each rule that has ended, from any goroutine; it may be nil. A rule that fails
// by itself is unknown, with the reason: an input that breaks one rule does not
// stop the others.
func Judge(ctx context.Context, s *subject.Subject, rules []Rule, done func(Rule)) ([]finding.Finding, []finding.Result, error) {
	rulings := make([]*Ruling, len(rules))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	if done == nil {
		done = func(Rule) {}
	}
	var over []int // rules over sources, which are judged together
	for i, rule := range rules {
		if rule.look != nil {
			over = append(over, i)
			continue
		}
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			rulings[i] = judge(s, rule)
			done(rule)
			return nil
		})
	}
	g.Go(func() error {
		own := make([]Rule, len(over))
		for k, i := range over {
			own[k] = rules[i]
		}
		for k, r := range judgeSources(ctx, s, own) {
			rulings[over[k]] = r
			done(own[k])
		}
		return ctx.Err()
	})
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	var findings []finding.Finding
	var results []finding.Result
	for _, r := range rulings {
		findings = append(findings, r.findings...)
		results = append(results, r.result())
	}
	finding.Sort(findings)
	fingerprints(findings)
	return findings, results, nil
}

func judge(s *subject.Subject, rule Rule) (r *Ruling) {
	r = &Ruling{rule: rule}
	defer func() {
		if p := recover(); p != nil {
			r = &Ruling{rule: rule}
			r.Unknown("the rule ended on this input: %v", p)
		}
	}()
	rule.Judge(s, r)
	return r
}

// Digest names a set of rules: two auditors with the same digest know the same
// rules, in the same version of the program.
func Digest(rules []Rule) string {
	h := sha256.New()
	for _, r := range rules {
		fmt.Fprintf(h, "%q %q %q %q %q\n", r.ID, r.Measure, r.Bullets, r.Severity, r.Title)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Grounds is what a measure or a bullet rests on: a rule's result, or a piece
// of process evidence.
type Grounds struct {
	By      string // id of the rule, or kind of the evidence
	Measure measure.ID
	Bullets []string
	Verdict measure.Verdict
	Reason  string
	Applies bool
}

// GroundsOf returns the results of rules as grounds.
func GroundsOf(rules []Rule, results []finding.Result) []Grounds {
	var all []Grounds
	for _, res := range results {
		i := slices.IndexFunc(rules, func(r Rule) bool { return r.ID == res.Rule })
		if i < 0 {
			continue
		}
		all = append(all, Grounds{By: res.Rule, Measure: rules[i].Measure, Bullets: rules[i].Bullets,
			Verdict: res.Verdict, Reason: res.Reason, Applies: res.Applies})
	}
	return all
}

// Rows returns the verdict on each measure that an audit can speak about.
func Rows(all []Grounds) []finding.Row {
	var rows []finding.Row
	for _, id := range measure.IDs() {
		var own []Grounds
		for _, g := range all {
			if g.Measure == id {
				own = append(own, g)
			}
		}
		if len(own) > 0 {
			rows = append(rows, sum(finding.Row{Measure: id}, own))
		}
	}
	return rows
}

// Bullets returns the verdict on each bullet of the checklist. A bullet that
// has others under it rests on theirs too.
func Bullets(all []Grounds) []finding.Row {
	items := measure.Checklist()
	parents := map[string]string{}
	for _, item := range items {
		parents[item.ID] = item.Parent
	}
	var rows []finding.Row
	for _, item := range items {
		var own []Grounds
		for _, g := range all {
			if slices.ContainsFunc(g.Bullets, func(id string) bool { return id == item.ID || parents[id] == item.ID }) {
				own = append(own, g)
			}
		}
		rows = append(rows, sum(finding.Row{Measure: item.Measure, Bullet: item.ID}, own))
	}
	return rows
}

// sum combines grounds: one that fails fails all, one that is unknown leaves
// all unknown, and they pass when all that apply do.
func sum(row finding.Row, all []Grounds) finding.Row {
	row.Verdict, row.Reason = measure.Unknown, "no rule decides it and no process evidence was given"
	rank := func(g Grounds) int {
		return slices.Index([]measure.Verdict{measure.Pass, measure.Unknown, measure.Fail}, g.Verdict)
	}
	worst := -1
	for _, g := range all {
		row.By = append(row.By, g.By)
		if !g.Applies {
			continue
		}
		if row.Applies = true; rank(g) > worst {
			worst, row.Verdict, row.Reason = rank(g), g.Verdict, g.By+": "+g.Reason
		}
	}
	if len(all) > 0 && !row.Applies {
		row.Reason = all[0].Reason
	}
	if len(all) == 0 {
		row.Applies = true
	}
	slices.Sort(row.By)
	row.By = slices.Compact(row.By)
	return row
}
