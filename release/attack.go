package release

import "errors"

// Attack names what a refusal defends against, in the words of TUF's
// specification, section 1.5.2, and of our threat model.
type Attack string

// The attacks.
const (
	ArbitrarySoftware  Attack = "arbitrary software"  // content that no threshold has signed
	Rollback           Attack = "rollback"            // older metadata or an image below the counter
	IndefiniteFreeze   Attack = "indefinite freeze"   // metadata that has expired
	FastForward        Attack = "fast-forward"        // versions so high that no good one could follow
	MixAndMatch        Attack = "mix-and-match"       // metadata that never were together
	WrongProduct       Attack = "wrong product"       // an image of another product or hardware
	EndlessData        Attack = "endless data"        // more bytes than were signed
	SlowRetrieval      Attack = "slow retrieval"      // bytes that hardly come
	KeyCompromise      Attack = "key compromise"      // signed, but by fewer than the threshold
	UnwantedUpdate     Attack = "replayed rollout"    // an offer that has been decided before
	WithdrawnRelease   Attack = "withdrawn release"   // a target that its signers have taken back
	MalformedMetadata  Attack = "malformed metadata"  // what cannot be read in exactly one way
	DecompressionBomb  Attack = "decompression bomb"  // a delta that grows beyond its target
	WrongClock         Attack = "wrong clock"         // expiry cannot be judged
	ExtraneousContents Attack = "extraneous contents" // an image with more behind it
)

// Refused is an error that names the attack it defends against. Err says what
// was seen, and where.
type Refused struct {
	Attack Attack
	Err    error
}

// Refuse wraps err with the attack that it defends against.
func Refuse(a Attack, err error) error { return &Refused{Attack: a, Err: err} }

// Error returns "attack: what was seen".
func (r *Refused) Error() string { return string(r.Attack) + ": " + r.Err.Error() }

// Unwrap returns what was seen.
func (r *Refused) Unwrap() error { return r.Err }

// AttackOf returns the attack that err names, or "".
func AttackOf(err error) Attack {
	if r, ok := errors.AsType[*Refused](err); ok {
		return r.Attack
	}
	return ""
}
