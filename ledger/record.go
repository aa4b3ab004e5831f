// Package ledger has the records of what is relevant to security (who was
// born, issued a certificate, revoked, restored, and by whom) and the rules
// that make them evidence: an append-only chain of hashes, signed heads, and
// what follows from comparing the two.
//
// The chain alone proves little: who can rewrite the store can rewrite the
// whole chain. A head kept elsewhere (by every CLI that asked anything, by
// devices) is what a rewritten or shortened chain cannot agree with. Verify
// says how much was shown.
//
// It is pure: records come from the caller, and so does the time.
package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"encoding/json/jsontext"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"holdfast/fault"
	"holdfast/identity"
)

// Kind names what happened: words of lower-case letters, digits and hyphens
// with dots between, at most 64 bytes.
type Kind string

// The kinds that more than one part of the hub or its tools speak of. A part
// may have others of its own.
const (
	Born         Kind = "device.born"
	Refuse       Kind = "device.refused"
	Pending      Kind = "device.pending"
	Accept       Kind = "device.accept"
	Revoke       Kind = "device.revoke"
	Quarantine   Kind = "device.quarantine"
	Restore      Kind = "device.restore"
	Verdict      Kind = "verdict"
	Issue        Kind = "certificate.issue"
	RefuseIssue  Kind = "certificate.refuse"
	RevokeIssued Kind = "certificate.revoke"
	Group        Kind = "group.set"
	CA           Kind = "ca.add"
	Reference    Kind = "reference.add"
	DropRef      Kind = "reference.remove"
	Auditor      Kind = "auditor.add"
	DropAuditor  Kind = "auditor.remove"
	Audit        Kind = "audit.add"
	DropAudit    Kind = "audit.remove"
	Login        Kind = "operator.login"
	Evidence     Kind = "evidence.refuse"
	HubInit      Kind = "hub.init"
	HubStart     Kind = "hub.start"

	ReleaseRoot     Kind = "release.root"     // a root of the release keys is trusted from now on
	ReleaseMetadata Kind = "release.metadata" // a file that release keys have signed is in force
	ReleasePublish  Kind = "release.publish"  // a release is published, or what is said of one changes
	ReleaseWithdraw Kind = "release.withdraw" // its signers have taken it back
	ReleaseExpiring Kind = "release.expiring" // what release keys have signed ends soon, or has ended

	RolloutStart          Kind = "rollout.start"
	RolloutPlan           Kind = "rollout.plan" // its devices are listed, and who is excluded
	RolloutStep           Kind = "rollout.step"
	RolloutPause          Kind = "rollout.pause"
	RolloutResume         Kind = "rollout.resume"
	RolloutHalt           Kind = "rollout.halt"
	RolloutFinish         Kind = "rollout.finish"
	RolloutRetry          Kind = "rollout.retry"
	RolloutDeviceFailed   Kind = "rollout.device-failed"
	RolloutDeviceExcluded Kind = "rollout.device-excluded"
)

// Limits of an entry, in bytes.
const (
	MaxActor   = 256
	MaxReason  = 2048
	MaxDetails = 64 << 10
)

// Entry is what happened. Actor is who did it: an operator's name as in the
// certificate, or "hub"; empty where it followed from what a device did.
// Details is a JSON object, or nothing.
type Entry struct {
	Time    time.Time       `json:"time"`
	Kind    Kind            `json:"kind"`
	Device  identity.Device `json:"device,omitempty"`
	Group   identity.Group  `json:"group,omitempty"`
	Actor   string          `json:"actor,omitempty"`
	Reason  string          `json:"reason,omitempty"`
	Details json.RawMessage `json:"details,omitempty"`
}

// Record is an entry in its place in the chain. Seq counts from 1. Prev is the
// hash of the record before, all zero for the first.
type Record struct {
	Seq uint64 `json:"seq"`
	Entry
	Prev identity.Digest `json:"prev"`
	Hash identity.Digest `json:"hash"`
}

// Tip is the end of a chain: the number and hash of its last record. The zero
// Tip is that of an empty ledger.
type Tip struct {
	Seq  uint64
	Hash identity.Digest
}

// Tip returns the end of the chain that ends with r.
func (r Record) Tip() Tip { return Tip{Seq: r.Seq, Hash: r.Hash} }

