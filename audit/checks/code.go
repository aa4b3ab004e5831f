package checks

import (
	"context"
	"iter"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"holdfast/audit/csource"
	"holdfast/audit/subject"
	"holdfast/measure"
)

// site is a call in a source: a name before a bracket, in a function's body.
type site struct {
	Name string
	Line int
	Args []csource.Token
	In   string // function it stands in
}

// local is an array that a function has on its stack.
type local struct {
	Name, Type string
	Length     int64 // elements; 0: not a number
	Line       int
	In         string
}

// body is a function with its tokens.
type body struct {
	Name   string
	Line   int
	Tokens []csource.Token
	calls  []site
}

// keywords are followed by brackets and are no calls.
var keywords = []string{"if", "for", "while", "switch", "return", "sizeof", "_Alignof", "alignof", "case", "do", "else", "defined", "catch"}

// bodies returns the functions of a source: what stands in braces behind a
// bracket, outside of all other braces but those of namespaces and extern "C".
func bodies(tokens []csource.Token) []body {
	var all []body
	for i := 0; i < len(tokens); i++ {
		if tokens[i].Text != "{" {
			continue
		}
		name, line, ok := heading(tokens[:i])
		if !ok && transparent(tokens[:i]) {
			continue
		}
		end := closing(tokens, i, "{", "}")
		if ok {
			b := body{Name: name, Line: line, Tokens: tokens[min(i+1, end):end]}
			b.calls = callsIn(b)
			all = append(all, b)
		}
		i = end
	}
	return all
}

// transparent reports whether the brace behind tokens opens something that
// functions may stand in.
func transparent(tokens []csource.Token) bool {
	n := len(tokens)
	return n >= 2 && tokens[n-1].Kind == csource.String && tokens[n-2].Text == "extern" ||
		n >= 1 && tokens[n-1].Text == "namespace" || n >= 2 && tokens[n-2].Text == "namespace"
}

// heading returns the name of the function whose head ends the tokens.
func heading(tokens []csource.Token) (string, int, bool) {
	i := len(tokens) - 1
	for i >= 0 && tokens[i].Kind == csource.Ident { // attributes and the like
		i--
	}
	if i < 0 || tokens[i].Text != ")" {
		return "", 0, false
	}
	depth := 0
	for ; i >= 0; i-- {
		switch tokens[i].Text {
		case ")":
			depth++
		case "(":
			depth--
		}
		if depth == 0 {
			break
		}
	}
	if i < 1 || tokens[i-1].Kind != csource.Ident || slices.Contains(keywords, tokens[i-1].Text) {
		return "", 0, false
	}
	return tokens[i-1].Text, tokens[i-1].Line, true
}

