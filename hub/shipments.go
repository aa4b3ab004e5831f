package hub

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"holdfast/hub/fleet"
	"holdfast/hub/stream"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/logs"
	"holdfast/measure"
	"holdfast/posture"
)

// reportEvery bounds how often stored logs are reported as evidence: it has to
// be fresher than any policy demands, and not a write per shipment.
const reportEvery = time.Hour

// shipments stores the logs that devices ship, and reports as evidence that
// they arrive, and whether some are missing.
type shipments struct {
	stream *stream.Stream
	fleet  *fleet.Fleet
	crash  func(identity.Device, []logs.Record) // told of all that is stored
	log    *slog.Logger
	wake   chan struct{}

	mu      sync.Mutex
	devices map[identity.Device]*shipment
	due     map[identity.Device]bool
}

// shipment is what is known of a device's logs in this process.
type shipment struct {
	last     uint64 // sequence number of the newest stored record
	missing  uint64 // records between stored ones that never came
	reported time.Time
}

func newShipments(s *stream.Stream, f *fleet.Fleet, crash func(identity.Device, []logs.Record), log *slog.Logger) *shipments {
	return &shipments{stream: s, fleet: f, crash: crash, log: log, wake: make(chan struct{}, 1),
		devices: map[identity.Device]*shipment{}, due: map[identity.Device]bool{}}
}

// AppendLogs implements gateway.LogSink.
func (s *shipments) AppendLogs(m iothub.Message, rs []logs.Record, done func(error)) {
	device := m.Device
	s.stream.Append(m, func(err error) {
		if err == nil {
			s.stored(device, rs, time.Now())
			s.crash(device, rs)
		}
		done(err)
	})
}

// stored notes records that are on disk. It is called from the committer and
// leaves the writing to Run.
func (s *shipments) stored(d identity.Device, rs []logs.Record, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.devices[d]
	if sh == nil {
		sh = &shipment{last: rs[0].Seq}
		s.devices[d] = sh
	}
	missing := sh.missing
	for _, r := range rs {
		if r.Seq > sh.last && r.Seq-sh.last > 1 {
			sh.missing += r.Seq - sh.last - 1
		}
		sh.last = max(sh.last, r.Seq)
	}
	if sh.missing == missing && now.Sub(sh.reported) < reportEvery {
		return
	}
	sh.reported = now
	s.due[d] = true
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run reports what was stored until ctx ends.
func (s *shipments) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		for d, row := range s.take() {
			s.report(ctx, d, row)
		}
	}
}

// report reports of one device; a panic is no other's loss.
func (s *shipments) report(ctx context.Context, d identity.Device, row measure.Row) {
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "panic while logs were reported", "device", d, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	if _, err := s.fleet.Report(ctx, d, posture.Logs, []measure.Row{row}); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "report stored logs", "device", d, "err", err)
	}
}

// take returns the rows that are due.
func (s *shipments) take() map[identity.Device]measure.Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := map[identity.Device]measure.Row{}
	for d := range s.due {
		sh := s.devices[d]
		reason := fmt.Sprintf("records up to %d are stored", sh.last)
		if sh.missing > 0 {
			reason += fmt.Sprintf("; %d were dropped by the device", sh.missing)
		}
		rows[d] = measure.Row{Measure: measure.AppErrorLogging, Verdict: measure.Pass, Grade: measure.Observed, Reason: reason, Time: sh.reported.UTC()}
	}
	clear(s.due)
	return rows
}
