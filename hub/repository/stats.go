package repository

import "holdfast/internal/tally"

// Stats count what the repository does.
type Stats struct {
	Served *tally.Vec // bytes to devices, by what they were of: metadata, blob, delta
	Asked  *tally.Vec // requests of devices, by kind and outcome
	Deltas *tally.Vec // deltas that were to be made, by outcome
}

func newStats() *Stats {
	kinds := []string{"metadata", "blob", "delta"}
	return &Stats{
		Served: tally.NewVec(kinds),
		Asked:  tally.NewVec(kinds, []string{"served", "cut-off", "not-found", "pending", "refused"}),
		Deltas: tally.NewVec([]string{"made", "larger", "failed"}),
	}
}

// Stats returns what the repository counts.
func (r *Repository) Stats() *Stats { return r.stats }

// Expiries emits when the newest files of the roles end, in seconds since 1970;
// of products the first that does.
func (r *Repository) Expiries(emit func(seconds float64, role string)) {
	products := false
	for _, e := range r.held.Load().expiries() {
		role := e.role
		switch role {
		case "root", "targets", "snapshot", "timestamp":
		default:
			if role = "products"; products {
				continue
			}
			products = true
		}
		emit(float64(e.Expires.Unix()), role)
	}
}
