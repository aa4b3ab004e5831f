package entropy

import "math"

// Window is the window of the adaptive proportion test for samples that are
// not binary (SP 800-90B section 4.4.2).
const Window = 512

// RepetitionCutoff is C of SP 800-90B section 4.4.1: so many equal samples in
// a row fail. h is the assumed min-entropy per sample in bits; 2^-alpha is the
// chance that a healthy source fails.
func RepetitionCutoff(h float64, alpha int) int {
	return 1 + int(math.Ceil(float64(alpha)/h))
}

// ProportionCutoff is C of SP 800-90B section 4.4.2: so many samples of a
// window equal to its first fail. It is 1 + critbinom(Window, 2^-h, 1-2^-alpha).
func ProportionCutoff(h float64, alpha int) int {
	limit, tail := math.Exp2(-float64(alpha)), 0.0
	for k := Window; k > 0; k-- {
		if tail += binomial(Window, k, math.Exp2(-h)); tail > limit {
			return k + 1
		}
	}
	return 1
}

// binomial is the chance of exactly k successes in n draws of chance p.
func binomial(n, k int, p float64) float64 {
	choose := lgamma(n+1) - lgamma(k+1) - lgamma(n-k+1)
	return math.Exp(choose + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
}

func lgamma(n int) float64 {
	v, _ := math.Lgamma(float64(n))
	return v
}

// repetition is the repetition count test.
type repetition struct {
	cutoff int
	last   byte
	count  int
}

// take reports whether the source still passes with sample s.
func (r *repetition) take(s byte) bool {
	if r.count > 0 && s == r.last {
		r.count++
	} else {
		r.last, r.count = s, 1
	}
	return r.count < r.cutoff
}

// proportion is the adaptive proportion test.
type proportion struct {
	cutoff int
	first  byte
	seen   int // samples of this window so far
	count  int // of them, how many equal the first
}

// take reports whether the source still passes with sample s.
func (p *proportion) take(s byte) bool {
	if p.seen == 0 {
		p.first, p.count = s, 0
	}
	if s == p.first {
		p.count++
	}
	p.seen = (p.seen + 1) % Window
	return p.count < p.cutoff
}
