package stream

import (
	"fmt"
	"strconv"
	"strings"
)

// Position is the place of a message in the stream: the sequence number of its
// group and its index within. Positions order as messages do, never change,
// and outlive a restart, so a reader can go on after the last one it saw.
// The zero Position stands before all messages.
type Position struct {
	Group uint64
	Index int
}

// String returns the position as "group-index".
func (p Position) String() string { return fmt.Sprintf("%d-%d", p.Group, p.Index) }

// ParsePosition reads what String returns; an empty text is the zero Position.
func ParsePosition(s string) (Position, error) {
	if s == "" {
		return Position{}, nil
	}
	group, index, ok := strings.Cut(s, "-")
	g, err := strconv.ParseUint(group, 10, 63)
	i, err2 := strconv.ParseUint(index, 10, 31)
	if !ok || err != nil || err2 != nil {
		return Position{}, fmt.Errorf("position %q: want two numbers with a hyphen between", s)
	}
	return Position{Group: g, Index: int(i)}, nil
}

// After reports whether p stands after q.
func (p Position) After(q Position) bool {
	return p.Group > q.Group || p.Group == q.Group && p.Index > q.Index
}
