package verifier

import (
	"context"
	"fmt"
	"slices"

	"holdfast/appraise"
	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
)

// AddReference adds a reference value on behalf of an operator. Devices are
// judged by it from their next attestation on. The ledger has it first: what
// decides which firmware is good never changes without a record.
func (v *Verifier) AddReference(ctx context.Context, by string, r operator.Reference) error {
	r.Released = false // that is for the signers to say
	ref := appraise.Reference{Group: r.Group, Kind: appraise.Kind(r.Kind), PCR: r.PCR, Digest: r.Digest, Name: r.Name, Version: r.Version}
	if err := ref.Check(); err != nil {
		return fault.New(fault.Invalid, "reference value: %w", err)
	}
	err := v.cfg.Ledger.Record(ctx, string(ledger.Reference), "", struct {
		By string `json:"by"`
		operator.Reference
	}{by, r})
	if err != nil {
		return fmt.Errorf("add reference value: %w", err)
	}
	if err := v.cfg.Store.AddReference(ctx, ref); err != nil {
		return fmt.Errorf("add reference value: %w", err)
	}
	return nil
}

// RemoveReference removes every reference value of a group with a digest, after
// the ledger has it. What a published release says is not an operator's to
// remove: a fault of kind Conflict.
func (v *Verifier) RemoveReference(ctx context.Context, by string, group identity.Group, digest identity.Digest) error {
	refs, err := v.references(ctx, group)
	if i := slices.IndexFunc(refs, func(r appraise.Reference) bool { return r.Digest == digest && r.Released }); i >= 0 &&
		!slices.ContainsFunc(refs, func(r appraise.Reference) bool { return r.Digest == digest && !r.Released }) {
		return fault.New(fault.Conflict, "it comes from the release %s %s: withdraw that", refs[i].Name, refs[i].Version)
	}
	if err == nil && slices.ContainsFunc(refs, func(r appraise.Reference) bool { return r.Digest == digest }) {
		err = v.cfg.Ledger.Record(ctx, string(ledger.DropRef), "", map[string]any{"by": by, "group": group, "digest": digest})
	}
	if err == nil {
		err = v.cfg.Store.RemoveReference(ctx, group, digest)
	}
	if err != nil {
		return fmt.Errorf("remove reference value: %w", err)
	}
	return nil
}

// References returns a group's reference values: those that operators added, and
// those of the published releases of its product.
func (v *Verifier) References(ctx context.Context, group identity.Group) ([]operator.Reference, error) {
	refs, err := v.references(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("reference values of %s: %w", group, err)
	}
	out := make([]operator.Reference, 0, len(refs))
	for _, r := range refs {
		out = append(out, operator.Reference{Group: r.Group, Kind: string(r.Kind), PCR: r.PCR, Digest: r.Digest,
			Name: r.Name, Version: r.Version, Released: r.Released})
	}
	return out, nil
}

// references returns what a group's devices are judged by. Releases come last:
// what is both is called by the release's name. A release that is withdrawn
// stays known, so that the device which runs it is told apart from one that runs
// anything: firmware.signing fails it.
func (v *Verifier) references(ctx context.Context, group identity.Group) ([]appraise.Reference, error) {
	refs, err := v.cfg.Store.References(ctx, group)
	if err != nil || v.cfg.Releases == nil {
		return refs, err
	}
	rs, err := v.cfg.Releases.Of(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("published releases: %w", err)
	}
	for _, r := range rs {
		refs = append(refs, appraise.Reference{Group: group, Kind: appraise.Firmware, PCR: evidence.PCRFirmware, Digest: r.Measured,
			Name: string(r.Product), Version: r.Version.String(), Released: true})
	}
	return refs, nil
}
