package issuer_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/hub/issuer"
	"holdfast/pki"
)

// fickle records nothing, and fails while it is told to.
type fickle struct {
	issuer.Store
	failing atomic.Bool
}

func (f *fickle) AddCertificates(_ context.Context, batch []issuer.Certificate) ([]issuer.Added, error) {
	if f.failing.Load() {
		return nil, errors.New("disk full")
	}
	return make([]issuer.Added, len(batch)), nil
}

func TestServingRenewsInTime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		must(issuer.Init(filepath.Join(dir, "ca"), filepath.Join(dir, "root.key"), []string{"localhost"}, seal(t), time.Now()))(t)
		f := &fickle{}
		i := must(issuer.New(issuer.Config{Dir: filepath.Join(dir, "ca"), Secret: seal(t), Store: f, Log: slog.New(slog.DiscardHandler)}))(t)
		ctx, cancel := context.WithCancel(t.Context())
		const lifetime = 3 * time.Hour
		s := must(issuer.NewServing(ctx, i, pki.Names{DNS: []string{"localhost"}}, lifetime))(t)
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()

		first := must(s.Certificate())(t)
		time.Sleep(2*time.Hour - time.Minute)
		synctest.Wait()
		if must(s.Certificate())(t) != first {
			t.Error("renewed before two thirds of its lifetime")
		}
		f.failing.Store(true)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if must(s.Certificate())(t) != first {
			t.Error("a certificate that could not be recorded is served")
		}
		f.failing.Store(false)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		second := must(s.Certificate())(t)
		if second == first || !second.Leaf.NotAfter.After(first.Leaf.NotAfter) {
			t.Error("not renewed once it could be")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
