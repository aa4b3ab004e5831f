package gateway

// window has the messages of a session that no sink has answered for, in the
// order in which they came: acknowledgements leave in that order
// (MQTT-4.6.0-2).
type window struct {
	first   uint64 // number of entries[0]
	entries []entry
	bytes   int
}

type entry struct {
	id   uint16 // to acknowledge, zero for quality of service 0
	size int
	done bool
}

// full reports whether the next message has to wait, of a session that may have
// limit of them.
func (w *window) full(limit int) bool {
	return len(w.entries) >= limit || w.bytes >= maxUnackedBytes
}

// owed is how many messages a client still expects an acknowledgement of.
func (w *window) owed() int {
	n := 0
	for _, e := range w.entries {
		if e.id != 0 {
			n++
		}
	}
	return n
}

// add takes a message and returns its number.
func (w *window) add(id uint16, size int) uint64 {
	w.entries = append(w.entries, entry{id: id, size: size})
	w.bytes += size
	return w.first + uint64(len(w.entries)) - 1
}

// finish marks message n as stored.
func (w *window) finish(n uint64) {
	if i := n - w.first; i < uint64(len(w.entries)) {
		w.entries[i].done = true
	}
}

// next takes the oldest message out, if it is stored.
func (w *window) next() (id uint16, ok bool) {
	if len(w.entries) == 0 || !w.entries[0].done {
		return 0, false
	}
	e := w.entries[0]
	w.entries = w.entries[1:]
	if len(w.entries) == 0 {
		w.entries = nil
	}
	w.first++
	w.bytes -= e.size
	return e.id, true
}
