package measure_test

import (
	"testing"

	"holdfast/measure"
)

func TestGradesAreOrdered(t *testing.T) {
	order := []measure.Grade{measure.Observed, measure.Attested, measure.Audited, measure.Claimed, measure.None}
	for i, stronger := range order {
		for j, weaker := range order {
			if got, want := stronger.Meets(weaker), i <= j; got != want {
				t.Errorf("%s.Meets(%s) = %v, want %v", stronger, weaker, got, want)
			}
		}
	}
}

func TestWhatIsNotAGradeMeetsNothing(t *testing.T) {
	for _, g := range []measure.Grade{"", "Observed", "proven"} {
		if g.Meets(measure.None) || measure.Observed.Meets(g) || g.Meets(g) {
			t.Errorf("%q meets a demand or is met", g)
		}
	}
}

func TestParseGrade(t *testing.T) {
	for _, g := range []measure.Grade{measure.Observed, measure.Attested, measure.Audited, measure.Claimed, measure.None} {
		if got, err := measure.ParseGrade(string(g)); err != nil || got != g {
			t.Errorf("ParseGrade(%q) = %q, %v", g, got, err)
		}
	}
	for _, s := range []string{"", "Observed", "attested ", "proven"} {
		if g, err := measure.ParseGrade(s); err == nil {
			t.Errorf("ParseGrade(%q) = %q, want an error", s, g)
		}
	}
}
