package tuf

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"

	"holdfast/release"
)

// CheckStrict says why b is not one JSON object that everyone reads alike: more
// than max bytes (release.EndlessData), more than depth levels of nesting, a name
// twice in one object, text that is not UTF-8, null, or anything before or behind
// the object (release.MalformedMetadata). What is absent is left out, so that
// there is one way to say it.
func CheckStrict(b []byte, max int64, depth int) error {
	if a, err := strict(b, max, depth); err != nil {
		return release.Refuse(a, err)
	}
	return nil
}

func strict(b []byte, max int64, depth int) (release.Attack, error) {
	if int64(len(b)) > max {
		return release.EndlessData, fmt.Errorf("%d bytes: want %d at most", len(b), max)
	}
	return release.MalformedMetadata, checkTokens(jsontext.NewDecoder(bytes.NewReader(b)), depth)
}

// checkTokens reads one object to its end. The decoder refuses names that come
// twice, and text that is not UTF-8.
func checkTokens(d *jsontext.Decoder, depth int) error {
	if d.PeekKind() != jsontext.KindBeginObject {
		return errors.New("not a JSON object")
	}
	for {
		token, err := d.ReadToken()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read JSON: %w", err)
		case token.Kind() == jsontext.KindNull:
			return fmt.Errorf("null at byte %d", d.InputOffset())
		case d.StackDepth() > depth:
			return fmt.Errorf("nested deeper than %d at byte %d", depth, d.InputOffset())
		case d.StackDepth() == 0 && trailing(d):
			return fmt.Errorf("more JSON behind the object at byte %d", d.InputOffset())
		}
	}
}

// trailing reports whether another value begins behind the object.
func trailing(d *jsontext.Decoder) bool { return d.PeekKind() != jsontext.KindInvalid }
