package subject

import (
	"cmp"
	"slices"
)

func compareCalls(a, b Call) int {
	return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Site, b.Site), cmp.Compare(a.To, b.To))
}

// Recursive returns the groups of functions that call one another in a circle,
// each sorted, in order of their first names: the strongly connected components
// of more than one function, and functions that call themselves.
func (g *Calls) Recursive() [][]string {
	t := &tarjan{g: g, index: map[string]int{}, low: map[string]int{}, on: map[string]bool{}}
	names := make([]string, 0, len(g.callees))
	for name := range g.callees {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if _, seen := t.index[name]; !seen && name != "" {
			t.visit(name)
		}
	}
	slices.SortFunc(t.found, func(a, b []string) int { return cmp.Compare(a[0], b[0]) })
	return t.found
}

// tarjan finds strongly connected components (Tarjan 1972), with a stack of
// its own: a program may call deeper than ours may.
type tarjan struct {
	g          *Calls
	index, low map[string]int
	on         map[string]bool
	stack      []string
	found      [][]string
}

// step is a function that is being visited, and the next of its calls.
type step struct {
	name string
	next int
}

func (t *tarjan) enter(name string) step {
	t.index[name] = len(t.index)
	t.low[name] = t.index[name]
	t.stack = append(t.stack, name)
	t.on[name] = true
	return step{name: name}
}

func (t *tarjan) visit(root string) {
	for path := []step{t.enter(root)}; len(path) > 0; {
		top := &path[len(path)-1]
		calls := t.g.callees[top.name]
		if top.next < len(calls) {
			to := t.g.All[calls[top.next]].To
			top.next++
			if _, seen := t.index[to]; !seen {
				path = append(path, t.enter(to))
			} else if t.on[to] {
				t.low[top.name] = min(t.low[top.name], t.index[to])
			}
			continue
		}
		done := top.name
		path = path[:len(path)-1]
		if len(path) > 0 {
			parent := path[len(path)-1].name
			t.low[parent] = min(t.low[parent], t.low[done])
		}
		if t.low[done] == t.index[done] {
			t.leave(done)
		}
	}
}

// leave takes the component of a root off the stack.
func (t *tarjan) leave(root string) {
	i := lastIndex(t.stack, root)
	group := slices.Sorted(slices.Values(t.stack[i:]))
	t.stack = t.stack[:i]
	for _, name := range group {
		t.on[name] = false
	}
	if len(group) > 1 || slices.ContainsFunc(t.g.From(root), func(c Call) bool { return c.To == root && !c.Tail }) {
		t.found = append(t.found, group)
	}
}

// lastIndex returns where root is in a stack, looking from its top.
func lastIndex(stack []string, root string) int {
	i := len(stack) - 1
	for stack[i] != root {
		i--
	}
	return i
}
