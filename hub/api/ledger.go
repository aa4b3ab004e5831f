package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
)

func (a *api) registerLedger(h huma.API) {
	type list struct {
		From   int64           `query:"from" minimum:"1" doc:"first sequence number; with newest, the last one; default the beginning, or the end"`
		Limit  int             `query:"limit" default:"1000" minimum:"1" maximum:"10000" doc:"most records to answer"`
		Newest bool            `query:"newest" doc:"the newest first"`
		Device identity.Device `query:"device" doc:"only of this device"`
		Kind   string          `query:"kind" maxLength:"64" doc:"only this kind"`
	}
	serve(a, h, op("list-ledger", http.MethodGet, "/v1/ledger", "Read the ledger"),
		func(ctx context.Context, in *list) ([]ledger.Record, error) {
			return a.records(ctx, operator.LedgerQuery{From: in.From, Limit: in.Limit, Newest: in.Newest, Device: in.Device, Kind: in.Kind})
		})
	serve(a, h, op("show-ledger-head", http.MethodGet, "/v1/ledger/head", "Show the ledger's signed head"),
		func(ctx context.Context, _ *struct{}) (ledger.Head, error) { return a.Ledger.Head(ctx) })
}

// ledgerBatch is how many records are looked through at a time for those that
// whoever asks sees.
const ledgerBatch = 1000

// records reads on until it has as many as are wanted that whoever asks sees.
func (a *api) records(ctx context.Context, q operator.LedgerQuery) ([]ledger.Record, error) {
	if operator.From(ctx).Groups == nil {
		return a.Ledger.Records(ctx, q)
	}
	limit, s := q.Limit, a.sight(ctx)
	out := []ledger.Record{}
	for q.Limit = ledgerBatch; ; {
		rs, err := a.Ledger.Records(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, r := range rs {
			seen, err := s.record(ctx, r)
			if err != nil {
				return nil, err
			}
			if seen {
				out = append(out, r)
			}
			if len(out) == limit {
				return out, nil
			}
		}
		if len(rs) < ledgerBatch {
			return out, nil
		}
		last := int64(rs[len(rs)-1].Seq)
		if q.From = last + 1; q.Newest {
			q.From = last - 1
		}
		if q.From == 0 {
			return out, nil
		}
	}
}

// record reports whether a record is one that is seen: of a device, when the
// device is; otherwise of a group that is. What concerns neither is the hub's.
func (s *sight) record(ctx context.Context, r ledger.Record) (bool, error) {
	if r.Device != "" {
		return s.device(ctx, r.Device)
	}
	return r.Group != "" && s.p.Sees(r.Group), nil
}
