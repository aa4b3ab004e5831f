package verifier

import (
	"context"
	"fmt"
	"slices"

	"holdfast/appraise"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
)

// AddReference adds a reference value on behalf of an operator. Devices are
// judged by it from their next attestation on. The ledger has it first: what
// decides which firmware is good never changes without a record.
func (v *Verifier) AddReference(ctx context.Context, by string, r operator.Reference) error {
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
// the ledger has it.
func (v *Verifier) RemoveReference(ctx context.Context, by string, group identity.Group, digest identity.Digest) error {
	refs, err := v.cfg.Store.References(ctx, group)
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

// References returns a group's reference values.
func (v *Verifier) References(ctx context.Context, group identity.Group) ([]operator.Reference, error) {
	refs, err := v.cfg.Store.References(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("reference values of %s: %w", group, err)
	}
	out := make([]operator.Reference, 0, len(refs))
	for _, r := range refs {
		out = append(out, operator.Reference{Group: r.Group, Kind: string(r.Kind), PCR: r.PCR, Digest: r.Digest, Name: r.Name, Version: r.Version})
	}
	return out, nil
}
