package console

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
	"holdfast/release"
)

// functions are what templates call.
func functions(as assets) template.FuncMap {
	return template.FuncMap{
		"asset":  as.path,
		"ago":    func(t time.Time) string { return ago(t, time.Now()) },
		"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"utc":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"late":   func(f *operator.Firmware) string { return f.Late(time.Now()) },
		"past":   func(t time.Time) bool { return t.Before(time.Now()) },
		"span":   func(d posture.Duration) string { return span(time.Duration(d)) },
		"pretty": pretty,
		"bar":    func(s operator.Summary) bar { return newBar(s.Pass, s.Fail, s.Unknown) },
		"num":    num,
		"gist":   gist,
		"short":  short,
		"lines":  func(ss []string) string { return strings.Join(ss, "\n") },
		"join":   func(ss []string) string { return strings.Join(ss, ", ") },
		"roles":  operator.Roles,
		"grades": func() []measure.Grade {
			return []measure.Grade{measure.Observed, measure.Attested, measure.Audited, measure.Claimed}
		},
		"progress":    func(r operator.Rollout) progress { return newProgress(r.Counts) },
		"fetched":     fetched,
		"size":        size,
		"seconds":     func(n int64) string { return span(time.Duration(n) * time.Second) },
		"lasts":       span,
		"window":      func(w release.Window) string { return w.From + "–" + w.To },
		"dict":        dict,
		"list":        func(ss ...string) []string { return ss },
		"once":        rand.Text,
		"value":       value,
		"unversioned": unversioned,
	}
}

// dict makes a map of names and values by turns, to hand several things to a
// part of a page.
func dict(pairs ...any) (map[string]any, error) {
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: name %d is no text", i)
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}

// ago says how far t is from now, in one unit.
func ago(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case d < 0 && d > -time.Second, d >= 0 && d < 5*time.Second:
		return "now"
	case d < 0:
		return "in " + span(-d)
	}
	return span(d) + " ago"
}

// span says how long d is, in its largest whole unit.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{365 * day, "y"}, {day, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}} {
		whole := d / u.of
		if u.name == "d" && whole < 2 { // hours tell more
			continue
		}
		if whole > 0 {
			return fmt.Sprintf("%d %s", whole, u.name)
		}
	}
	return "0 s"
}

