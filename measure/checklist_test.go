package measure_test

import (
	"strings"
	"testing"

	"holdfast/measure"
)

func TestChecklistHasEveryBullet(t *testing.T) {
	type count struct{ bullets, under int }
	got := map[measure.List]count{}
	for _, it := range measure.Checklist() {
		c := got[it.List]
		if it.Parent == "" {
			c.bullets++
		} else {
			c.under++
		}
		got[it.List] = c
	}
	want := map[measure.List]count{measure.Take: {16, 3}, measure.Avoid: {14, 3}}
	for list, c := range want {
		if got[list] != c {
			t.Errorf("list %s has %+v, the original %+v", list, got[list], c)
		}
	}
	if len(got) != len(want) {
		t.Errorf("lists %v, want take and avoid", got)
	}
}

func TestChecklistItemsPointToMeasures(t *testing.T) {
	seen := map[string]measure.Item{}
	for _, it := range measure.Checklist() {
		if _, twice := seen[it.ID]; twice {
			t.Errorf("item %s stands twice", it.ID)
		}
		if !strings.HasPrefix(it.ID, string(it.List)+".") {
			t.Errorf("item %s is not named after its list %s", it.ID, it.List)
		}
		if _, ok := measure.Find(it.Measure); !ok {
			t.Errorf("item %s points to the unknown measure %q", it.ID, it.Measure)
		}
		if !strings.HasSuffix(it.Text, ".") {
			t.Errorf("item %s: %q is not a sentence", it.ID, it.Text)
		}
		if it.Parent != "" {
			parent, ok := seen[it.Parent]
			if !ok || parent.Parent != "" || !strings.HasPrefix(it.ID, it.Parent+".") {
				t.Errorf("item %s does not follow its parent %q", it.ID, it.Parent)
			}
		}
		seen[it.ID] = it
	}
}

func TestFindItem(t *testing.T) {
	if it, ok := measure.FindItem("avoid.rand"); !ok || it.Measure != measure.CryptoEntropy {
		t.Errorf("FindItem(avoid.rand) = %+v, %v", it, ok)
	}
	if it, ok := measure.FindItem("avoid.everything"); ok {
		t.Errorf("found %+v", it)
	}
}
