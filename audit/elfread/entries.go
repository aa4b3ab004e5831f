package elfread

import (
	"cmp"
	"debug/dwarf"
	"slices"
	"strings"

	"holdfast/audit/subject"
)

// debugReader walks the entries of the debug information once and resolves the
// references between them at the end.
type debugReader struct {
	*reader
	data *dwarf.Data
	left int // entries that may still be read

	types     map[dwarf.Offset]*typeEntry
	abstract  map[dwarf.Offset]variable // of functions that are inlined
	functions []function
	named     map[dwarf.Offset]*namedFunction // functions that others refer to
	structs   map[structKey]*structEntry

	unit  int
	files []*dwarf.LineFile
}

// typeEntry is a type, or the member that makes a part of one.
type typeEntry struct {
	tag     dwarf.Tag
	name    string
	size    int64
	of      dwarf.Offset // the type it is made of; 0: none (void)
	count   int64        // elements of an array; -1: not known before it runs
	counted bool
}

// structKey tells structures apart: a header's is in every unit.
type structKey struct {
	name, file string
	line, size int64
}

type structEntry struct {
	subject.Struct
	at      dwarf.Offset
	members []memberEntry
	unit    int
}

type memberEntry struct {
	name   string
	of     dwarf.Offset
	offset int64
}

// variable is a local as its entry has it.
type variable struct {
	name      string
	of        dwarf.Offset
	origin    dwarf.Offset
	parameter bool
	onStack   bool
	line      int
}

type namedFunction struct {
	name, file string
	line       int
}

type function struct {
	subject.Function
	at, origin dwarf.Offset
	locals     []variable
	reach      int64 // bytes below the frame's base that locals reach
	declared   bool  // a declaration: no code, never inlined
}

func newDebugReader(r *reader, data *dwarf.Data) *debugReader {
	return &debugReader{reader: r, data: data, left: r.limits.DebugEntries, types: map[dwarf.Offset]*typeEntry{},
		abstract: map[dwarf.Offset]variable{}, named: map[dwarf.Offset]*namedFunction{}, structs: map[structKey]*structEntry{}}
}

func (d *debugReader) read() {
	defer d.finish()
	entries := d.data.Reader()
	for {
		e, err := entries.Next()
		if err != nil {
			d.trouble(-1, "debug information: %v", err)
			return
		}
		if e == nil {
			return
		}
		if e.Tag == dwarf.TagCompileUnit || e.Tag == dwarf.TagPartialUnit {
			d.enterUnit(e)
		}
		if !e.Children {
			continue
		}
		if !d.children(entries) {
			return
		}
	}
}

// scope is an entry whose children are being read: what they belong to.
type scope struct {
	function int // index into functions, -1: none
	strukt   *structEntry
	array    *typeEntry
}

// children reads the entries below a unit, with a stack of its own: entries
// nest as deep as a file says. It reports whether to read on.
func (d *debugReader) children(entries *dwarf.Reader) bool {
	stack := []scope{{function: -1}}
	for len(stack) > 0 {
		e, err := entries.Next()
		if err != nil {
			d.trouble(-1, "debug information: %v", err)
			return false
		}
		if e == nil {
			return false
		}
		if d.left--; d.left < 0 {
			d.trouble(-1, "debug information has more than %d entries: the rest was not read", d.limits.DebugEntries)
			return false
		}
		if e.Tag == 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		inner := d.entry(e, stack[len(stack)-1])
		if e.Children {
			stack = append(stack, inner)
		}
	}
	return true
}

// enterUnit notes a unit and the names of its files.
func (d *debugReader) enterUnit(e *dwarf.Entry) {
	u := subject.Unit{Name: str(e, dwarf.AttrName), Dir: str(e, dwarf.AttrCompDir), Producer: str(e, dwarf.AttrProducer), Language: language(num(e, dwarf.AttrLanguage))}
	u.Flags, u.FlagsKnown = producerFlags(u.Producer)
	d.unit = len(d.p.Units)
	d.p.Units = append(d.p.Units, u)
	d.files = nil
	if lines, err := d.data.LineReader(e); err == nil && lines != nil {
		d.files = lines.Files()
	}
}

// entry reads one entry and returns the scope of its children.
func (d *debugReader) entry(e *dwarf.Entry, in scope) scope {
	out := scope{function: in.function}
	switch e.Tag {
	case dwarf.TagSubprogram:
		out.function = d.enterFunction(e)
	case dwarf.TagVariable, dwarf.TagFormalParameter:
		d.variable(e, in)
	case dwarf.TagStructType, dwarf.TagUnionType, dwarf.TagClassType:
		d.addType(e)
		out.strukt = d.enterStruct(e)
	case dwarf.TagMember:
		if in.strukt != nil {
			in.strukt.members = append(in.strukt.members, memberEntry{name: str(e, dwarf.AttrName), of: ref(e, dwarf.AttrType), offset: num(e, dwarf.AttrDataMemberLoc)})
		}
	case dwarf.TagArrayType:
		out.array = d.addType(e)
	case dwarf.TagSubrangeType:
		if in.array != nil {
			in.array.subrange(e)
		}
	case dwarf.TagBaseType, dwarf.TagPointerType, dwarf.TagTypedef, dwarf.TagConstType, dwarf.TagVolatileType, dwarf.TagEnumerationType,
		dwarf.TagSubroutineType, dwarf.TagRestrictType, dwarf.TagReferenceType, dwarf.TagRvalueReferenceType, dwarf.TagAtomicType, dwarf.TagUnspecifiedType:
		d.addType(e)
	}
	return out
}

