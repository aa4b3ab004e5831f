package checks

import (
	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

// weakRandom are the functions whose numbers can be predicted: those of the C
// library and the BSDs' old ones.
var weakRandom = []string{"rand", "rand_r", "random", "random_r", "drand48", "erand48", "lrand48", "nrand48", "mrand48", "jrand48"}

// seeders set what those start from.
var seeders = []string{"srand", "srandom", "srand48", "seed48", "initstate"}

func entropyRules() []Rule {
	return []Rule{{
		ID: "ENT-RAND-01", Measure: measure.CryptoEntropy, Bullets: []string{"avoid.rand", "take.hardware-entropy"},
		Severity: finding.High, Confidence: finding.Firm,
		Title:   "rand() of the C library is called",
		Why:     "Its numbers follow from a short seed: whoever sees a few of them, or guesses the seed, knows the keys, nonces and sequence numbers made of them.",
		Section: "True random hardware-based entropy source", CWE: []string{"CWE-338", "CWE-330"},
		Fix:   "Take numbers from the hardware's generator: define NX_RAND to its function, or call it directly.",
		Bad:   "nonce = rand();",
		Good:  "nonce = trng_read();",
		Judge: judgeRand,
	}}
}

// judgeRand finds calls of predictable generators in programs.
func judgeRand(s *subject.Subject, r *Ruling) {
	if len(s.Programs) == 0 {
		r.Idle("no program")
		return
	}
	for _, p := range s.Programs {
		for _, name := range append(append([]string{}, weakRandom...), seeders...) {
			tell(p, name, r, nil)
		}
		if why := mute(p); why != "" {
			r.Unknown("%s", why)
		}
	}
	r.Pass("no program calls a generator of the C library")
}

func orUnnamed(function string) string {
	if function == "" {
		return "code without a name"
	}
	return function
}
