package api_test

import (
	"encoding/json"
	"testing"

	"holdfast/identity"
	"holdfast/operator"
)

// TestTheLedgerSaysFromWhere has an operator act on everything: each record of
// what they did says where they were and how they proved who they are, in
// whichever service it was done.
func TestTheLedgerSaysFromWhere(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	before, err := w.api.SearchLedger(ctx, operator.LedgerQuery{Newest: true, Limit: 1})
	if err != nil || len(before) != 1 {
		t.Fatalf("%v, %v", before, err)
	}
	digest := identity.Sum([]byte("firmware"))
	for what, act := range map[string]func() error{
		"group": func() error {
			_, err := w.api.SetGroup(ctx, "pumps", operator.SetGroup{FileKeys: true, SelfSigned: true})
			return err
		},
		"device": func() error {
			_, err := w.api.AddDevice(ctx, operator.AddDevice{ID: "pump-09", Group: "pumps", Token: true})
			return err
		},
		"quarantine": func() error { _, err := w.api.Act(ctx, "lamp-01", "quarantine", "odd"); return err },
		"revoke many": func() error {
			_, err := w.api.RevokeDevices(ctx, operator.RevokeDevices{Devices: []identity.Device{"lamp-02"}, Reason: "stolen"})
			return err
		},
		"reference": func() error {
			return w.api.AddReference(ctx, operator.Reference{Group: "lab", Kind: "firmware", PCR: 4, Digest: digest, Name: "fw"})
		},
		"twin": func() error {
			_, err := w.api.MergeTwin(ctx, "lamp-03", operator.SetTwin{Tags: json.RawMessage(`{"hall":"north"}`)}, "")
			return err
		},
		"message": func() error {
			_, err := w.api.SendMessage(ctx, "lamp-03", operator.SendMessage{Body: "hello"})
			return err
		},
		"enrolment": func() error {
			_, err := w.api.AddEnrollment(ctx, operator.Enrollment{Kind: operator.Individual, ID: "pump-10", Group: "pumps", Certificates: []identity.Digest{digest}})
			return err
		},
		"account": func() error {
			_, err := w.api.AddAccount(ctx, operator.Account{Name: "ada", Role: operator.RoleViewer})
			return err
		},
		"token": func() error {
			_, err := w.api.AddToken(ctx, operator.AddToken{Name: "t", Role: operator.RoleViewer, TTL: 600})
			return err
		},
	} {
		if err := act(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	records, err := w.api.SearchLedger(ctx, operator.LedgerQuery{From: int64(before[0].Seq) + 1, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, r := range records {
		if r.Actor != "admin" {
			continue
		}
		kinds[string(r.Kind)] = true
		var d struct{ From, Via string }
		if err := json.Unmarshal(r.Details, &d); err != nil || d.From != "127.0.0.1" || d.Via != "certificate" {
			t.Errorf("%s: %s", r.Kind, r.Details)
		}
	}
	if len(kinds) < 10 {
		t.Errorf("only records of %v", kinds)
	}
}
