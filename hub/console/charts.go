package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/operator"
)

func (c *console) chartRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /charts", c.show("charts", c.charts))
}

// ranges are the times that charts may show, with the step of each.
var ranges = []chartRange{
	{"1h", "1 hour", time.Hour, time.Minute},
	{"24h", "24 hours", 24 * time.Hour, 10 * time.Minute},
	{"168h", "7 days", 7 * 24 * time.Hour, time.Hour},
}

type chartRange struct {
	Key, Title string
	Whole      time.Duration
	Step       time.Duration
}

// chart is one figure: lines over the same time.
type chart struct {
	ID, Title, Note string
	Source          string // where the script reads the lines
	Lines           []line
}

// line is the newest and the extreme values of a series, for whoever reads and
// does not look.
type line struct {
	Name, Unit      string
	Last, Low, High *float64
}

// chartsView is the figures of a range.
type chartsView struct {
	Ranges []chartRange
	Range  chartRange
	Charts []chart
}

func (c *console) charts(r *http.Request) (page, error) {
	v := chartsView{Ranges: ranges, Range: ranges[0]}
	for _, g := range ranges {
		if g.Key == r.URL.Query().Get("range") {
			v.Range = g
		}
	}
	for _, f := range []struct {
		chart
		names []string
	}{
		{chart{ID: "connections", Title: "Connections", Note: "Live sessions of devices."}, []string{"connections"}},
		{chart{ID: "messages", Title: "Messages", Note: "Messages taken from devices, in a second."}, []string{"messages"}},
		{chart{ID: "verdicts", Title: "Verdicts", Note: "Measures of all devices by verdict."}, []string{"pass", "fail", "unknown"}},
	} {
		f.Source = "/v1/series?" + url.Values{"names": {strings.Join(f.names, ",")}, "since": {time.Now().Add(-v.Range.Whole).UTC().Format(time.RFC3339)},
			"step": {strconv.Itoa(int(v.Range.Step.Seconds()))}}.Encode()
		ss, err := get[[]operator.Series](c, r, f.Source)
		if err != nil {
			return page{}, err
		}
		for _, s := range ss {
			f.Lines = append(f.Lines, newLine(s))
		}
		v.Charts = append(v.Charts, f.chart)
	}
	return page{Data: v}, nil
}

func newLine(s operator.Series) line {
	l := line{Name: s.Name, Unit: s.Unit}
	for _, x := range s.Values {
		if x == nil {
			continue
		}
		l.Last = x
		if l.Low == nil || *x < *l.Low {
			l.Low = x
		}
		if l.High == nil || *x > *l.High {
			l.High = x
		}
	}
	return l
}
