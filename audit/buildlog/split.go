package buildlog

import "strings"

// Split returns the words of a command as a POSIX shell would, quotes taken
// out, nothing expanded. What has no end ends with the text.
func Split(text string) []string {
	var all []string
	for _, c := range Commands(text) {
		all = append(all, c...)
	}
	return all
}

// Commands returns the commands of a line that ";", "&&", "||" and "|" part,
// each of at least one word.
func Commands(text string) [][]string {
	s := splitter{}
	for i := 0; i < len(text); i++ {
		i = s.char(text, i)
	}
	s.end()
	return s.all
}

type splitter struct {
	all   [][]string
	words []string
	word  strings.Builder
	open  bool // a word has begun, perhaps an empty one in quotes
	quote byte
}

// char reads the character at i and returns where it ends.
func (s *splitter) char(text string, i int) int {
	c := text[i]
	switch {
	case s.quote == '\'' && c != '\'', s.quote == '"' && c != '"' && c != '\\':
		s.word.WriteByte(c)
	case s.quote != 0 && c == s.quote:
		s.quote = 0
	case c == '\\' && i+1 < len(text):
		next := text[i+1]
		if s.quote == '"' && !strings.ContainsRune("\\\"$`", rune(next)) {
			s.word.WriteByte(c)
		}
		s.word.WriteByte(next)
		s.open = true
		return i + 1
	case c == '\'' || c == '"':
		s.quote, s.open = c, true
	case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		s.space()
	case c == ';' || c == '|' || c == '&':
		s.end()
	default:
		s.word.WriteByte(c)
		s.open = true
	}
	return i
}

// space ends a word.
func (s *splitter) space() {
	if s.open && len(s.words) < maxWords {
		s.words = append(s.words, s.word.String())
	}
	s.word.Reset()
	s.open = false
}

// end ends a command.
func (s *splitter) end() {
	s.space()
	if len(s.words) > 0 {
		s.all = append(s.all, s.words)
		s.words = nil
	}
}