// num writes a number with spaces between thousands.
func num(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// short cuts a hexadecimal text that only has to be told from others.
func short(v any) string {
	s := fmt.Sprint(v)
	if len(s) <= 16 {
		return s
	}
	return s[:12] + "…"
}

// pretty indents JSON; what is none stays as it is.
func pretty(b json.RawMessage) string {
	if len(b) == 0 {
		return ""
	}
	var out bytes.Buffer
	if json.Indent(&out, b, "", "  ") != nil {
		return string(b)
	}
	return out.String()
}

// gist says in a line what the details of a record are: their texts and
// numbers, without what a table shows anyway.
func gist(details json.RawMessage) string {
	var d map[string]any
	if json.Unmarshal(details, &d) != nil {
		return ""
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(d)) {
		switch v := d[k].(type) {
		case map[string]any:
			for _, inner := range slices.Sorted(maps.Keys(v)) {
				parts = append(parts, told(inner, v[inner])...)
			}
		default:
			parts = append(parts, told(k, v)...)
		}
	}
	return strings.Join(parts, ", ")
}

// told says what is behind a name of a record's details, if it is short.
func told(name string, v any) []string {
	text, ok := v.(string)
	if n, isNumber := v.(float64); isNumber {
		text, ok = strconv.FormatFloat(n, 'f', -1, 64), true
	}
	if !ok || text == "" || len(text) > 80 || slices.Contains([]string{"event", "by", "reason", "device", "group"}, name) {
		return nil
	}
	return []string{name + " " + text}
}

// unversioned takes what the hub adds out of a twin's section, so that what is
// edited is what somebody wrote.
func unversioned(b json.RawMessage) (json.RawMessage, error) {
	var section map[string]json.RawMessage
	if err := json.Unmarshal(b, &section); err != nil || section == nil {
		return json.RawMessage("{}"), nil
	}
	for _, k := range []string{"$version", "$metadata"} {
		delete(section, k)
	}
	return json.Marshal(section)
}

// value writes a value of a series; none stands as a dash.
func value(v *float64) string {
	switch {
	case v == nil:
		return "–"
	case *v == math.Trunc(*v) && math.Abs(*v) < 1e9:
		return num(int(*v))
	}
	return fmt.Sprintf("%.2f", *v)
}

// bar is the widths of a device's measures by verdict, in hundredths.
type bar struct {
	Pass, Fail, Unknown int // measures
	FailAt, UnknownAt   float64
	PassW, FailW        float64
}

func newBar(pass, fail, unknown int) bar {
	all := float64(max(1, pass+fail+unknown))
	b := bar{Pass: pass, Fail: fail, Unknown: unknown, PassW: 100 * float64(pass) / all, FailW: 100 * float64(fail) / all}
	b.FailAt, b.UnknownAt = b.PassW, b.PassW+b.FailW
	return b
}

// statuses are the statuses in the order in which they matter.
func statuses() []posture.Status {
	return []posture.Status{posture.Trusted, posture.Degraded, posture.Quarantined, posture.Connected, posture.Offline,
		posture.Pending, posture.Refused, posture.Revoked}
}

// rooms are the parts of the checklist, each with the measures whose ids begin
// so, in the order of the catalogue.
var rooms = []struct {
	title    string
	prefixes []string
}{
	{"Identity, credentials and access", []string{"identity", "credentials", "access"}},
	{"Cryptography", []string{"crypto"}},
	{"Memory", []string{"memory"}},
	{"Firmware", []string{"firmware"}},
	{"Protocols", []string{"protocol"}},
	{"Application", []string{"app"}},
	{"Monitoring", []string{"monitor"}},
}

// proof is one measure of a device: what it is, what is known, and what came of
// the policy's demand.
type proof struct {
	measure.Measure
	Row      measure.Row
	Demand   *posture.Requirement // nil: not demanded
	Standing posture.Standing
	Why      string // of the standing
}

// Open reports whether somebody should read what to do.
func (p proof) Open() bool {
	return p.Row.Verdict == measure.Fail || p.Demand != nil && p.Standing != posture.Met
}

// Proven reports whether the row rests on evidence.
func (p proof) Proven() bool { return p.Row.Grade != "" && p.Row.Grade != measure.None }

// section is a part of the checklist with its measures.
type section struct {
	Title               string
	Proofs              []proof
	Pass, Fail, Unknown int
}

// checklist joins the catalogue, a device's posture, the policy and its outcome.
func checklist(d operator.Device, policy posture.Policy) []section {
	rows := map[measure.ID]measure.Row{}
	for _, r := range d.Posture {
		rows[r.Measure] = r
	}
	outcomes := map[measure.ID]posture.Outcome{}
	if d.Decision != nil {
		for _, o := range d.Decision.Outcomes {
			outcomes[o.Measure] = o
		}
	}
	out := make([]section, len(rooms))
	for _, m := range measure.Catalogue() {
		prefix, _, _ := strings.Cut(string(m.ID), ".")
		for i := range rooms {
			if slices.Contains(rooms[i].prefixes, prefix) {
				out[i].Title = rooms[i].title
				out[i].add(prove(m, rows[m.ID], policy, outcomes))
			}
		}
	}
	return out
}

func prove(m measure.Measure, row measure.Row, policy posture.Policy, outcomes map[measure.ID]posture.Outcome) proof {
	p := proof{Measure: m, Row: row}
	if row.Verdict == "" {
		p.Row.Verdict, p.Row.Grade = measure.Unknown, measure.None
	}
	if i := slices.IndexFunc(policy.Require, func(q posture.Requirement) bool { return q.Measure == m.ID }); i >= 0 {
		p.Demand = &policy.Require[i]
	}
	if o, ok := outcomes[m.ID]; ok {
		p.Standing, p.Why = o.Standing, o.Reason
		if p.Demand == nil { // decided under a policy that is no longer this one
			p.Demand = &posture.Requirement{Measure: m.ID}
		}
	}
	return p
}

func (s *section) add(p proof) {
	s.Proofs = append(s.Proofs, p)
	switch p.Row.Verdict {
	case measure.Pass:
		s.Pass++
	case measure.Fail:
		s.Fail++
	default:
		s.Unknown++
	}
}
