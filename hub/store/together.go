package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
)

// maxTogether bounds how many changes share a transaction.
const maxTogether = 256

// crowd is changes that wait for a transaction together: while one is synced,
// the next ones gather, so that many share one fsync.
type crowd struct {
	turn chan struct{} // holds one token: who has it writes

	mu      sync.Mutex
	waiting []*joint
}

// change is what one caller does in the transaction.
type change = func(context.Context, *shared) error

// joint is one change. Its result is there once done is set; mu guards both.
type joint struct {
	do   change
	done bool
	err  error
}

func newCrowd() *crowd {
	c := &crowd{turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c
}

// together runs do in a write transaction that it shares with others; an error
// of do takes back what it wrote and nothing else. When together returns nil
// the change has been fsynced. When ctx ends first it may be made all the same.
func (s *Store) together(ctx context.Context, do change) error {
	j := &joint{do: do}
	s.crowd.mu.Lock()
	s.crowd.waiting = append(s.crowd.waiting, j)
	s.crowd.mu.Unlock()
	for {
		select {
		case <-s.crowd.turn:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !s.crowd.finished(j) {
			s.writeTogether(context.WithoutCancel(ctx)) // others wait for it too
		}
		done := s.crowd.finished(j)
		s.crowd.turn <- struct{}{}
		if done {
			return j.err
		}
	}
}

func (c *crowd) finished(j *joint) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return j.done
}

// writeTogether makes the changes that wait. The caller has the turn.
func (s *Store) writeTogether(ctx context.Context) {
	c := s.crowd
	c.mu.Lock()
	n := min(len(c.waiting), maxTogether)
	batch := c.waiting[:n:n]
	c.waiting = c.waiting[n:]
	c.mu.Unlock()

	errs := make([]error, n)
	err := s.tx(ctx, func(tx *sql.Tx) error {
		shared := &shared{tx: tx, stmts: map[string]*sql.Stmt{}}
		for i, j := range batch {
			failed, err := apart(ctx, shared, j.do)
			if err != nil {
				return err
			}
			errs[i] = failed
		}
		return nil
	})

	c.mu.Lock()
	defer c.mu.Unlock()
	for i, j := range batch {
		j.done, j.err = true, errs[i]
		if err != nil {
			j.err = fmt.Errorf("write store: %w", err)
		}
	}
}

// apart runs one change so that its failure leaves the transaction as it was.
func apart(ctx context.Context, tx *shared, do change) (failed, err error) {
	if err := tx.exec(ctx, `SAVEPOINT apart`); err != nil {
		return nil, err
	}
	if failed = unavailable(do(ctx, tx)); failed != nil {
		if err := tx.exec(ctx, `ROLLBACK TO apart`); err != nil {
			return failed, err
		}
	}
	return failed, tx.exec(ctx, `RELEASE apart`)
}

// shared is a transaction that changes share. It compiles each statement once,
// which costs more than running it.
type shared struct {
	tx    *sql.Tx
	stmts map[string]*sql.Stmt // closed with the transaction
}

func (s *shared) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if st := s.stmts[query]; st != nil {
		return st, nil
	}
	st, err := s.tx.PrepareContext(ctx, query)
	if err == nil {
		s.stmts[query] = st
	}
	return st, err
}

func (s *shared) exec(ctx context.Context, query string, args ...any) error {
	_, err := s.change(ctx, query, args...)
	return err
}

// change is exec that says how many rows it changed.
func (s *shared) change(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := s.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// ExecContext is as that of sql.Tx.
func (s *shared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	st, err := s.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.ExecContext(ctx, args...)
}

// scan reads one row into to.
func (s *shared) scan(ctx context.Context, to []any, query string, args ...any) error {
	st, err := s.stmt(ctx, query)
	if err != nil {
		return err
	}
	return st.QueryRowContext(ctx, args...).Scan(to...)
}
