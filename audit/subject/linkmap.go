package subject

import "slices"

// Map is what a linker wrote of what it did.
type Map struct {
	File   string
	Linker string // "gnu-ld", "lld", "armlink", "iar"

	Members  []MapMember  // what came from archives, and for whose sake
	Sections []MapSection // what each object gave, by address
	Dropped  []MapSection // what was left out
	Memory   []MapMemory
	Symbols  map[string]uint64
}

// MapMember is an object of an archive that was linked in.
type MapMember struct {
	Archive string // "/opt/lib/libc.a"
	Object  string // "rand.o"
	For     string // the object that asked for it
	Symbol  string // by this symbol
}

// MapSection is what one object gave to one section of the program.
type MapSection struct {
	Output  string // ".text"
	Name    string // ".text.rand"
	Address uint64
	Size    uint64
	Object  string // "libc.a(rand.o)" or "main.o"
}

// MapMemory is a region of memory of the linker's script.
type MapMemory struct {
	Name       string
	Origin     uint64
	Length     uint64
	Attributes string // "xr", "rw"
}

// Objects returns the objects that gave anything to the program, sorted.
func (m *Map) Objects() []string {
	var all []string
	for _, s := range m.Sections {
		all = append(all, s.Object)
	}
	for _, s := range m.Members {
		all = append(all, s.Archive+"("+s.Object+")")
	}
	slices.Sort(all)
	return slices.Compact(all)
}