// closing returns the index of the bracket that closes the one at i, or the
// end.
func closing(tokens []csource.Token, i int, open, shut string) int {
	depth := 0
	for ; i < len(tokens); i++ {
		switch tokens[i].Text {
		case open:
			depth++
		case shut:
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(tokens)
}

// callsIn returns the calls in a function.
func callsIn(b body) []site {
	var all []site
	for i, t := range b.Tokens {
		if t.Kind != csource.Ident || i+1 >= len(b.Tokens) || b.Tokens[i+1].Text != "(" || slices.Contains(keywords, t.Text) {
			continue
		}
		if i > 0 && (b.Tokens[i-1].Text == "." || b.Tokens[i-1].Text == "->" || declares(b.Tokens[i-1])) {
			continue
		}
		end := closing(b.Tokens, i+1, "(", ")")
		all = append(all, site{t.Text, t.Line, b.Tokens[min(i+2, end):end], b.Name})
	}
	return all
}

// declares reports whether a name behind the token is being declared.
func declares(t csource.Token) bool {
	return t.Kind == csource.Ident && !slices.Contains([]string{"return", "else", "do", "case", "goto", "throw", "new"}, t.Text)
}

// locals returns the arrays that a function has on its stack.
func (b body) locals() []local {
	var all []local
	begin := 0 // of the statement
	for i, t := range b.Tokens {
		switch t.Text {
		case ";", "{", "}":
			begin = i + 1
		case "[":
			if l, ok := array(b.Tokens[begin:i], b.Tokens[i+1:]); ok {
				l.Line, l.In = t.Line, b.Name
				all = append(all, l)
			}
		}
	}
	return all
}

// array reads a declaration: head is what stands before "[".
func array(head, rest []csource.Token) (local, bool) {
	if len(head) < 2 || len(rest) < 2 {
		return local{}, false
	}
	for _, t := range head {
		if t.Kind != csource.Ident && t.Text != "*" || slices.Contains([]string{"static", "extern", "typedef", "return", "case", "goto", "delete"}, t.Text) {
			return local{}, false
		}
	}
	name := head[len(head)-1]
	if name.Kind != csource.Ident || head[len(head)-2].Text == "*" {
		return local{}, false // an array of pointers is small
	}
	var words []string
	for _, t := range head[:len(head)-1] {
		words = append(words, t.Text)
	}
	l := local{Name: name.Text, Type: strings.Join(words, " ")}
	if rest[0].Kind == csource.Number && rest[1].Text == "]" {
		l.Length, _ = strconv.ParseInt(strings.TrimRight(rest[0].Text, "uUlL"), 0, 64) // what is no number counts as none
	}
	return l, true
}

// mentions reports whether tokens have one of the names.
func mentions(tokens []csource.Token, names ...string) bool {
	return slices.ContainsFunc(tokens, func(t csource.Token) bool { return t.Kind == csource.Ident && slices.Contains(names, t.Text) })
}

// literal returns the text of a string token without its quotes.
func literal(t csource.Token) string {
	first, last := strings.IndexByte(t.Text, '"'), strings.LastIndexByte(t.Text, '"')
	if first < 0 || last <= first {
		return ""
	}
	return t.Text[first+1 : last]
}

// code is what a source has in it.
type code struct {
	source *subject.Source
	all    []csource.Token
	tokens []csource.Token // without lines of the preprocessor; none of assembler
	bodies []body
}

// read reads a source.
func read(src *subject.Source) code {
	c := code{source: src}
	for t := range src.Tokens() {
		c.all = append(c.all, t)
	}
	if src.Language != "asm" {
		c.tokens = slices.DeleteFunc(slices.Clone(c.all), func(t csource.Token) bool { return t.Kind == csource.Directive })
		c.bodies = bodies(c.tokens)
	}
	return c
}

// calls yields every call in the functions of a source.
func (c code) calls() iter.Seq[site] {
	return func(yield func(site) bool) {
		for _, b := range c.bodies {
			for _, call := range b.calls {
				if !yield(call) {
					return
				}
			}
		}
	}
}

// judgeSources judges by rules that look at one source at a time. A source is
// read once for all of them, and forgotten when the next few are: a large
// directory does not have to fit in memory. It returns nil when ctx is done.
func judgeSources(ctx context.Context, s *subject.Subject, rules []Rule) []*Ruling {
	const few = 64
	all := make([]*Ruling, len(rules))
	for k, rule := range rules {
		all[k] = &Ruling{rule: rule}
	}
	for some := range slices.Chunk(s.Sources, few) {
		parts := make([][]*Ruling, len(some))
		var g errgroup.Group
		g.SetLimit(runtime.GOMAXPROCS(0))
		for i, src := range some {
			g.Go(func() error {
				parts[i] = judgeSource(src, rules)
				return nil
			})
		}
		_ = g.Wait() // none fails
		if ctx.Err() != nil {
			return nil
		}
		for k := range all {
			for i := range parts {
				all[k].add(parts[i][k])
			}
		}
	}
	for _, r := range all {
		r.Idle("no source")
	}
	return all
}

// judgeSource judges one source by each of the rules.
func judgeSource(src *subject.Source, rules []Rule) []*Ruling {
	all := make([]*Ruling, len(rules))
	var c code
	unread := subject.Guard(func() { c = read(src) })
	for k, rule := range rules {
		r := &Ruling{rule: rule}
		err := unread
		if err == nil {
			err = subject.Guard(func() { rule.look(c, r) })
		}
		if err != nil {
			r = &Ruling{rule: rule}
			r.Unknown("the rule ended on %s: %v", src.Name, err)
		}
		all[k] = r
	}
	return all
}

// add joins what a rule came to on another part of the subject.
func (r *Ruling) add(o *Ruling) {
	r.findings = append(r.findings, o.findings...)
	switch o.verdict {
	case measure.Unknown:
		r.Unknown("%s", o.reason)
	case measure.Pass:
		r.Pass("%s", o.reason)
	}
}
