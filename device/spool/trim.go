package spool

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"holdfast/logs"
)

// Limits of the attributes of one record, beside logs.MaxMessage.
const (
	maxAttrs = 32
	maxKey   = 64
	maxValue = 256
)

// trim cuts a record to the limits and makes its texts valid UTF-8.
func trim(r logs.Record) logs.Record {
	r.Message = cut(r.Message, logs.MaxMessage)
	if len(r.Attrs) == 0 {
		return r
	}
	attrs := make(map[string]string, min(len(r.Attrs), maxAttrs))
	for _, k := range slices.Sorted(maps.Keys(r.Attrs)) {
		if len(attrs) == maxAttrs || len(k) > maxKey {
			continue
		}
		attrs[strings.ToValidUTF8(k, "?")] = cut(r.Attrs[k], maxValue)
	}
	r.Attrs = attrs
	return r
}

// cut shortens s to n bytes at a character's edge.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= n {
		return s
	}
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
