package iothub

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a property bag. Azure bounds a bag only by the size of the message.
const (
	MaxProperties = 128
	MaxMessageID  = 128 // bytes of $.mid and $.cid
)

// Property is one property of a message. Null is a key alone, without "=".
type Property struct {
	Key, Value string
	Null       bool
}

// Bag is the property bag of a topic, in its order. Keys are distinct.
type Bag []Property

// ParseBag reads a bag: key=value joined by "&", keys and values
// percent-encoded (RFC 3986 section 2.1; "+" is itself). A leading "?" is
// allowed, as some clients send one. What could be read in two ways is refused:
// a raw "/", a key that comes twice, an escape that is none.
func ParseBag(s string) (Bag, error) {
	s = strings.TrimPrefix(s, "?")
	if s == "" {
		return nil, nil
	}
	if n := strings.Count(s, "&") + 1; n > MaxProperties {
		return nil, fmt.Errorf("property bag has %d properties, at most %d are allowed", n, MaxProperties)
	}
	var bag Bag
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(s, "&") {
		p, err := parseProperty(pair)
		if err != nil {
			return nil, err
		}
		if seen[p.Key] {
			return nil, fmt.Errorf("property %.100q comes twice", p.Key)
		}
		seen[p.Key] = true
		bag = append(bag, p)
	}
	return bag, nil
}

// Join returns the bag with more behind it, under the rules of ParseBag.
func (b Bag) Join(more Bag) (Bag, error) {
	if n := len(b) + len(more); n > MaxProperties {
		return nil, fmt.Errorf("property bag has %d properties, at most %d are allowed", n, MaxProperties)
	}
	all := append(slices.Clip(b), more...)
	seen := map[string]bool{}
	for _, p := range all {
		if err := p.check(); err != nil {
			return nil, err
		}
		if seen[p.Key] {
			return nil, fmt.Errorf("property %.100q comes twice", p.Key)
		}
		seen[p.Key] = true
	}
	return all, nil
}

// check has the rules on a property that do not depend on its form.
func (p Property) check() error {
	switch {
	case p.Key == "":
		return fmt.Errorf("property %.100q has no name", "="+p.Value)
	case (p.Key == "$.mid" || p.Key == "$.cid") && len(p.Value) > MaxMessageID:
		return fmt.Errorf("property %.100q has %d bytes, at most %d are allowed", p.Key, len(p.Value), MaxMessageID)
	}
	return nil
}

func parseProperty(pair string) (Property, error) {
	key, value, ok := strings.Cut(pair, "=")
	k, err := unescape(key)
	if err != nil {
		return Property{}, fmt.Errorf("property name: %w", err)
	}
	v, err := unescape(value)
	if err != nil {
		return Property{}, fmt.Errorf("property %.100q: %w", k, err)
	}
	p := Property{Key: k, Value: v, Null: !ok}
	return p, p.check()
}

// String returns the bag in its encoded form, with everything escaped but
// RFC 3986's unreserved characters.
func (b Bag) String() string {
	var s strings.Builder
	for i, p := range b {
		if i > 0 {
			s.WriteByte('&')
		}
		escape(&s, p.Key)
		if !p.Null {
			s.WriteByte('=')
			escape(&s, p.Value)
		}
	}
	return s.String()
}

// size counts the bytes of names and values.
func (b Bag) size() int {
	n := 0
	for _, p := range b {
		n += len(p.Key) + len(p.Value)
	}
	return n
}

// unescape decodes percent-escapes. The result is UTF-8 without U+0000.
func unescape(s string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '/':
			return "", fmt.Errorf("raw slash in %.100q", s)
		case c == '%' && i+2 >= len(s):
			return "", fmt.Errorf("broken escape at the end of %.100q", s)
		case c == '%':
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi > 15 || lo > 15 {
				return "", fmt.Errorf("broken escape in %.100q", s)
			}
			c = hi<<4 | lo
			i += 2
		}
		out.WriteByte(c)
	}
	r := out.String()
	if !utf8.ValidString(r) || strings.IndexByte(r, 0) >= 0 {
		return "", fmt.Errorf("%.100q is not UTF-8 text", s)
	}
	return r, nil
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

func escape(out *strings.Builder, s string) {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0:
			out.WriteByte(c)
		default:
			out.WriteByte('%')
			out.WriteByte(digits[c>>4])
			out.WriteByte(digits[c&15])
		}
	}
}