func (d *debugReader) addType(e *dwarf.Entry) *typeEntry {
	t := &typeEntry{tag: e.Tag, name: str(e, dwarf.AttrName), size: num(e, dwarf.AttrByteSize), of: ref(e, dwarf.AttrType)}
	d.types[e.Offset] = t
	return t
}

// subrange multiplies the elements of an array by those of a dimension.
func (t *typeEntry) subrange(e *dwarf.Entry) {
	n := int64(-1)
	if v, ok := e.Val(dwarf.AttrCount).(int64); ok {
		n = v
	} else if v, ok := e.Val(dwarf.AttrUpperBound).(int64); ok {
		n = v + 1
	} else if e.Val(dwarf.AttrUpperBound) == nil && e.Val(dwarf.AttrCount) == nil {
		n = 0 // int a[]
	}
	const most = 1 << 40
	switch {
	case !t.counted:
		t.count = n
	case t.count > 0 && n >= 0 && n < most/max(t.count, 1):
		t.count *= n
	default:
		t.count = -1
	}
	t.counted = true
}

func (d *debugReader) enterStruct(e *dwarf.Entry) *structEntry {
	if e.Val(dwarf.AttrDeclaration) != nil {
		return nil
	}
	file, line := d.place(e)
	s := &structEntry{at: e.Offset, unit: d.unit, Struct: subject.Struct{Name: str(e, dwarf.AttrName), Union: e.Tag == dwarf.TagUnionType,
		Size: uint64(max(num(e, dwarf.AttrByteSize), 0)), File: file, Line: line}}
	key := structKey{s.Name, file, int64(line), int64(s.Size)}
	if _, seen := d.structs[key]; seen {
		return nil
	}
	d.structs[key] = s
	return s
}

// place returns the file and line of a declaration.
func (d *debugReader) place(e *dwarf.Entry) (string, int) {
	i := num(e, dwarf.AttrDeclFile)
	if i < 0 || i >= int64(len(d.files)) || d.files[i] == nil {
		return "", int(num(e, dwarf.AttrDeclLine))
	}
	return d.files[i].Name, int(num(e, dwarf.AttrDeclLine))
}

func (d *debugReader) enterFunction(e *dwarf.Entry) int {
	f := function{at: e.Offset, origin: ref(e, dwarf.AttrAbstractOrigin)}
	if f.origin == 0 {
		f.origin = ref(e, dwarf.AttrSpecification)
	}
	f.Name, f.Unit = str(e, dwarf.AttrName), d.unit
	f.File, f.Line = d.place(e)
	if low, ok := e.Val(dwarf.AttrLowpc).(uint64); ok {
		f.Address = low
		switch high := e.Val(dwarf.AttrHighpc).(type) {
		case uint64:
			f.Size = high - min(low, high)
		case int64:
			f.Size = uint64(max(high, 0))
		}
	}
	_, inline := e.Val(dwarf.AttrInline).(int64)
	f.Inlined = inline && f.Size == 0
	f.declared = e.Val(dwarf.AttrDeclaration) != nil
	d.named[e.Offset] = &namedFunction{f.Name, f.File, f.Line}
	d.functions = append(d.functions, f)
	return len(d.functions) - 1
}

// variable notes a local. Those of functions that are inlined are where the
// others' abstract origins lead.
func (d *debugReader) variable(e *dwarf.Entry, in scope) {
	if in.function < 0 {
		return
	}
	f := &d.functions[in.function]
	v := variable{name: str(e, dwarf.AttrName), of: ref(e, dwarf.AttrType), origin: ref(e, dwarf.AttrAbstractOrigin),
		parameter: e.Tag == dwarf.TagFormalParameter, line: int(num(e, dwarf.AttrDeclLine))}
	if f.Size == 0 {
		d.abstract[e.Offset] = v
	}
	if f.declared {
		return
	}
	if place, ok := e.Val(dwarf.AttrLocation).([]byte); ok && len(place) > 0 {
		const fbreg, breg0, breg31 = 0x91, 0x70, 0x8f
		v.onStack = place[0] == fbreg || place[0] >= breg0 && place[0] <= breg31
		if n, _, ok := sleb(place[1:]); ok && place[0] == fbreg && n < 0 {
			f.reach = max(f.reach, -n)
		}
	}
	f.locals = append(f.locals, v)
}

