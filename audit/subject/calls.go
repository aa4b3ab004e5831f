package subject

import "slices"

// Calls is the call graph of a program, by names of functions. Calls through
// pointers are not in it: a function whose address is taken is in Taken, and
// who calls it is not known.
type Calls struct {
	All   []Call // by the caller's name, then site
	Taken map[string]bool
	// Decoded reports whether the machine's code was read at all; false: what
	// is not in the graph may be called all the same.
	Decoded bool

	callers map[string][]int
	callees map[string][]int
}

// Call is a place where one function calls another, or jumps to it for good.
type Call struct {
	From string // "" when the code belongs to no symbol
	To   string // "sub_8000" when the target has none
	Site uint64 // address of the instruction
	Addr uint64 // of the target
	Tail bool   // a jump
}

// NewCalls makes a graph of calls. Decoded says that the code was read.
func NewCalls(all []Call, taken map[string]bool, decoded bool) *Calls {
	slices.SortStableFunc(all, compareCalls)
	g := &Calls{All: all, Taken: taken, Decoded: decoded, callers: map[string][]int{}, callees: map[string][]int{}}
	if g.Taken == nil {
		g.Taken = map[string]bool{}
	}
	for i, c := range all {
		g.callers[c.To] = append(g.callers[c.To], i)
		g.callees[c.From] = append(g.callees[c.From], i)
	}
	return g
}

// To returns the calls of a function.
func (g *Calls) To(name string) []Call { return g.pick(g.callers[name]) }

// From returns the calls that a function makes.
func (g *Calls) From(name string) []Call { return g.pick(g.callees[name]) }

func (g *Calls) pick(at []int) []Call {
	all := make([]Call, len(at))
	for i, k := range at {
		all[i] = g.All[k]
	}
	return all
}

// Used reports whether anything calls a function or takes its address.
func (g *Calls) Used(name string) bool { return len(g.callers[name]) > 0 || g.Taken[name] }

// Path returns the shortest chain of calls from one function to another, both
// named, or nil.
func (g *Calls) Path(from, to string) []string {
	before := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == to {
			var path []string
			for n := to; n != ""; n = before[n] {
				path = append(path, n)
			}
			slices.Reverse(path)
			return path
		}
		for _, k := range g.callees[queue[0]] {
			next := g.All[k].To
			if _, seen := before[next]; !seen {
				before[next] = queue[0]
				queue = append(queue, next)
			}
		}
	}
	return nil
}

// Reachable returns the functions that calls lead to from the given ones, and
// those themselves. Functions whose address is taken count as reachable when
// throughPointers is set.
func (g *Calls) Reachable(throughPointers bool, from ...string) map[string]bool {
	seen := map[string]bool{}
	queue := slices.Clone(from)
	if throughPointers {
		for name := range g.Taken {
			queue = append(queue, name)
		}
	}
	for len(queue) > 0 {
		name := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if seen[name] {
			continue
		}
		seen[name] = true
		for _, k := range g.callees[name] {
			queue = append(queue, g.All[k].To)
		}
	}
	return seen
}
