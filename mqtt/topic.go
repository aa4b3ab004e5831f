package mqtt

import (
	"strings"
	"unicode/utf8"
)

// CheckText returns what makes s no MQTT text: bytes that are not UTF-8,
// U+0000, or more than 65535 bytes.
func CheckText(s string) error {
	switch {
	case len(s) > maxField:
		return ErrTooLong
	case !utf8.ValidString(s):
		return ErrUTF8
	case strings.IndexByte(s, 0) >= 0:
		return ErrNUL
	}
	return nil
}

// CheckTopic returns what makes s no topic name (section 4.7).
func CheckTopic(s string) error {
	switch {
	case s == "":
		return ErrTopic
	case strings.ContainsAny(s, "+#"):
		return ErrWildcard
	}
	return CheckText(s)
}

// CheckFilter returns what makes s no topic filter (section 4.7).
func CheckFilter(s string) error {
	if s == "" {
		return ErrTopic
	}
	for rest, more := s, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		switch {
		case strings.Contains(level, "#") && (level != "#" || more):
			return ErrFilter
		case strings.Contains(level, "+") && level != "+":
			return ErrLevel
		}
	}
	return CheckText(s)
}

// Match reports whether a valid filter selects a topic name. A wildcard in the
// first level does not select topics that begin with "$" (MQTT-4.7.2-1).
func Match(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	for {
		level, filterRest, filterMore := strings.Cut(filter, "/")
		name, topicRest, topicMore := strings.Cut(topic, "/")
		switch {
		case level == "#":
			return true
		case level != "+" && level != name:
			return false
		case !topicMore:
			return !filterMore || filterRest == "#" // "a/#" selects "a" too
		case !filterMore:
			return false
		}
		filter, topic = filterRest, topicRest
	}
}
