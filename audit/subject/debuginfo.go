package subject

import (
	"cmp"
	"slices"
)

// Unit is a source file that was compiled, as debug information tells of it.
type Unit struct {
	Name     string // "src/main.c"
	Dir      string // where the compiler ran
	Language string // "c", "c++", "asm", "rust", "go" or ""
	Producer string // "GNU C11 12.2.1 -mcpu=cortex-m4 -O2 -fstack-protector-strong"
	// Flags are the producer's, when FlagsKnown: GCC notes those that change
	// the code (not -D, -I or -W), clang none unless asked to.
	Flags      Flags
	FlagsKnown bool
}

// Function is a function of the debug information.
type Function struct {
	Name    string
	Address uint64 // 0 and Size 0 when it has no code of its own
	Size    uint64
	Unit    int // index into Units
	File    string
	Line    int
	Inlined bool // only ever inlined
	Locals  []Local
}

// Local is a variable or parameter of a function.
type Local struct {
	Name      string
	Type      string // "unsigned char[1500]"
	Size      uint64 // bytes; 0 when not known
	Array     bool
	Struct    string // name of its structure or union, or of its elements'
	Parameter bool
	OnStack   bool // its place is relative to the frame; false: in registers, static, or optimised out
	Line      int
}

// Struct is a structure, a union or a class.
type Struct struct {
	Name    string // of the tag, or of the typedef when it has none
	Union   bool
	Size    uint64
	File    string
	Line    int
	Members []Member
}

// Member is a member of a structure.
type Member struct {
	Name            string
	Type            string
	Offset          uint64 // in bytes, of bit-fields that of their storage
	Size            uint64
	Array           bool
	FunctionPointer bool   // or an array of them
	Struct          string // name of the structure it is, or is an array of
}

// Frame is what a function takes from the stack.
type Frame struct {
	Bytes   int64
	Dynamic bool   // more, by alloca or an array of variable length
	From    string // what tells: "cfi", "code", "su", "locals"
}

// FunctionAt returns the function whose code an address is in.
func (p *Program) FunctionAt(address uint64) (Function, bool) {
	end, _ := slices.BinarySearchFunc(p.Functions, address, func(f Function, a uint64) int {
		if f.Address <= a {
			return -1
		}
		return 1
	})
	for i := end - 1; i >= 0 && end-i < 64; i-- {
		if f := p.Functions[i]; f.Size > 0 && address-f.Address < f.Size {
			return f, true
		}
	}
	return Function{}, false
}

// Function returns the function of a name, one with code first.
func (p *Program) Function(name string) (Function, bool) {
	var found Function
	for _, f := range p.Functions {
		if f.Name == name && (found.Name == "" || found.Size == 0) {
			found = f
		}
	}
	return found, found.Name != ""
}

// Struct returns the structure of a name.
func (p *Program) Struct(name string) (Struct, bool) {
	i := slices.IndexFunc(p.Structs, func(s Struct) bool { return s.Name == name })
	if i < 0 {
		return Struct{}, false
	}
	return p.Structs[i], true
}

// SortedStacks returns the names of the functions whose frames are known, the
// largest first.
func (p *Program) SortedStacks() []string {
	names := make([]string, 0, len(p.Stacks))
	for name := range p.Stacks {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(p.Stacks[b].Bytes, p.Stacks[a].Bytes), cmp.Compare(a, b))
	})
	return names
}
