package policy

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast/posture"
)

// Print returns a policy in its text form, from which Parse reads it back.
func Print(p posture.Policy) string {
	p.FullLifetime, p.ShortLifetime = posture.Duration(p.Full()), posture.Duration(p.Short())
	lines := []statement{{keyword: kwPolicy, cells: nameCells(p)}, {keyword: kwLifetime, cells: lifetimeCells(p)}}
	if len(p.Require) > 0 {
		lines = append(lines, statement{})
	}
	for _, q := range p.Require {
		lines = append(lines, statement{keyword: kwRequire, cells: requireCells(q)})
	}
	if len(p.Conditions) > 0 {
		lines = append(lines, statement{})
	}
	for _, c := range p.Conditions {
		lines = append(lines, statement{keyword: kwWhen, cells: conditionCells(c)})
	}
	return layOut(lines)
}

// Format returns the text of a policy in the one form that it should have:
// columns stand under one another, comments stay, and empty lines come alone.
// A policy in JSON becomes text. What is wrong with it is said as by Parse.
func Format(b []byte) (string, error) {
	if isJSON(b) {
		p, err := Parse(b)
		if err != nil {
			return "", err
		}
		return Print(p), nil
	}
	f, err := read(b)
	if err != nil {
		return "", err
	}
	return layOut(f.lines), nil
}

func nameCells(p posture.Policy) []string {
	if p.Version == 0 {
		return []string{p.Name}
	}
	return []string{p.Name, kwVersion, strconv.Itoa(p.Version)}
}

func lifetimeCells(p posture.Policy) []string {
	var cells []string
	if p.FullLifetime > 0 {
		cells = append(cells, kwFull, Text(p.FullLifetime))
	}
	if p.ShortLifetime > 0 {
		cells = append(cells, kwShort, Text(p.ShortLifetime))
	}
	return cells
}

func requireCells(q posture.Requirement) []string {
	cells := []string{string(q.Measure), string(q.Grade), "", ""}
	if q.MaxAge > 0 {
		cells[2] = Text(q.MaxAge)
	}
	if q.GraceUnknown {
		cells[3] = kwGrace
	}
	return cells
}

func conditionCells(c posture.Condition) []string {
	return []string{c.When, string(c.Then), strconv.Quote(c.Reason)}
}

// Text is a duration without zeros at its end: 24h, 1h30m, 1m30s.
func Text(d posture.Duration) string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// layOut prints statements: the requirements as a table, of empty lines one.
func layOut(lines []statement) string {
	widths := make([]int, 4)
	for _, l := range lines {
		if l.keyword == kwRequire {
			for i, c := range l.cells {
				widths[i] = max(widths[i], utf8.RuneCountInString(c))
			}
		}
	}
	var out strings.Builder
	empty := true // so that none is the first
	for _, l := range lines {
		s := l.print(widths)
		if s == "" {
			empty = true
			continue
		}
		if empty && out.Len() > 0 {
			out.WriteByte('\n')
		}
		empty = false
		out.WriteString(s)
		out.WriteByte('\n')
	}
	return out.String()
}

func (l statement) print(widths []int) string {
	s := l.keyword
	for i, c := range l.cells {
		if l.keyword != kwRequire {
			s += " " + c
			continue
		}
		if widths[i] > 0 {
			s += strings.Repeat(" ", min(2, i+1)) + c + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
		}
	}
	if l.comment == "" {
		return strings.TrimRight(s, " ")
	}
	if s != "" {
		s += "  "
	}
	return s + l.comment
}
