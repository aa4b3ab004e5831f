package csource

import (
	"slices"
	"strconv"
	"strings"
)

// maxDepth bounds the nesting of expressions and of macros within macros.
const maxDepth = 64

// maxWork bounds the tokens that one expression may come to, macros expanded,
// and maxWorkInAll those of all conditions of a configuration.
const (
	maxWork      = 10_000
	maxWorkInAll = 1_000_000
)

// Value is a number of a condition, or that it is not known.
type Value struct {
	N     int64
	Known bool
}

func number(n int64) Value { return Value{N: n, Known: true} }

func truth(b bool) Value {
	if b {
		return number(1)
	}
	return number(0)
}

// state turns a condition's value into whether it holds.
func (v Value) state() State {
	switch {
	case !v.Known:
		return Unsure
	case v.N != 0:
		return Defined
	}
	return Undefined
}

// Eval returns what an expression of #if comes to. Numbers have 64 bits and a
// sign, as those of C have unless they end in U. What C would refuse, and what
// asks for a macro that is not known, is not known; so is what never ends.
func (t *Table) Eval(expression string) Value {
	work := maxWork
	return t.eval(expression, maxDepth, &work)
}

func (t *Table) eval(expression string, depth int, work *int) Value {
	const perToken = 4 // bytes; splitting into tokens is work too
	if *work -= len(expression) / perToken; *work < 0 {
		return Value{}
	}
	p := &evaluator{t: t, tokens: slices.Collect(Tokens(expression)), depth: depth, work: work}
	v := p.binary(0)
	if p.bad || p.at < len(p.tokens) {
		return Value{}
	}
	return v
}

// evaluator reads an expression by precedence.
type evaluator struct {
	t      *Table
	tokens []Token
	at     int
	depth  int
	work   *int
	bad    bool
}

// take passes a token if it is the wanted text.
func (p *evaluator) take(text string) bool {
	if p.at < len(p.tokens) && p.tokens[p.at].Text == text {
		p.at++
		return true
	}
	return false
}

// precedence of the operators that take two values.
var precedence = map[string]int{
	"||": 1, "&&": 2, "|": 3, "^": 4, "&": 5, "==": 6, "!=": 6,
	"<": 7, ">": 7, "<=": 7, ">=": 7, "<<": 8, ">>": 8, "+": 9, "-": 9, "*": 10, "/": 10, "%": 10,
}

// binary reads an expression of operators that bind tighter than least, and at
// the lowest level also "a ? b : c".
func (p *evaluator) binary(least int) Value {
	if p.depth--; p.depth < 0 {
		p.bad = true
		return Value{}
	}
	defer func() { p.depth++ }()
	v := p.unary()
	for !p.bad && p.at < len(p.tokens) {
		op := p.tokens[p.at].Text
		level := precedence[op]
		if level == 0 || level <= least {
			break
		}
		p.at++
		v = apply(op, v, p.binary(level))
	}
	if least == 0 && p.take("?") {
		v = p.choice(v)
	}
	return v
}

func (p *evaluator) choice(cond Value) Value {
	yes := p.binary(0)
	if !p.take(":") {
		p.bad = true
		return Value{}
	}
	no := p.binary(0)
	switch {
	case cond.Known && cond.N != 0:
		return yes
	case cond.Known:
		return no
	case yes == no:
		return yes
	}
	return Value{}
}

func (p *evaluator) unary() Value {
	if *p.work--; *p.work < 0 || p.at >= len(p.tokens) {
		p.bad = true
		return Value{}
	}
	tok := p.tokens[p.at]
	p.at++
	switch {
	case tok.Text == "(":
		v := p.binary(0)
		if !p.take(")") {
			p.bad = true
		}
		return v
	case strings.Contains("!~-+", tok.Text):
		return p.prefix(tok.Text)
	case tok.Kind == Number:
		return parseNumber(tok.Text)
	case tok.Kind == Char:
		return parseChar(tok.Text)
	case tok.Text == "defined":
		return p.defined()
	case tok.Kind == Ident:
		return p.name(tok.Text)
	}
	p.bad = true
	return Value{}
}

func (p *evaluator) prefix(op string) Value {
	if p.depth--; p.depth < 0 {
		p.bad = true
		return Value{}
	}
	defer func() { p.depth++ }()
	v := p.unary()
	if !v.Known {
		return v
	}
	switch op {
	case "!":
		return truth(v.N == 0)
	case "~":
		return number(^v.N)
	case "-":
		return number(-v.N)
	}
	return v
}

