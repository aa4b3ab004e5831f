package csource

import (
	"slices"
	"strings"

	"holdfast/finding"
)

// State is what is known of whether a macro is defined.
type State uint8

// The states. Any definition counts as Defined, #define X 0 too: that is how
// #ifdef and #ifndef see it. Ask Int for the value where upstream uses #if.
const (
	Undefined State = iota
	Defined
	Unsure // it depends on a condition that the input does not decide
)

// String returns "undefined", "defined" or "unsure".
func (s State) String() string { return [...]string{"undefined", "defined", "unsure"}[s] }

// Macro is what is known of one macro at the end of a configuration.
type Macro struct {
	Name     string
	State    State
	Value    string // its replacement, comments taken out; "" for "#define X"
	Params   bool   // it takes arguments
	Sure     bool   // Value is the only one it can have
	Default  bool   // defined under "#ifndef X": only where nothing else defines it
	Location finding.Location
}

// Table is what a configuration defines.
type Table struct {
	// Complete reports whether the command line is known too: then a macro that
	// is not in the table is not defined. Otherwise a -D may define it.
	Complete bool
	// Includes are the files that were included, or should have been: those
	// that were not found are in Missing too.
	Includes []string
	Missing  []string
	// Trouble is why reading stopped before the end; nil when it did not.
	Trouble *finding.Trouble

	macros map[string]Macro
}

// NewTable returns an empty table.
func NewTable() *Table { return &Table{macros: map[string]Macro{}} }

// Lookup returns what is known of a macro, and whether the configuration says
// anything of it.
func (t *Table) Lookup(name string) (Macro, bool) {
	m, ok := t.macros[name]
	return m, ok
}

// State returns whether a macro is defined at the end of the configuration, as
// far as the configuration tells: Undefined where it does not name the macro.
// See Complete.
func (t *Table) State(name string) State { return t.macros[name].State }

// Value returns a macro's replacement, and whether it is defined with this one
// for sure.
func (t *Table) Value(name string) (string, bool) {
	m := t.macros[name]
	return m.Value, m.State == Defined && m.Sure
}

// Int returns the number that a macro comes to, other macros expanded, and
// whether that is known.
func (t *Table) Int(name string) (int64, bool) {
	m := t.macros[name]
	if m.State != Defined || !m.Sure || m.Params {
		return 0, false
	}
	v := t.Eval(m.Value)
	return v.N, v.Known
}

// All returns the macros that the configuration names, undefined ones too, by
// name.
func (t *Table) All() []Macro {
	all := make([]Macro, 0, len(t.macros))
	for _, m := range t.macros {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Macro) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Set puts a macro into the table, as a command line or a .config does.
func (t *Table) Set(m Macro) { t.macros[m.Name] = m }
