package twin

import (
	"bytes"
	"encoding/json"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Limits of what a twin may hold.
const (
	MaxText   = 256 << 10 // bytes of JSON that are looked at: the longest message
	MaxName   = 1 << 10   // bytes of a name
	MaxString = 4 << 10   // bytes of a string
	MaxDepth  = 10        // objects and arrays within each other, below the section
	MaxNumber = 64        // bytes of a number as it is written
	MaxInt    = 1<<52 - 1 // of numbers without fraction or exponent
	MinInt    = -1 << 52
)

// Object is a JSON object. Its values are nil, bool, json.Number, string,
// []any of such values, or Object. Numbers keep the text in which they came.
// An Object is never changed once it is made; parts are shared.
type Object map[string]any

// Parse reads a patch or the whole of a section, and refuses with an *Error
// what no section may hold. Names are unique within an object. "$version" and
// "$metadata" at the top are left out: they are the hub's, and there when
// what was read is sent back.
func Parse(b []byte) (Object, error) {
	if len(b) > MaxText {
		return nil, &Error{Rule: Size, Detail: fmt.Sprintf("%d bytes of JSON, at most %d are read", len(b), MaxText)}
	}
	d := jsontext.NewDecoder(bytes.NewReader(b))
	if d.PeekKind() != jsontext.KindBeginObject {
		if _, err := d.ReadToken(); err != nil {
			return nil, malformed(err)
		}
		return nil, &Error{Rule: Shape, Detail: "want a JSON object"}
	}
	o, err := readObject(d, path{})
	if err != nil {
		return nil, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, &Error{Rule: Syntax, Detail: "more follows the JSON object"}
	}
	return o, nil
}

func malformed(err error) error {
	return &Error{Rule: Syntax, Detail: strings.TrimPrefix(err.Error(), "jsontext: ")}
}

// path is where a value is: names and indices from the top.
type path []string

// String returns the path with its names joined by dots, which no name has.
func (p path) String() string { return strings.Join(p, ".") }

// at returns the path of a member; the result is good until the next call.
func (p path) at(name string) path { return append(p, name) }

func (p path) refuse(r Rule, format string, args ...any) error {
	return &Error{Path: p.String(), Rule: r, Detail: fmt.Sprintf(format, args...)}
}

func readValue(d *jsontext.Decoder, p path) (any, error) {
	kind := d.PeekKind()
	if (kind == jsontext.KindBeginObject || kind == jsontext.KindBeginArray) && len(p) > MaxDepth {
		return nil, p.refuse(Depth, "more than %d levels", MaxDepth)
	}
	switch kind {
	case jsontext.KindBeginObject:
		return readObject(d, p)
	case jsontext.KindBeginArray:
		return readArray(d, p)
	}
	t, err := d.ReadToken()
	if err != nil {
		return nil, malformed(err)
	}
	switch kind {
	case jsontext.KindString:
		s := t.String()
		if len(s) > MaxString {
			return nil, p.refuse(Value, "string of %d bytes, at most %d are allowed", len(s), MaxString)
		}
		return s, nil
	case jsontext.KindNumber:
		return readNumber(t.String(), p)
	case jsontext.KindTrue, jsontext.KindFalse:
		return t.Bool(), nil
	}
	return nil, nil
}

func readNumber(s string, p path) (any, error) {
	if len(s) > MaxNumber {
		return nil, p.refuse(Value, "number of %d digits, at most %d are allowed", len(s), MaxNumber)
	}
	if strings.ContainsAny(s, ".eE") {
		if _, err := strconv.ParseFloat(s, 64); err != nil {
			return nil, p.refuse(Value, "number %s is out of range", s)
		}
		return json.Number(s), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err != nil || n < MinInt || n > MaxInt {
		return nil, p.refuse(Value, "integer %s is out of range, %d to %d are allowed", s, MinInt, MaxInt)
	}
	return json.Number(s), nil
}

func readArray(d *jsontext.Decoder, p path) (any, error) {
	if _, err := d.ReadToken(); err != nil {
		return nil, malformed(err)
	}
	a := []any{}
	for d.PeekKind() != jsontext.KindEndArray {
		v, err := readValue(d, p.at(strconv.Itoa(len(a))))
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, malformed(err)
	}
	return a, nil
}

func readObject(d *jsontext.Decoder, p path) (Object, error) {
	if _, err := d.ReadToken(); err != nil {
		return nil, malformed(err)
	}
	o := Object{}
	for d.PeekKind() != jsontext.KindEndObject {
		t, err := d.ReadToken()
		if err != nil {
			return nil, malformed(err)
		}
		name := t.String()
		if len(p) == 0 && (name == "$version" || name == "$metadata") {
			if err := d.SkipValue(); err != nil {
				return nil, malformed(err)
			}
			continue
		}
		if err := checkName(name, p); err != nil {
			return nil, err
		}
		if o[name], err = readValue(d, p.at(name)); err != nil {
			return nil, err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, malformed(err)
	}
	return o, nil
}

// checkName refuses a name that no member of a section may have.
func checkName(name string, p path) error {
	if name == "" || len(name) > MaxName {
		return p.refuse(Name, "name of %d bytes, want 1 to %d", len(name), MaxName)
	}
	for _, r := range name {
		if r <= ' ' || r >= 0x7f && r < 0xa0 || r == '.' || r == '$' {
			return p.refuse(Name, "name %.100q has %q, which is not allowed", name, r)
		}
	}
	return nil
}

// Merge returns base as patch changes it: objects are merged, null deletes,
// anything else replaces (RFC 7396). Merge of nil and a whole section is the
// section without the members that are null.
func Merge(base, patch Object) Object {
	out := maps.Clone(base)
	if out == nil {
		out = Object{}
	}
	for name, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(out, name)
		case Object:
			old, _ := out[name].(Object)
			out[name] = Merge(old, v)
		default:
			out[name] = v
		}
	}
	return out
}

// Bytes returns how much o counts against the limit of its section: the bytes
// of names and strings, 8 for a number, 4 for a boolean or null. Each element
// of an array counts at least 1, so that nothing is free.
func (o Object) Bytes() int {
	n := 0
	for name, v := range o {
		n += len(name) + size(v)
	}
	return n
}

func size(v any) int {
	switch v := v.(type) {
	case Object:
		return v.Bytes()
	case string:
		return len(v)
	case json.Number:
		return 8
	case []any:
		n := 0
		for _, e := range v {
			n += max(1, size(e))
		}
		return n
	}
	return 4
}

// MarshalJSON returns o as JSON, its names in order.
func (o Object) MarshalJSON() ([]byte, error) { return o.append(nil, -1), nil }

// String returns o as JSON.
func (o Object) String() string { return string(o.append(nil, -1)) }

// JSON returns o with its version as $version, as devices are told.
func (o Object) JSON(version int64) []byte { return o.append(nil, version) }

// append appends o as JSON, with $version unless version is negative.
func (o Object) append(b []byte, version int64) []byte {
	b = append(b, '{')
	for i, name := range slices.Sorted(maps.Keys(o)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
		b = appendValue(b, o[name])
	}
	if version >= 0 {
		if len(o) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `"$version":`...), version, 10)
	}
	return append(b, '}')
}

func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case Object:
		return v.append(b, -1)
	case string:
		return appendString(b, v)
	case json.Number:
		return append(b, v...)
	case bool:
		return strconv.AppendBool(b, v)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, e)
		}
		return append(b, ']')
	}
	return append(b, "null"...)
}

// appendString appends a JSON string; what Parse made is always UTF-8.
func appendString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // an error says only that bytes were replaced
	return b
}
