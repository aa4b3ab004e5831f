package csource

import (
	"strings"

	"holdfast/finding"
)

// Includer finds a file that another includes: name as it stands between the
// quotes or angle brackets. It returns the file's name and text.
type Includer func(from, name string) (file, text string, ok bool)

// Limits bound the reading of a configuration.
type Limits struct {
	Includes int // depth of includes
	Lines    int // directives read in all
}

// Read adds to the table what a source defines, in the order of its lines and
// of those that it includes. include may be nil: then nothing is included.
func (t *Table) Read(file, text string, include Includer, l Limits) {
	r := &reader{t: t, include: include, limits: l, open: map[string]bool{}, work: maxWorkInAll, bytes: maxBytes}
	r.file(file, text)
}

// reader is the preprocessor over one configuration.
type reader struct {
	t       *Table
	include Includer
	limits  Limits
	lines   int
	open    map[string]bool // files being read: an include of one of them is not followed
	work    int             // that conditions may still take
	bytes   int             // that may still be read
}

// maxBytes bounds the text of a configuration, each include counted again.
const maxBytes = 64 << 20

// begin counts a file and reports whether it may be read.
func (r *reader) begin(file, text string) bool {
	if r.bytes -= len(text); r.bytes < 0 {
		r.trouble(file, 0, "too much text is included: the rest was not read")
		return false
	}
	r.open[file] = true
	return true
}

// frame is an #if that has not ended.
type frame struct {
	parent State  // whether what is around it is read
	active State  // whether this branch is
	taken  State  // whether a branch before this one was
	absent string // the name in "#ifndef name"
}

func both(a, b State) State {
	switch {
	case a == Undefined || b == Undefined:
		return Undefined
	case a == Defined && b == Defined:
		return Defined
	}
	return Unsure
}

func either(a, b State) State {
	switch {
	case a == Defined || b == Defined:
		return Defined
	case a == Undefined && b == Undefined:
		return Undefined
	}
	return Unsure
}

func not(a State) State { return [...]State{Defined, Undefined, Unsure}[a] }

func (r *reader) file(file, text string) {
	if !r.begin(file, text) {
		return
	}
	defer delete(r.open, file)
	s := scan{reader: r, name: file, guard: guardOf(text)}
	for tok := range Tokens(text) {
		if tok.Kind != Directive {
			continue
		}
		if r.lines++; r.lines > r.limits.Lines {
			r.trouble(file, tok.Line, "too many lines of the preprocessor: the rest was not read")
			return
		}
		s.directive(tok)
		if r.t.Trouble != nil {
			return
		}
	}
	if len(s.frames) > 0 {
		r.trouble(file, 0, "an #if has no #endif")
	}
}

func (r *reader) trouble(file string, line int, message string) {
	if r.t.Trouble == nil {
		r.t.Trouble = &finding.Trouble{Location: finding.AtLine(file, line), Message: message}
	}
}

// guardOf returns the name of a header's include guard: that of an #ifndef (or
// #if !defined) with which the text begins and which the next line defines.
func guardOf(text string) string {
	var first string
	for tok := range Tokens(text) {
		if tok.Kind != Directive {
			return ""
		}
		name, rest := split(tok.Text)
		word := firstWord(rest)
		switch {
		case first == "" && name == "ifndef" && word != "":
			first = word
		case first == "" && name == "if" && strings.HasPrefix(rest, "!"):
			first = firstWord(strings.Trim(strings.TrimPrefix(strings.TrimSpace(rest[1:]), "defined"), " ()"))
		case first == "" && name == "pragma":
		case first != "" && name == "define" && word == first:
			return first
		default:
			return ""
		}
	}
	return ""
}

// scan is the reading of one file.
type scan struct {
	*reader
	name   string
	guard  string
	frames []frame
}

// active returns whether the lines here are read.
func (s *scan) active() State {
	if len(s.frames) == 0 {
		return Defined
	}
	return s.frames[len(s.frames)-1].active
}

func (s *scan) directive(tok Token) {
	name, rest := split(tok.Text)
	switch name {
	case "if", "ifdef", "ifndef":
		s.enter(name, rest)
	case "elif", "elifdef", "elifndef", "else", "endif":
		if len(s.frames) == 0 {
			s.trouble(s.name, tok.Line, "#"+name+" without an #if")
			return
		}
		s.branch(name, rest)
	case "define":
		s.define(tok, rest)
	case "undef":
		s.undef(tok, firstWord(rest))
	case "include", "include_next", "import":
		s.includes(tok, rest)
	}
}

// condition returns whether a condition holds.
func (s *scan) condition(name, rest string) State {
	word := firstWord(rest)
	switch strings.TrimPrefix(name, "el") {
	case "ifdef":
		return s.t.known(word)
	case "ifndef":
		return not(s.t.known(word))
	}
	work := min(maxWork, max(s.work, 0))
	before := work
	holds := s.t.eval(rest, maxDepth, &work).state()
	s.work -= before - work
	return holds
}

