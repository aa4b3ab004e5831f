package checks

import (
	"regexp"
	"slices"

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
	}, {
		ID: "ENT-MAP-01", Measure: measure.CryptoEntropy, Bullets: []string{"avoid.rand", "take.hardware-entropy"},
		Severity: finding.Medium, Confidence: finding.Firm,
		Title:   "the linker took rand() of the C library",
		Why:     "It takes what something asks for: keys and nonces made of its numbers can be foreseen.",
		Section: "True random hardware-based entropy source", CWE: []string{"CWE-338"},
		Fix:   "See in the map which object asked for it, and have that ask the hardware's generator.",
		Bad:   "libc.a(rand.o)  main.o (rand)",
		Good:  "libhal.a(trng.o)  main.o (trng_read)",
		Judge: judgeRandInMaps,
	}}
}

var randObject = regexp.MustCompile(`(^|[/(:])(lib(c|_nano|c_nano)?_a-)?s?rand(om|48|_r)?\.o(bj)?\)?$`)

// judgeRandInMaps goes by the objects of linker maps, where there is no program
// that tells who calls.
func judgeRandInMaps(s *subject.Subject, r *Ruling) {
	if len(s.Maps) == 0 || len(s.Programs) > 0 {
		r.Idle("no map without its program")
		return
	}
	for _, m := range s.Maps {
		for _, member := range m.Members {
			if name := member.Archive + "(" + member.Object + ")"; randObject.MatchString(name) {
				r.Found(finding.InFile(m.File), "%s is linked in for %s, by %s", subject.Base(name), subject.Base(member.For), member.Symbol)
			}
		}
		if len(m.Members) == 0 && slices.ContainsFunc(m.Objects(), randObject.MatchString) {
			r.Found(finding.InFile(m.File), "an object with rand is linked in")
		}
	}
	r.Pass("no object with rand is linked in")
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
