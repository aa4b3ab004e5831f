package report

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode"

	"holdfast/finding"
)

// colours of severities and verdicts: ANSI escape sequences.
var colours = map[string]string{
	"critical": "\x1b[1;31m", "high": "\x1b[31m", "medium": "\x1b[33m", "low": "\x1b[36m", "info": "\x1b[2m",
	"pass": "\x1b[32m", "fail": "\x1b[31m", "unknown": "\x1b[33m", "not applicable": "\x1b[2m",
}

// page writes text for people.
type page struct {
	*bufio.Writer
	Options
}

func (p page) paint(word string) string {
	if c := colours[word]; p.Color && c != "" {
		return c + word + "\x1b[0m"
	}
	return word
}

// pad paints a word and fills it up to a width.
func (p page) pad(word string, width int) string {
	return p.paint(word) + strings.Repeat(" ", max(0, width-len(word)))
}

func writeText(w io.Writer, r *finding.Report, o Options) error {
	p := page{bufio.NewWriter(w), o}
	for _, g := range groups(r) {
		p.group(g)
	}
	for _, t := range r.Troubles {
		fmt.Fprintf(p, "not read: %s: %s\n", clean(t.Location.String()), clean(t.Message))
	}
	p.summary(r)
	return p.Flush()
}

func (p page) group(g group) {
	shown := 0
	for _, f := range g.Findings {
		if p.Verbose || !f.Known && f.Suppressed == "" {
			shown++
		}
	}
	if shown == 0 && !p.Verbose {
		return
	}
	fmt.Fprintf(p, "%s  %s  %s\n", g.Measure.ID, p.paint(standing(g.Row)), g.Measure.Title)
	if len(g.Findings) == 0 {
		fmt.Fprintf(p, "  %s\n", clean(g.Row.Reason))
	}
	for _, f := range g.Findings {
		if p.Verbose || !f.Known && f.Suppressed == "" {
			p.finding(f)
		}
	}
	fmt.Fprintln(p)
}

func (p page) finding(f finding.Finding) {
	fmt.Fprintf(p, "  %s %s  %s\n", p.pad(string(f.Severity), 8), f.Rule, clean(f.Message))
	fmt.Fprintf(p, "           at %s%s\n", clean(f.Location.String()), doubt(f))
	fmt.Fprintf(p, "           fix: %s\n", f.Fix)
}

// doubt says what makes a finding count less.
func doubt(f finding.Finding) string {
	var notes []string
	if f.Confidence == finding.Guess {
		notes = append(notes, "a guess")
	}
	if f.Known {
		notes = append(notes, "in the baseline")
	}
	if f.Suppressed != "" {
		notes = append(notes, "suppressed: "+clean(f.Suppressed))
	}
	if len(notes) == 0 {
		return ""
	}
	return "  [" + strings.Join(notes, ", ") + "]"
}

func (p page) summary(r *finding.Report) {
	n := map[string]int{}
	for _, row := range r.Bullets {
		n[standing(row)]++
	}
	known, suppressed := 0, 0
	for _, f := range r.Findings {
		if f.Known {
			known++
		}
		if f.Suppressed != "" {
			suppressed++
		}
	}
	counts := r.Counts()
	var parts []string
	for _, s := range []finding.Severity{finding.Critical, finding.High, finding.Medium, finding.Low, finding.Info} {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s], p.paint(string(s))))
		}
	}
	if len(parts) == 0 {
		parts = []string{"none"}
	}
	fmt.Fprintf(p, "%d files; findings: %s", len(r.Inputs), strings.Join(parts, ", "))
	if known+suppressed > 0 {
		fmt.Fprintf(p, " (%d in the baseline, %d suppressed)", known, suppressed)
	}
	fmt.Fprintf(p, "\nchecklist: %d pass, %d fail, %d unknown, %d not applicable of %d\n",
		n["pass"], n["fail"], n["unknown"], n["not applicable"], len(r.Bullets))
	for _, i := range r.Images {
		if i.Matches != "" {
			fmt.Fprintf(p, "image %s carries %s; a device measures %s\n", clean(i.File), clean(i.Matches), i.Measured)
		} else {
			fmt.Fprintf(p, "image %s: not shown to carry any of the programs\n", clean(i.File))
		}
	}
}

// clean makes text of the input safe to show in a terminal: what is not
// printable becomes a question mark.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, strings.ToValidUTF8(s, "?"))
}