// Next returns the record that puts e after tip. The details are brought into
// their canonical form (RFC 8785), and the time into UTC.
func Next(tip Tip, e Entry) (Record, error) {
	e.Time = e.Time.UTC()
	if len(e.Details) > MaxDetails {
		return Record{}, fault.New(fault.Invalid, "ledger details have %d bytes, limit %d", len(e.Details), MaxDetails)
	}
	var err error
	if e.Details, err = canonical(e.Details); err != nil {
		return Record{}, fault.New(fault.Invalid, "ledger details: %w", err)
	}
	r := Record{Seq: tip.Seq + 1, Entry: e, Prev: tip.Hash}
	if err := r.check(); err != nil {
		return Record{}, fault.New(fault.Invalid, "%w", err)
	}
	r.Hash = r.sum()
	return r, nil
}

// canonical returns b as RFC 8785 writes it. Duplicate names and invalid UTF-8
// are errors: two readers might see different things.
func canonical(b []byte) (json.RawMessage, error) {
	v := jsontext.Value(bytes.TrimSpace(b)).Clone()
	if len(v) == 0 || string(v) == "null" {
		return nil, nil
	}
	if v.Kind() != jsontext.KindBeginObject {
		return nil, fmt.Errorf("want a JSON object")
	}
	if err := v.Canonicalize(); err != nil {
		return nil, err
	}
	return json.RawMessage(v), nil
}

// earliest and latest bound the times that 64 bits of nanoseconds can hold.
var (
	earliest = time.Unix(0, -1<<63)
	latest   = time.Unix(0, 1<<63-1)
)

// check says what is wrong with r beside its hash.
func (r Record) check() error {
	if r.Seq == 0 || r.Seq > 1<<62 {
		return fmt.Errorf("ledger record has number %d", r.Seq)
	}
	if r.Time.IsZero() || r.Time.Before(earliest) || r.Time.After(latest) {
		return fmt.Errorf("ledger record has no usable time")
	}
	if err := r.Kind.check(); err != nil {
		return err
	}
	if r.Device != "" {
		if _, err := identity.ParseDevice(string(r.Device)); err != nil {
			return err
		}
	}
	if r.Group != "" {
		if _, err := identity.ParseGroup(string(r.Group)); err != nil {
			return err
		}
	}
	if err := plain("actor", r.Actor, MaxActor); err != nil {
		return err
	}
	return plain("reason", r.Reason, MaxReason)
}

func (k Kind) check() error {
	ok := len(k) > 0 && len(k) <= 64 && strings.Trim(string(k), "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
	for word := range strings.SplitSeq(string(k), ".") {
		ok = ok && word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
	}
	if !ok {
		return fmt.Errorf("ledger kind %q is not made of words with dots between", k)
	}
	return nil
}

func plain(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("ledger %s has %d bytes, limit %d", what, len(s), limit)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("ledger %s has characters that are not text", what)
	}
	return nil
}

// recordLabel keeps a record's hash apart from every other hash.
const recordLabel = "holdfast ledger record 1\n"

// sum returns the hash of all fields but Hash: SHA-256 of
//
//	recordLabel Prev Seq:8 Time:8 Kind Device Group Actor Reason Details
//
// Prev is 32 bytes; Seq, and Time in nanoseconds since 1970, are big-endian;
// each text is preceded by its length in bytes as 4 big-endian bytes, so that
// no two records have the same encoding. Details are in canonical form
// (RFC 8785), so that a tool which reformats JSON on the way does no harm.
func (r Record) sum() identity.Digest {
	b := append([]byte(recordLabel), r.Prev[:]...)
	b = binary.BigEndian.AppendUint64(b, r.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixNano()))
	for _, s := range []string{string(r.Kind), string(r.Device), string(r.Group), r.Actor, r.Reason, string(r.Details)} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return sha256.Sum256(b)
}

// MaxRecord is the longest text of a record that ParseRecord reads. Texts may
// be escaped on the way, which makes them longer.
const MaxRecord = 8 * (MaxActor + MaxReason + MaxDetails)

// ParseRecord reads the JSON form of a record. It does not check its hash:
// Verify does, for the chain.
func ParseRecord(b []byte) (Record, error) {
	var r Record
	if len(b) > MaxRecord {
		return r, fault.New(fault.Invalid, "ledger record has %d bytes, limit %d", len(b), MaxRecord)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Record{}, fault.New(fault.Invalid, "ledger record: %w", err)
	}
	if d.More() {
		return Record{}, fault.New(fault.Invalid, "ledger record: text after it")
	}
	if err := r.check(); err != nil {
		return Record{}, fault.New(fault.Invalid, "%w", err)
	}
	return r, nil
}
