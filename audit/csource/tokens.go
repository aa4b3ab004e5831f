// Package csource reads C as text: its tokens, and what its #define, #undef,
// #if and #include lines come to. It is no compiler: types and declarations are
// not read, and macros are expanded only where a condition asks for a number.
//
// What is not known stays not known. A configuration header may ask for macros
// that only a compiler or a command line defines; a definition behind such a
// condition is Unsure, never Defined and never Undefined.
package csource

import (
	"iter"
	"strings"
)

// Kind is what a token is.
type Kind uint8

// The kinds of tokens.
const (
	Ident Kind = iota + 1
	Number
	String    // with its quotes and prefix
	Char      // with its quotes and prefix
	Punct     // one operator or bracket
	Directive // a whole line of the preprocessor from "#", comments and line ends taken out
)

// Token is a word of a source.
type Token struct {
	Kind   Kind
	Text   string
	Line   int // from 1
	Offset int // bytes from the start
}

// Tokens yields the tokens of a source, without comments and white space. Any
// text has tokens: what C does not know is Punct, one byte at a time, and what
// has no end ends with the line or the text.
func Tokens(text string) iter.Seq[Token] {
	return func(yield func(Token) bool) {
		l := lexer{text: text, line: 1, fresh: true}
		for {
			t, ok := l.next()
			if !ok || !yield(t) {
				return
			}
		}
	}
}

// lexer is where in a text the reading stands.
type lexer struct {
	text  string
	at    int
	line  int
	fresh bool // nothing but white space so far in this line
}

func (l *lexer) peek(ahead int) byte {
	if l.at+ahead < len(l.text) {
		return l.text[l.at+ahead]
	}
	return 0
}

// next returns the next token and whether there is one.
func (l *lexer) next() (Token, bool) {
	l.space()
	if l.at >= len(l.text) {
		return Token{}, false
	}
	t := Token{Line: l.line, Offset: l.at}
	c := l.text[l.at]
	switch {
	case c == '#' && l.fresh:
		t.Kind, t.Text = Directive, l.directive()
		return t, true
	case c == '"' || c == '\'':
		t.Kind = l.quoted(c)
	case isLetter(c):
		t.Kind = l.word()
	case isDigit(c) || c == '.' && isDigit(l.peek(1)):
		t.Kind = Number
		l.number()
	default:
		t.Kind = Punct
		l.at += operator(l.text[l.at:])
	}
	l.fresh = false
	t.Text = l.text[t.Offset:l.at]
	return t, true
}

// space passes white space, comments and joined lines.
func (l *lexer) space() {
	for l.at < len(l.text) {
		switch c := l.text[l.at]; {
		case c == '\n':
			l.line++
			l.at++
			l.fresh = true
		case c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f':
			l.at++
		case c == '\\' && l.joint() > 0:
			l.at += l.joint()
			l.line++
		case c == '/' && l.peek(1) == '/':
			l.lineComment()
		case c == '/' && l.peek(1) == '*':
			l.comment()
		default:
			return
		}
	}
}

// joint returns the length of a backslash and line end here, or 0.
func (l *lexer) joint() int {
	rest := l.text[l.at:]
	switch {
	case strings.HasPrefix(rest, "\\\n"):
		return 2
	case strings.HasPrefix(rest, "\\\r\n"):
		return 3
	}
	return 0
}

// lineComment passes a comment up to the end of its line, which may be joined
// to the next.
func (l *lexer) lineComment() {
	for l.at < len(l.text) && l.text[l.at] != '\n' {
		if n := l.joint(); n > 0 {
			l.at += n
			l.line++
			continue
		}
		l.at++
	}
}

func (l *lexer) comment() {
	end := strings.Index(l.text[l.at+2:], "*/")
	stop := len(l.text)
	if end >= 0 {
		stop = l.at + 2 + end + 2
	}
	l.line += strings.Count(l.text[l.at:stop], "\n")
	l.at = stop
}

// quoted passes a string or character constant.
func (l *lexer) quoted(quote byte) Kind {
	for l.at++; l.at < len(l.text) && l.text[l.at] != '\n'; l.at++ {
		switch l.text[l.at] {
		case '\\':
			if n := l.joint(); n > 0 {
				l.at += n - 1
				l.line++
			} else if l.peek(1) != '\n' && l.at+1 < len(l.text) {
				l.at++
			}
		case quote:
			l.at++
			return kindOf(quote)
		}
	}
	return kindOf(quote)
}

func kindOf(quote byte) Kind {
	if quote == '"' {
		return String
	}
	return Char
}

// word passes an identifier, or the string that it is the prefix of.
func (l *lexer) word() Kind {
	start := l.at
	for l.at < len(l.text) && (isLetter(l.text[l.at]) || isDigit(l.text[l.at])) {
		l.at++
	}
	switch l.text[start:l.at] {
	case "L", "u", "U", "u8":
		if c := l.peek(0); c == '"' || c == '\'' {
			return l.quoted(c)
		}
	}
	return Ident
}

// number passes a preprocessing number: digits, letters, dots, signed exponents.
func (l *lexer) number() {
	for l.at < len(l.text) {
		c := l.text[l.at]
		switch {
		case isDigit(c), isLetter(c), c == '.':
		case (c == '+' || c == '-') && strings.IndexByte("eEpP", l.text[l.at-1]) >= 0 && !strings.HasPrefix(l.text[l.at-1:], "E+0x"):
		default:
			return
		}
		l.at++
	}
}

// directive passes a line of the preprocessor and returns it clean.
func (l *lexer) directive() string {
	start, end := l.at, l.at
	clean := true
	var b strings.Builder
	flush := func() {
		b.WriteString(l.text[start:l.at])
		b.WriteByte(' ')
		clean = false
	}
	for l.at < len(l.text) && l.text[l.at] != '\n' {
		c := l.text[l.at]
		switch {
		case c == '\\' && l.joint() > 0:
			flush()
			l.at += l.joint()
			l.line++
			start = l.at
		case c == '/' && l.peek(1) == '/':
			flush()
			l.lineComment()
			start = l.at
		case c == '/' && l.peek(1) == '*':
			flush()
			l.comment()
			start = l.at
		case c == '"':
			l.quoted(c)
		default:
			l.at++
		}
		end = l.at
	}
	if clean {
		return strings.TrimSpace(l.text[start:end])
	}
	b.WriteString(l.text[start:end])
	return strings.TrimSpace(b.String())
}

func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// operators of more than one character, the longest first.
var operators = []string{"<<=", ">>=", "...", "->", "++", "--", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "##", "::"}

// operator returns the length of the operator that a text starts with.
func operator(text string) int {
	if len(text) < 2 || strings.IndexByte("<>=.+-&|#:", text[1]) < 0 { // none has another second character
		return 1
	}
	for _, op := range operators {
		if strings.HasPrefix(text, op) {
			return len(op)
		}
	}
	return 1
}
