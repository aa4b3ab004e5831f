package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"holdfast/identity"
	"holdfast/iothub"
)

// A group is what one fsync covers: a version byte, then records to the end.
//
//	group  = version record*
//	record = length:uvarint device kind time:8 properties system body
//	device, kind, name, value = length:uvarint bytes
//	properties, system        = count:uvarint (name value)*
//	body   = the rest of the record
//
// Time is nanoseconds since 1970 in big-endian two's complement. Device and
// kind stand first, so that a reader who wants one device skips the others
// without decoding them. Integrity of the bytes is the store's matter.
const groupVersion = 1

// Limits of a record. A record above them is refused by Append and by the
// decoder.
const (
	MaxMessage    = 1 << 20 // bytes of one message as it is stored
	MaxProperties = 256     // entries in Properties and in System, each
	maxHeader     = 256     // bytes around a message that are not counted: length and kind
)

var errCorrupt = errors.New("stored group is corrupt")

// size returns the bytes that the strings and the body of m take.
func size(m *iothub.Message) int {
	n := len(m.Device) + len(m.Kind) + len(m.Body)
	for _, bag := range []map[string]string{m.Properties, m.System} {
		for k, v := range bag {
			n += len(k) + len(v) + 2*binary.MaxVarintLen32
		}
	}
	return n
}

func validate(m *iothub.Message) error {
	switch {
	case size(m) > MaxMessage-maxHeader:
		return fmt.Errorf("message has %d bytes, limit %d", size(m), MaxMessage-maxHeader)
	case len(m.Properties) > MaxProperties || len(m.System) > MaxProperties:
		return fmt.Errorf("message has %d and %d properties, limit %d each", len(m.Properties), len(m.System), MaxProperties)
	case len(m.Kind) == 0 || len(m.Kind) > 64:
		return fmt.Errorf("message kind has %d bytes, want 1 to 64", len(m.Kind))
	case m.Time.IsZero():
		return errors.New("message has no time")
	}
	_, err := parseDevice(string(m.Device), m.Kind)
	return err
}

// parseDevice lets events of the hub itself be of no device.
func parseDevice(s string, kind iothub.Kind) (identity.Device, error) {
	if s == "" && (kind == iothub.Security || kind == iothub.Lifecycle) {
		return "", nil
	}
	return identity.ParseDevice(s)
}

// appendRecord appends m, which must be valid, to a group.
func appendRecord(b []byte, m *iothub.Message) []byte {
	if len(b) == 0 {
		b = append(b, groupVersion)
	}
	const prefix = 3 // a uvarint of three bytes holds every length up to 2 MiB
	start := len(b)
	b = append(b, make([]byte, prefix)...)
	b = appendString(b, string(m.Device))
	b = appendString(b, string(m.Kind))
	b = binary.BigEndian.AppendUint64(b, uint64(m.Time.UnixNano()))
	b = appendBag(b, m.Properties)
	b = appendBag(b, m.System)
	b = append(b, m.Body...)
	n := len(b) - start - prefix
	b[start], b[start+1], b[start+2] = byte(n)|0x80, byte(n>>7)|0x80, byte(n>>14)
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBag(b []byte, bag map[string]string) []byte {
	b = binary.AppendUvarint(b, uint64(len(bag)))
	for k, v := range bag {
		b = appendString(appendString(b, k), v)
	}
	return b
}

// decodeGroup calls f with the messages of a group in their order, each with
// its index in the group, leaving out those that want refuses. It stops at f's
// first error and returns it; what is not a group is errCorrupt.
func decodeGroup(b []byte, want func(device, kind []byte) bool, f func(int, iothub.Message) error) error {
	if len(b) == 0 || b[0] != groupVersion {
		return fmt.Errorf("%w: unknown version", errCorrupt)
	}
	d := decoder{b: b[1:]}
	for i := 0; len(d.b) > 0; i++ {
		r := decoder{b: d.bytes(MaxMessage)}
		device, kind := r.bytes(identity.MaxDevice), r.bytes(64)
		if d.bad || r.bad {
			return fmt.Errorf("%w: record %d", errCorrupt, i)
		}
		if !want(device, kind) {
			continue
		}
		m, err := r.message(string(device), string(kind))
		if err != nil {
			return fmt.Errorf("%w: record %d: %w", errCorrupt, i, err)
		}
		if err := f(i, m); err != nil {
			return err
		}
	}
	return nil
}

// decoder takes values from the front of b. After the first one that does not
// fit bad is set and all others are empty.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) message(device, kind string) (iothub.Message, error) {
	id, err := parseDevice(device, iothub.Kind(kind))
	if err != nil {
		return iothub.Message{}, err
	}
	m := iothub.Message{Device: id, Kind: iothub.Kind(kind), Time: d.time()}
	m.Properties, m.System = d.bag(), d.bag()
	if d.bad {
		return iothub.Message{}, errors.New("cut short")
	}
	if len(d.b) > 0 {
		m.Body = append([]byte(nil), d.b...)
	}
	return m, nil
}

func (d *decoder) uvarint(limit int) int {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > uint64(limit) {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

func (d *decoder) bytes(limit int) []byte { return d.take(d.uvarint(limit)) }

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) time() time.Time {
	v := d.take(8)
	if d.bad {
		return time.Time{}
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(v))).UTC()
}

func (d *decoder) bag() map[string]string {
	n := d.uvarint(MaxProperties)
	if n == 0 {
		return nil
	}
	bag := make(map[string]string, min(n, 16))
	for range n {
		k := d.bytes(MaxMessage)
		bag[string(k)] = string(d.bytes(MaxMessage))
	}
	return bag
}
