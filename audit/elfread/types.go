package elfread

import (
	"debug/dwarf"
	"fmt"
)

// resolved is what rules ask of a type.
type resolved struct {
	name     string
	size     uint64
	array    bool
	function bool   // a pointer to a function, or an array of them
	strukt   string // the structure that it is, or is an array of
}

// resolve follows a type to its end. Types that refer to themselves, and deeper
// ones than anybody writes, have no name.
func (d *debugReader) resolve(at dwarf.Offset) resolved {
	const deepest = 32
	return d.follow(at, deepest)
}

func (d *debugReader) follow(at dwarf.Offset, depth int) resolved {
	t := d.types[at]
	switch {
	case at == 0:
		return resolved{name: "void"}
	case t == nil || depth == 0:
		return resolved{}
	}
	switch t.tag {
	case dwarf.TagPointerType, dwarf.TagReferenceType, dwarf.TagRvalueReferenceType:
		return d.pointer(t, depth)
	case dwarf.TagArrayType:
		return d.array(t, depth)
	case dwarf.TagTypedef:
		r := d.follow(t.of, depth-1)
		if r.strukt == "" && r.name == "struct" {
			r.strukt = t.name
		}
		r.name = t.name
		return r
	case dwarf.TagConstType, dwarf.TagVolatileType, dwarf.TagRestrictType, dwarf.TagAtomicType:
		return d.follow(t.of, depth-1)
	case dwarf.TagStructType, dwarf.TagUnionType, dwarf.TagClassType:
		name := "struct"
		if t.name != "" {
			name += " " + t.name
		}
		return resolved{name: name, size: uint64(max(t.size, 0)), strukt: t.name}
	case dwarf.TagSubroutineType:
		return resolved{name: "function", function: true}
	}
	return resolved{name: t.name, size: uint64(max(t.size, 0))}
}

// pointer resolves a pointer: of what it points to, only the name and whether
// it is a function.
func (d *debugReader) pointer(t *typeEntry, depth int) resolved {
	to := d.follow(t.of, depth-1)
	size := t.size
	if size <= 0 {
		size = int64(d.size())
	}
	function := to.function && to.size == 0 && !to.array
	return resolved{name: to.name + " *", size: uint64(size), function: function}
}

func (d *debugReader) array(t *typeEntry, depth int) resolved {
	const most = 1 << 40
	of := d.follow(t.of, depth-1)
	r := resolved{array: true, function: of.function, strukt: of.strukt, name: of.name + "[]"}
	if t.count >= 0 && t.counted {
		r.name = fmt.Sprintf("%s[%d]", of.name, t.count)
		if of.size < most && t.count < most/int64(max(of.size, 1)) {
			r.size = of.size * uint64(t.count)
		}
	}
	return r
}
