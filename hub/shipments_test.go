package hub

import (
	"log/slog"
	"testing"
	"time"

	"holdfast/identity"
	"holdfast/logs"
	"holdfast/measure"
)

var start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// numbered are records with those sequence numbers.
func numbered(seqs ...uint64) []logs.Record {
	rs := make([]logs.Record, len(seqs))
	for i, s := range seqs {
		rs[i].Seq = s
	}
	return rs
}

func TestShipmentsReportOnceAnHourUnlessRecordsAreMissing(t *testing.T) {
	s := newShipments(nil, nil, func(identity.Device, []logs.Record) {}, slog.New(slog.DiscardHandler))
	for _, step := range []struct {
		at   time.Duration
		seqs []uint64
		want string // reason of the row that is due; empty: none is
	}{
		{0, []uint64{5, 6, 7}, "records up to 7 are stored"},
		{time.Minute, []uint64{8}, ""},
		{2 * time.Minute, []uint64{7, 8, 9}, ""}, // shipped again: its answer was lost
		{3 * time.Minute, []uint64{12, 13}, "records up to 13 are stored; 2 were dropped by the device"},
		{4 * time.Minute, []uint64{14}, ""},
		{5 * time.Minute, []uint64{16, 18}, "records up to 18 are stored; 4 were dropped by the device"},
		{65 * time.Minute, []uint64{19}, "records up to 19 are stored; 4 were dropped by the device"},
		{66 * time.Minute, []uint64{3}, ""},
	} {
		s.stored("pump-01", numbered(step.seqs...), start.Add(step.at))
		row, due := s.take()["pump-01"]
		if due != (step.want != "") || row.Reason != step.want {
			t.Errorf("after %v: due %v, %q; want %q", step.seqs, due, row.Reason, step.want)
		}
		if due && (row.Measure != measure.AppErrorLogging || row.Verdict != measure.Pass || row.Grade != measure.Observed || !row.Time.Equal(start.Add(step.at))) {
			t.Errorf("row %+v", row)
		}
	}
}

func TestShipmentsKeepDevicesApart(t *testing.T) {
	s := newShipments(nil, nil, func(identity.Device, []logs.Record) {}, slog.New(slog.DiscardHandler))
	for i, d := range []identity.Device{"a", "b", "a"} {
		s.stored(d, numbered(uint64(10*i+1)), start)
	}
	rows := s.take()
	if len(rows) != 2 || rows["a"].Reason != "records up to 21 are stored; 19 were dropped by the device" || rows["b"].Reason != "records up to 11 are stored" {
		t.Errorf("rows %+v", rows)
	}
	s.stored("c", numbered(0, 1), start)
	if row := s.take()["c"]; row.Reason != "records up to 1 are stored" {
		t.Errorf("a device that counts from 0: %q", row.Reason)
	}
	if again := s.take(); len(again) != 0 {
		t.Errorf("reported twice: %+v", again)
	}
}
