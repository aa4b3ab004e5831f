package subject

import (
	"iter"

	"holdfast/audit/csource"
)

// Macros are what a configuration defines: see csource.Table.
type Macros = csource.Table

// Source is a file of C, C++ or assembler.
type Source struct {
	*File
	Language string // "c", "h", "c++", "asm"
}

// Tokens yields what the source is made of, without comments and white space.
func (s *Source) Tokens() iter.Seq[csource.Token] { return csource.Tokens(s.Text()) }
