package posture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"time"

	"holdfast/measure"
)

// Marks are a device's posture without its words: verdict, grade and time of
// every measure, in some hundred bytes. What a policy says of a device follows
// from them alone. They can be compared, stored, and read back with ParseMarks.
//
// The form: four bytes that name the catalogue, the number of times, the times
// (Unix time in nanoseconds, big endian), and two bytes for each measure in the
// catalogue's order: verdict and grade, and which of the times it has.
type Marks string

const (
	marksHead = 5 // name of the catalogue and number of times
	timeSize  = 8
	markSize  = 2
)

// ordinals has the place of each measure in the catalogue.
var ordinals = func() map[measure.ID]int {
	m := make(map[measure.ID]int)
	for i, id := range measure.IDs() {
		m[id] = i
	}
	return m
}()

// catalogue names the catalogue that marks are of, so that those of another
// version of the program are not taken for this one's.
var catalogue = func() [4]byte {
	h := fnv.New32a()
	for _, id := range measure.IDs() {
		h.Write([]byte(id))
		h.Write([]byte{0})
	}
	return [4]byte(h.Sum(nil))
}()

// mark is one row without its words.
type mark struct {
	verdict, grade byte  // ranks
	at             int64 // Unix time in nanoseconds; 0 where the verdict is unknown
}

// The ranks of verdicts in marks.
const (
	markUnknown byte = iota
	markPass
	markFail
)

// grader returns the rank of a grade: none is 0, and what is no grade has none.
func grader(g measure.Grade) byte {
	return byte(max(0, slices.Index([]measure.Grade{measure.None, measure.Claimed, measure.Audited, measure.Attested, measure.Observed}, g)))
}

// markOf returns a row's mark.
func markOf(r measure.Row) mark {
	switch r = normal(r); r.Verdict {
	case measure.Pass:
		return mark{markPass, grader(r.Grade), nanos(r.Time)}
	case measure.Fail:
		return mark{markFail, grader(r.Grade), nanos(r.Time)}
	}
	return mark{}
}

// nanos is a time as Unix nanoseconds; what lies further away than those reach
// is at their end.
func nanos(t time.Time) int64 {
	switch s := t.Unix(); {
	case s <= math.MinInt64/int64(time.Second):
		return math.MinInt64
	case s >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// since is now - at, or the largest or least number where it is beyond those.
func since(now, at int64) int64 {
	d := now - at
	switch {
	case at < 0 && d < now:
		return math.MaxInt64
	case at > 0 && d > now:
		return math.MinInt64
	}
	return d
}

// MarksOf returns the marks of rows. Measures that are not in them are unknown,
// and those that are not in the catalogue are left out.
func MarksOf(rows []measure.Row) Marks {
	ms := make([]mark, len(ordinals))
	for _, r := range rows {
		if i, ok := ordinals[r.Measure]; ok {
			ms[i] = markOf(r)
		}
	}
	var times []int64
	for _, m := range ms {
		if m.verdict != markUnknown && !slices.Contains(times, m.at) {
			times = append(times, m.at)
		}
	}
	b := make([]byte, 0, marksHead+timeSize*len(times)+markSize*len(ms))
	b = append(append(b, catalogue[:]...), byte(len(times)))
	for _, t := range times {
		b = binary.BigEndian.AppendUint64(b, uint64(t))
	}
	for _, m := range ms {
		b = append(b, m.verdict<<4|m.grade, byte(max(0, slices.Index(times, m.at))))
	}
	return Marks(b)
}

// ParseMarks reads marks that were stored. Those of another catalogue are an
// error: the rows have to be looked at again.
func ParseMarks(b []byte) (Marks, error) {
	if len(b) < marksHead || [4]byte(b) != catalogue {
		return "", errors.New("marks: of another catalogue of measures")
	}
	times := int(b[4])
	if len(b) != marksHead+timeSize*times+markSize*len(ordinals) {
		return "", fmt.Errorf("marks: %d bytes for %d times", len(b), times)
	}
	m := Marks(b)
	for i := range len(ordinals) {
		judged, when := m.pair(i)
		if v := judged >> 4; v > markFail || judged&15 > grader(measure.Observed) || v != markUnknown && int(when) >= times {
			return "", fmt.Errorf("marks: measure %d makes no sense", i)
		}
	}
	return m, nil
}

// pair returns the two bytes of a measure.
func (m Marks) pair(i int) (judged, when byte) {
	at := marksHead + timeSize*int(m[4]) + markSize*i
	return m[at], m[at+1]
}

// mark returns the mark of a measure by its place in the catalogue; of no marks
// every one is unknown.
func (m Marks) mark(i int) mark {
	if len(m) == 0 || i < 0 {
		return mark{}
	}
	judged, when := m.pair(i)
	if judged>>4 == markUnknown {
		return mark{}
	}
	t := m[marksHead+timeSize*int(when):][:timeSize]
	at := uint64(t[0])<<56 | uint64(t[1])<<48 | uint64(t[2])<<40 | uint64(t[3])<<32 |
		uint64(t[4])<<24 | uint64(t[5])<<16 | uint64(t[6])<<8 | uint64(t[7])
	return mark{verdict: judged >> 4, grade: judged & 15, at: int64(at)}
}

// Of returns what is known of a measure: its verdict, grade and time (zero where
// the verdict is unknown), and whether there is such a measure.
func (m Marks) Of(id measure.ID) (measure.Verdict, measure.Grade, time.Time, bool) {
	i, ok := ordinals[id]
	if !ok {
		return measure.Unknown, measure.None, time.Time{}, false
	}
	k := m.mark(i)
	if k.verdict == markUnknown {
		return measure.Unknown, measure.None, time.Time{}, true
	}
	grade := []measure.Grade{measure.None, measure.Claimed, measure.Audited, measure.Attested, measure.Observed}[k.grade]
	return []measure.Verdict{measure.Unknown, measure.Pass, measure.Fail}[k.verdict], grade, time.Unix(0, k.at).UTC(), true
}
