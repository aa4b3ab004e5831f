package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// word is a word of a line and where it begins, in bytes.
type word struct {
	text string
	at   int
}

// words splits a line at spaces, up to a comment.
func words(line string) (ws []word, comment string) {
	if i := strings.IndexByte(line, '#'); i >= 0 {
		line, comment = line[:i], strings.TrimRightFunc(line[i:], unicode.IsSpace)
	}
	at := 0
	for f := range strings.FieldsSeq(line) {
		at += strings.Index(line[at:], f)
		ws = append(ws, word{f, at})
		at += len(f)
	}
	return ws, comment
}

// outside calls do with each part of s that lies outside the string literals of
// CEL, and where it begins, until do returns false.
func outside(s string, do func(part string, at int) bool) {
	begin := 0
	for i := 0; i < len(s); {
		if s[i] != '"' && s[i] != '\'' {
			i++
			continue
		}
		if !do(s[begin:i], begin) {
			return
		}
		i = pastLiteral(s, i)
		begin = i
	}
	do(s[begin:], begin)
}

// pastLiteral returns the end of the literal whose quote is at i. One that does
// not end goes to the end of s.
func pastLiteral(s string, i int) int {
	raw := i > 0 && (s[i-1] == 'r' || s[i-1] == 'R') && !within(s, i-1)
	quote := s[i : i+1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(s[i:], triple) {
		quote = triple
	}
	for i += len(quote); i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], quote):
			return i + len(quote)
		case s[i] == '\\' && !raw:
			i++
		}
	}
	return len(s)
}

// within reports whether the letter at i continues an identifier, other than
// the b before a raw literal of bytes.
func within(s string, i int) bool {
	if i > 0 && (s[i-1] == 'b' || s[i-1] == 'B') {
		i--
	}
	r, _ := utf8.DecodeLastRuneInString(s[:i])
	return i > 0 && (r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r))
}

// noComment refuses an expression with a comment in it: the line of a policy
// that it stands on could not be read back.
func noComment(expression string) error {
	var err error
	outside(expression, func(part string, at int) bool {
		for _, begin := range []string{"//", "#"} {
			if i := strings.Index(part, begin); i >= 0 {
				err = &exprError{utf8.RuneCountInString(expression[:at+i]), "a comment does not belong into an expression"}
			}
		}
		return err == nil
	})
	return err
}