// defined reads what follows "defined".
func (p *evaluator) defined() Value {
	open := p.take("(")
	if p.at >= len(p.tokens) || p.tokens[p.at].Kind != Ident {
		p.bad = true
		return Value{}
	}
	name := p.tokens[p.at].Text
	p.at++
	if open && !p.take(")") {
		p.bad = true
	}
	switch p.t.known(name) {
	case Defined:
		return number(1)
	case Undefined:
		return number(0)
	}
	return Value{}
}

// name expands a macro. A name that is no macro counts as 0, as in C; a macro
// with arguments is not known.
func (p *evaluator) name(name string) Value {
	if p.at < len(p.tokens) && p.tokens[p.at].Text == "(" {
		p.arguments()
		return Value{}
	}
	m := p.t.macros[name]
	switch {
	case name == "true":
		return number(1)
	case p.t.known(name) == Undefined:
		return number(0)
	case m.State == Defined && m.Sure && !m.Params && m.Value != "":
		return p.t.eval(m.Value, p.depth-1, p.work)
	}
	return Value{}
}

// arguments passes a bracketed list.
func (p *evaluator) arguments() {
	for open := 0; p.at < len(p.tokens); p.at++ {
		switch p.tokens[p.at].Text {
		case "(":
			open++
		case ")":
			if open--; open == 0 {
				p.at++
				return
			}
		}
	}
	p.bad = true
}

// known returns whether a name is a macro where the reading stands. Names that
// the table does not have may be the compiler's or the command line's.
func (t *Table) known(name string) State {
	if m, ok := t.macros[name]; ok {
		return m.State
	}
	if t.Complete && !reserved(name) || never(name) {
		return Undefined
	}
	return Unsure
}

// reserved reports whether a name belongs to compilers and their libraries.
func reserved(name string) bool { return strings.HasPrefix(name, "_") }

// never lists names that are not defined while a configuration is read as C.
func never(name string) bool {
	switch name {
	case "__cplusplus", "__ASSEMBLER__", "__ASSEMBLY__", "__IAR_SYSTEMS_ASM__":
		return true
	}
	return false
}

func apply(op string, a, b Value) Value {
	switch op {
	case "&&":
		return and(a, b)
	case "||":
		return or(a, b)
	}
	if !a.Known || !b.Known {
		return Value{}
	}
	switch op {
	case "==":
		return truth(a.N == b.N)
	case "!=":
		return truth(a.N != b.N)
	case "<":
		return truth(a.N < b.N)
	case ">":
		return truth(a.N > b.N)
	case "<=":
		return truth(a.N <= b.N)
	case ">=":
		return truth(a.N >= b.N)
	}
	return arithmetic(op, a.N, b.N)
}

func and(a, b Value) Value {
	switch {
	case a.Known && a.N == 0, b.Known && b.N == 0:
		return number(0)
	case a.Known && b.Known:
		return number(1)
	}
	return Value{}
}

func or(a, b Value) Value {
	switch {
	case a.Known && a.N != 0, b.Known && b.N != 0:
		return number(1)
	case a.Known && b.Known:
		return number(0)
	}
	return Value{}
}

func arithmetic(op string, a, b int64) Value {
	switch op {
	case "|":
		return number(a | b)
	case "^":
		return number(a ^ b)
	case "&":
		return number(a & b)
	case "+":
		return number(a + b)
	case "-":
		return number(a - b)
	case "*":
		return number(a * b)
	}
	switch {
	case op == "<<" && b >= 0 && b < 64:
		return number(a << b)
	case op == ">>" && b >= 0 && b < 64:
		return number(a >> b)
	case op == "/" && b != 0:
		return number(a / b)
	case op == "%" && b != 0:
		return number(a % b)
	}
	return Value{}
}

// parseNumber reads an integer constant with its suffixes.
func parseNumber(text string) Value {
	text = strings.TrimRight(text, "uUlLzZ")
	if n, err := strconv.ParseUint(text, 0, 64); err == nil && !strings.Contains(text, "_") {
		return number(int64(n))
	}
	return Value{}
}

func parseChar(text string) Value {
	if len(text) == 3 && text[1] != '\\' {
		return number(int64(text[1]))
	}
	return Value{}
}
