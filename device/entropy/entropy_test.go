package entropy_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"math/big"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"holdfast/device/entropy"
)

// The repetition count's cut-off is SP 800-90B's own example (section 4.4.1).
func TestRepetitionCutoffIsThatOfTheStandard(t *testing.T) {
	if got := entropy.RepetitionCutoff(2, 20); got != 11 {
		t.Errorf("H=2: C=%d, want 11", got)
	}
	if got := entropy.RepetitionCutoff(1, 30); got != 31 {
		t.Errorf("H=1, 2^-30: C=%d, want 31", got)
	}
}

func TestProportionCutoffIsExact(t *testing.T) {
	for _, h := range []int{1, 2, 4, 8} {
		for _, alpha := range []int{20, 40} {
			if got, want := entropy.ProportionCutoff(float64(h), alpha), exactCutoff(h, alpha); got != want {
				t.Errorf("H=%d, 2^-%d: C=%d, want %d", h, alpha, got, want)
			}
		}
	}
	if got := entropy.ProportionCutoff(4, 20); got != 62 {
		t.Errorf("H=4: C=%d, want 62", got)
	}
}

// exactCutoff is 1 + critbinom(512, 2^-h, 1-2^-alpha) in integers: it scales
// every chance by 2^(512 h).
func exactCutoff(h, alpha int) int {
	const n = entropy.Window
	limit := new(big.Int).Lsh(big.NewInt(1), uint(n*h-alpha))
	q := big.NewInt(1<<h - 1)
	tail := new(big.Int)
	for k := int64(n); ; k-- {
		term := new(big.Int).Exp(q, big.NewInt(n-k), nil)
		tail.Add(tail, term.Mul(term, new(big.Int).Binomial(n, k)))
		if tail.Cmp(limit) > 0 {
			return int(k) + 1
		}
	}
}

// biased is a source that answers the same byte with chance 1/every, never
// twice in a row, and counts up in between.
type biased struct {
	every int
	n     int
}

func (b *biased) Read(p []byte) (int, error) {
	for i := range p {
		b.n++
		if p[i] = byte(b.n); b.n%b.every == 0 {
			p[i] = 0xa5
		}
	}
	return len(p), nil
}

type stuck byte

func (s stuck) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s)
	}
	return len(p), nil
}

func monitor(t *testing.T, src io.Reader) *entropy.Monitor {
	t.Helper()
	m, err := entropy.New(entropy.Config{Source: src, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestStuckSourceFailsTheRepetitionCount(t *testing.T) {
	m := monitor(t, stuck(0))
	err := m.Start()
	f, ok := errors.AsType[*entropy.Failure](err)
	if !ok || f.Test != "repetition count" || f.Sample != 6 || !errors.Is(err, entropy.ErrUnhealthy) {
		t.Fatalf("start: %v", err)
	}
	if r := m.Report(); r.RepetitionCount || r.Samples != 6 {
		t.Errorf("report %+v", r)
	}
	if !errors.Is(m.Err(), entropy.ErrUnhealthy) {
		t.Errorf("Err: %v", m.Err())
	}
}

func TestBiasedSourceFailsTheAdaptiveProportion(t *testing.T) {
	m := monitor(t, &biased{every: 3, n: 2}) // the first sample is the frequent one
	f, ok := errors.AsType[*entropy.Failure](m.Start())
	if !ok || f.Test != "adaptive proportion" {
		t.Fatalf("start: %v", m.Err())
	}
	if r := m.Report(); r.AdaptiveProportion {
		t.Errorf("report %+v", r)
	}
}

func TestFailureStays(t *testing.T) {
	m := monitor(t, io.MultiReader(bytes.NewReader(make([]byte, 4096)), rand.Reader))
	first := m.Start()
	if first == nil {
		t.Fatal("a stuck source passed")
	}
	if again := m.Start(); !errors.Is(again, entropy.ErrUnhealthy) || m.Err() == nil {
		t.Errorf("after recovering the source passes: %v", again)
	}
}

func TestHealthySourcePasses(t *testing.T) {
	m := monitor(t, rand.Reader)
	if m.Err() == nil {
		t.Error("keys are allowed before the start-up test")
	}
	if r := m.Report(); r.RepetitionCount || r.AdaptiveProportion {
		t.Errorf("tests count as passed before they ran: %+v", r)
	}
	for range 100 {
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
	}
	if r := m.Report(); !r.RepetitionCount || !r.AdaptiveProportion || r.Samples != 100*4096 {
		t.Errorf("report %+v", r)
	}
}

func TestUnreadableSourceIsNotAHealthFailure(t *testing.T) {
	m := monitor(t, iotest.ErrReader(errors.New("no such device")))
	if err := m.Start(); err == nil || errors.Is(err, entropy.ErrUnhealthy) {
		t.Errorf("start: %v", err)
	}
	if m.Err() == nil {
		t.Error("keys are allowed without a test")
	}
}

func TestShortSourceIsAnError(t *testing.T) {
	m := monitor(t, bytes.NewReader(make([]byte, 100)))
	if err := m.Start(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("start: %v", err)
	}
}

func TestRunFindsALaterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := make([]byte, 2*4096)
		if _, err := rand.Read(good); err != nil {
			t.Fatal(err)
		}
		m := monitor(t, io.MultiReader(bytes.NewReader(good), stuck(7)))
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := m.Run(t.Context()); !errors.Is(err, entropy.ErrUnhealthy) {
			t.Fatalf("run: %v", err)
		}
		if d := time.Since(start); d != 2*time.Minute {
			t.Errorf("found after %v", d)
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := monitor(t, rand.Reader).Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestNewRefusesWhatTestsCannotMean(t *testing.T) {
	for name, cfg := range map[string]entropy.Config{
		"no source":        {},
		"nine bits a byte": {Source: rand.Reader, MinEntropy: 9},
		"negative entropy": {Source: rand.Reader, MinEntropy: -1},
		"lax alpha":        {Source: rand.Reader, Alpha: 10},
		"few samples":      {Source: rand.Reader, Samples: 100},
	} {
		if _, err := entropy.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
