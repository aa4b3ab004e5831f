package ledger

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"
)

// What can be wrong with a chain. Each arrives within a ChainError.
var (
	ErrChanged   = errors.New("the record does not have the hash it claims: it was changed")
	ErrBroken    = errors.New("the record does not follow the one before: records were removed, inserted or reordered")
	ErrShortened = errors.New("the ledger ends before a head that was kept elsewhere: records were removed from its end")
	ErrRewritten = errors.New("the record is not the one that a head kept elsewhere speaks of: the ledger was rewritten")
)

// ChainError says where a chain is wrong. For ErrShortened Seq is that of the
// head; otherwise that of the first record found wrong.
type ChainError struct {
	Seq uint64
	Err error
}

// Error names the record and what is wrong with it.
func (e *ChainError) Error() string { return fmt.Sprintf("ledger record %d: %v", e.Seq, e.Err) }

// Unwrap returns what is wrong.
func (e *ChainError) Unwrap() error { return e.Err }

// Result is what Verify has shown.
type Result struct {
	Tip      Tip       // the end of the chain
	Time     time.Time // of the last record
	Heads    int       // kept heads that the chain agrees with
	Anchored uint64    // no record up to this one was changed since a kept head was signed
}

// String says what was shown, and no more.
func (r Result) String() string {
	switch {
	case r.Heads == 0:
		return fmt.Sprintf("%d records, consistent with itself only: no head kept elsewhere was given", r.Tip.Seq)
	case r.Anchored == r.Tip.Seq:
		return fmt.Sprintf("%d records, all as they were when the head kept elsewhere was signed", r.Tip.Seq)
	}
	return fmt.Sprintf("%d records; up to %d as they were when the head kept elsewhere was signed, those after it consistent with themselves only",
		r.Tip.Seq, r.Anchored)
}

// pageSize is how many records Pages asks for at a time.
const pageSize = 1000

// Pages reads a ledger from a record on to its end, by a function that returns
// at most limit records from one on.
func Pages(from int64, read func(from int64, limit int) ([]Record, error)) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for {
			rs, err := read(from, pageSize)
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, r := range rs {
				if !yield(r, nil) {
					return
				}
			}
			if len(rs) < pageSize {
				return
			}
			from += int64(len(rs))
		}
	}
}

// Verify checks a whole ledger, from record 1 on, and compares it with heads
// that were kept elsewhere. Heads are believed: check the signature of those
// that came from elsewhere than your own keeping with Head.Verify first.
// Errors about the chain are *ChainError; those of the iterator are returned
// as they are.
func Verify(records iter.Seq2[Record, error], heads ...Head) (Result, error) {
	heads = slices.Clone(heads)
	slices.SortFunc(heads, func(a, b Head) int { return cmp.Compare(a.Seq, b.Seq) })
	var res Result
	if err := res.match(&heads); err != nil {
		return res, err
	}
	for r, err := range records {
		if err != nil {
			return res, err
		}
		if err := res.add(r); err != nil {
			return res, err
		}
		if err := res.match(&heads); err != nil {
			return res, err
		}
	}
	if len(heads) > 0 {
		return res, &ChainError{heads[0].Seq, ErrShortened}
	}
	return res, nil
}

// add checks that r continues the chain.
func (res *Result) add(r Record) error {
	if r.Seq != res.Tip.Seq+1 || r.Prev != res.Tip.Hash {
		return &ChainError{res.Tip.Seq + 1, ErrBroken}
	}
	details, err := canonical(r.Details)
	if err != nil || r.check() != nil {
		return &ChainError{r.Seq, ErrChanged}
	}
	r.Details = details
	if r.sum() != r.Hash {
		return &ChainError{r.Seq, ErrChanged}
	}
	res.Tip, res.Time = r.Tip(), r.Time
	return nil
}

// match compares the end of the chain so far with the heads that speak of it,
// and takes them off the sorted list.
func (res *Result) match(heads *[]Head) error {
	for len(*heads) > 0 && (*heads)[0].Seq == res.Tip.Seq {
		if (*heads)[0].Hash != res.Tip.Hash {
			return &ChainError{res.Tip.Seq, ErrRewritten}
		}
		res.Heads++
		res.Anchored = res.Tip.Seq
		*heads = (*heads)[1:]
	}
	return nil
}

// Read parses records in JSON, one a line. It ends at the first error.
func Read(r io.Reader) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, MaxRecord+1)
		for lines.Scan() {
			if len(bytes.TrimSpace(lines.Bytes())) == 0 {
				continue
			}
			rec, err := ParseRecord(lines.Bytes())
			if !yield(rec, err) || err != nil {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(Record{}, fmt.Errorf("read ledger: %w", err))
		}
	}
}