func (s *scan) enter(name, rest string) {
	f := frame{parent: s.active()}
	holds := s.condition(name, rest)
	if name == "ifndef" {
		f.absent = firstWord(rest)
	}
	if s.guard != "" && len(s.frames) == 0 && holds == Unsure && strings.Contains(rest, s.guard) {
		holds, s.guard = Defined, ""
	}
	f.taken = holds
	f.active = both(f.parent, holds)
	s.frames = append(s.frames, f)
}

func (s *scan) branch(name, rest string) {
	f := &s.frames[len(s.frames)-1]
	switch name {
	case "endif":
		s.frames = s.frames[:len(s.frames)-1]
	case "else":
		f.active = both(f.parent, not(f.taken))
		f.absent, f.taken = "", Defined
	default:
		holds := s.condition(name, rest)
		f.active = both(f.parent, both(not(f.taken), holds))
		f.absent, f.taken = "", either(f.taken, holds)
	}
}

// define records a definition; how sure it is depends on the branch.
func (s *scan) define(tok Token, rest string) {
	m := Macro{Name: firstWord(rest), State: Defined, Sure: true, Location: finding.AtLine(s.name, tok.Line)}
	if m.Name == "" || s.active() == Undefined {
		return
	}
	rest = rest[len(m.Name):]
	m.Params = strings.HasPrefix(rest, "(")
	m.Value = strings.TrimSpace(rest)
	before, named := s.t.macros[m.Name]
	if s.active() == Unsure {
		switch {
		case s.byDefault(m.Name):
			m.Default, m.Sure = true, false // defined either way, perhaps elsewhere with another value
		case before.State == Undefined && (named || s.t.Complete) || before.State == Unsure || !named:
			m.State, m.Sure = Unsure, false
		default:
			m.Sure = before.Sure && before.Value == m.Value
		}
	}
	s.t.macros[m.Name] = m
}

// byDefault reports whether the line stands directly under "#ifndef name", in
// lines that are read.
func (s *scan) byDefault(name string) bool {
	f := s.frames[len(s.frames)-1]
	return f.absent == name && f.parent == Defined
}

func (s *scan) undef(tok Token, name string) {
	m := Macro{Name: name, Location: finding.AtLine(s.name, tok.Line), Sure: true}
	switch before := s.t.macros[name]; {
	case name == "" || s.active() == Undefined:
		return
	case s.active() == Unsure && (before.State != Undefined || s.t.known(name) == Unsure):
		before.Name, before.State, before.Sure = name, Unsure, false
		m = before
	}
	s.t.macros[name] = m
}

// includes reads the file that a line includes, when it is among the input.
func (s *scan) includes(tok Token, rest string) {
	if s.active() == Undefined || len(rest) < 2 {
		return
	}
	end := strings.IndexByte(rest[1:], map[byte]byte{'"': '"', '<': '>'}[rest[0]])
	if end <= 0 {
		return
	}
	name := rest[1 : 1+end]
	s.t.Includes = append(s.t.Includes, name)
	if s.include == nil {
		s.t.Missing = append(s.t.Missing, name)
		return
	}
	file, text, ok := s.include(s.name, name)
	switch {
	case !ok:
		s.t.Missing = append(s.t.Missing, name)
	case s.open[file]:
	case len(s.open) >= s.limits.Includes:
		s.trouble(s.name, tok.Line, "includes nest too deep")
	case s.active() == Unsure:
		s.unsurely(file, text)
	default:
		s.file(file, text)
	}
}

// unsurely reads an included file that may not be included: all it defines is
// Unsure.
func (s *scan) unsurely(file, text string) {
	if !s.begin(file, text) {
		return
	}
	defer delete(s.open, file)
	inner := scan{reader: s.reader, name: file, frames: []frame{{parent: Unsure, active: Unsure, taken: Unsure}}}
	for tok := range Tokens(text) {
		if tok.Kind != Directive {
			continue
		}
		if s.lines++; s.lines > s.limits.Lines {
			s.trouble(file, tok.Line, "too many lines of the preprocessor: the rest was not read")
			return
		}
		inner.directive(tok)
		if len(inner.frames) == 0 {
			s.trouble(file, tok.Line, "#endif without an #if")
			return
		}
	}
}

// split returns the name of a directive and what follows it.
func split(line string) (name, rest string) {
	line = strings.TrimLeft(strings.TrimPrefix(line, "#"), " \t")
	name = firstWord(line)
	return name, strings.TrimSpace(line[len(name):])
}

// firstWord returns the identifier that a text begins with.
func firstWord(s string) string {
	i := 0
	for i < len(s) && (isLetter(s[i]) || i > 0 && isDigit(s[i])) {
		i++
	}
	return s[:i]
}
