package report

import (
	_ "embed"
	"html/template"
	"io"
	"slices"
	"strings"

	"holdfast/audit/checks"
	"holdfast/finding"
	"holdfast/measure"
)

//go:embed report.html
var reportHTML string

// sheet is what the HTML page shows.
type sheet struct {
	*finding.Report
	Groups []group
	Lists  []list
}

// list is one of the checklist's two lists, filled in.
type list struct {
	Title string
	Items []item
}

// item is a bullet with its verdict and what that rests on.
type item struct {
	measure.Item
	Row      finding.Row
	Standing string
	Grounds  []string
}

func writeHTML(w io.Writer, r *finding.Report) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"standing": standing, "rule": rule, "class": func(s string) string { return strings.ReplaceAll(s, " ", "-") },
		"clean": clean, "place": func(l finding.Location) string { return clean(l.String()) },
	}).Parse(reportHTML)
	if err != nil {
		return err
	}
	return t.Execute(w, sheet{r, groups(r), []list{
		{"Security measures to take", items(r, measure.Take)}, {"Security measures to avoid", items(r, measure.Avoid)},
	}})
}

func items(r *finding.Report, of measure.List) []item {
	var all []item
	for _, m := range measure.Checklist() {
		if m.List != of {
			continue
		}
		i := slices.IndexFunc(r.Bullets, func(b finding.Row) bool { return b.Bullet == m.ID })
		if i < 0 {
			continue
		}
		all = append(all, item{m, r.Bullets[i], standing(r.Bullets[i]), grounds(r.Bullets[i])})
	}
	return all
}

// grounds names what a bullet rests on, rules with their titles.
func grounds(row finding.Row) []string {
	var all []string
	for _, by := range row.By {
		if r, ok := checks.Find(by); ok {
			by += " " + r.Title
		}
		all = append(all, by)
	}
	return all
}
