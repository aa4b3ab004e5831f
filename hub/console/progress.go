package console

import (
	"fmt"
	"strings"

	"holdfast/operator"
	"holdfast/rollout"
)

// standing is how many devices of a rollout are in a state.
type standing struct {
	State string
	Count int
}

// standings are all states of a rollout's devices, in the order of an update.
func standings(n operator.RolloutCounts) []standing {
	counts := map[rollout.State]int{rollout.Waiting: n.Waiting, rollout.Offered: n.Offered, rollout.Updating: n.Updating, rollout.Committed: n.Committed,
		rollout.Done: n.Done, rollout.Failed: n.Failed, rollout.Excluded: n.Excluded, rollout.Replaced: n.Superseded}
	out := make([]standing, 0, len(counts))
	for _, s := range rollout.States() {
		out = append(out, standing{string(s), counts[s]})
	}
	return out
}

// progress is a bar of the devices that a rollout is for, those that are done at
// its beginning. Widths are hundredths of it.
type progress struct {
	Total int // devices; those that are excluded or another rollout's do not count
	Done  int
	Parts []progressPart
	Text  string
}

type progressPart struct {
	State string
	X, W  float64
}

func newProgress(n operator.RolloutCounts) progress {
	p := progress{Total: n.Waiting + n.Offered + n.Updating + n.Committed + n.Done + n.Failed, Done: n.Done}
	at := 0.0
	var words []string
	for _, s := range []standing{{"done", n.Done}, {"committed", n.Committed}, {"updating", n.Updating}, {"offered", n.Offered}, {"failed", n.Failed}, {"waiting", n.Waiting}} {
		if s.Count == 0 {
			continue
		}
		w := 100 * float64(s.Count) / float64(p.Total)
		p.Parts = append(p.Parts, progressPart{s.State, at, w})
		at += w
		words = append(words, fmt.Sprintf("%d %s", s.Count, s.State))
	}
	p.Text = strings.Join(words, ", ")
	return p
}

// fetched says how much of its download a device has: "1.2 of 3.4 MiB".
func fetched(d operator.RolloutDevice) string {
	if d.Length <= 0 {
		return ""
	}
	return fmt.Sprintf("%d %% of %s", min(100, 100*max(d.Bytes, 0)/d.Length), size(d.Length))
}