// finish resolves what was read and sorts it.
func (d *debugReader) finish() {
	d.p.Stacks = map[string]subject.Frame{}
	for i := range d.functions {
		if f := &d.functions[i]; !f.declared {
			d.finishFunction(f)
		}
	}
	slices.SortStableFunc(d.p.Functions, func(a, b subject.Function) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Name, b.Name), cmp.Compare(a.File, b.File))
	})
	typedefs := d.typedefs()
	for _, s := range d.structs {
		d.finishStruct(s, typedefs)
	}
	slices.SortFunc(d.p.Structs, func(a, b subject.Struct) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Size, b.Size))
	})
}

func (d *debugReader) finishFunction(f *function) {
	for depth := 0; f.Name == "" && f.origin != 0 && depth < 8; depth++ {
		o := d.named[f.origin]
		if o == nil {
			break
		}
		f.Name, f.File, f.Line, f.origin = o.name, o.file, o.line, d.originOf(f.origin)
	}
	if s, ok := d.p.Symbol(f.Name); ok && f.Size == 0 && !f.Inlined && s.Kind == subject.FuncSymbol {
		f.Address, f.Size = s.Address, s.Size // its code is in several ranges
	}
	if d.machine == emARM {
		f.Address &^= 1
	}
	dynamic := false
	for _, v := range f.locals {
		l := d.local(v)
		if l.Name == "" && l.Type == "" {
			continue
		}
		if t := d.types[v.of]; t != nil && t.tag == dwarf.TagArrayType && t.count < 0 && t.counted {
			dynamic = true
		}
		f.Locals = append(f.Locals, l)
	}
	if f.Name == "" {
		return
	}
	d.p.Functions = append(d.p.Functions, f.Function)
	if f.Size > 0 && (f.reach > 0 || dynamic) {
		before := d.p.Stacks[f.Name]
		d.p.Stacks[f.Name] = subject.Frame{Bytes: max(before.Bytes, f.reach), Dynamic: before.Dynamic || dynamic, From: "locals"}
	}
}

// originOf returns the origin of the function at an offset: declarations and
// abstract instances chain.
func (d *debugReader) originOf(at dwarf.Offset) dwarf.Offset {
	i, found := slices.BinarySearchFunc(d.functions, at, func(f function, o dwarf.Offset) int { return cmp.Compare(f.at, o) })
	if !found {
		return 0
	}
	return d.functions[i].origin
}

func (d *debugReader) local(v variable) subject.Local {
	for depth := 0; v.origin != 0 && depth < 8; depth++ {
		o, ok := d.abstract[v.origin]
		if !ok {
			break
		}
		v.name, v.of, v.line, v.origin = cmp.Or(v.name, o.name), cmp.Or(v.of, o.of), cmp.Or(v.line, o.line), o.origin
	}
	t := d.resolve(v.of)
	return subject.Local{Name: v.name, Type: t.name, Size: t.size, Array: t.array, Struct: t.strukt, Parameter: v.parameter, OnStack: v.onStack, Line: v.line}
}

// typedefs returns the names that typedefs give to structures, by their offset.
func (d *debugReader) typedefs() map[dwarf.Offset]string {
	names := map[dwarf.Offset]string{}
	for _, t := range d.types {
		if t.tag == dwarf.TagTypedef && t.name != "" && (names[t.of] == "" || t.name < names[t.of]) {
			names[t.of] = t.name
		}
	}
	return names
}

func (d *debugReader) finishStruct(s *structEntry, typedefs map[dwarf.Offset]string) {
	s.Name = cmp.Or(s.Name, typedefs[s.at])
	if s.Name == "" {
		return
	}
	for _, m := range s.members {
		t := d.resolve(m.of)
		s.Members = append(s.Members, subject.Member{Name: m.name, Type: t.name, Offset: uint64(max(m.offset, 0)), Size: t.size,
			Array: t.array, FunctionPointer: t.function, Struct: t.strukt})
	}
	d.p.Structs = append(d.p.Structs, s.Struct)
}

func str(e *dwarf.Entry, a dwarf.Attr) string {
	s, _ := e.Val(a).(string)
	return s
}

func num(e *dwarf.Entry, a dwarf.Attr) int64 {
	n, _ := e.Val(a).(int64)
	return n
}

func ref(e *dwarf.Entry, a dwarf.Attr) dwarf.Offset {
	o, _ := e.Val(a).(dwarf.Offset)
	return o
}

// language names a DW_LANG code.
func language(n int64) string {
	switch n {
	case 0x01, 0x02, 0x0c, 0x1d, 0x2c:
		return "c"
	case 0x04, 0x1a, 0x21, 0x2b:
		return "c++"
	case 0x16:
		return "go"
	case 0x1c:
		return "rust"
	case 0x8001:
		return "asm"
	}
	return ""
}

// producerFlags returns the arguments that a producer notes, and whether it
// notes any.
func producerFlags(producer string) (subject.Flags, bool) {
	i := strings.Index(producer, " -")
	if i < 0 {
		return nil, false // GCC notes -g at least, unless told to note nothing (-gno-record-gcc-switches)
	}
	return subject.Flags(strings.Fields(producer[i:])), true
}
