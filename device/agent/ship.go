package agent

import (
	"context"
	"encoding/json"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"holdfast/iothub"
)

// shipEvery leaves records time to gather, so that a burst is one shipment.
const shipEvery = time.Second

// ship delivers log records as long as the session lasts. It logs nothing of
// its successes: each would be one more record to ship.
func (a *Agent) ship(ctx context.Context, s Session) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.Done():
			return
		case <-time.After(shipEvery):
		}
		sent, err := a.shipment(ctx, s)
		if err != nil || sent {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-s.Done():
			return
		case <-a.cfg.Spool.Ready():
		}
	}
}

// shipment delivers one batch and reports whether there was one. A record is
// forgotten only when the hub has acknowledged it.
func (a *Agent) shipment(ctx context.Context, s Session) (bool, error) {
	rs, err := a.cfg.Spool.Batch()
	if err != nil || len(rs) == 0 {
		return false, err
	}
	body, err := json.Marshal(rs)
	if err != nil {
		return false, err
	}
	if err := s.Publish(ctx, iothub.Logs{First: rs[0].Seq}, body); err != nil {
		return false, err
	}
	return true, a.cfg.Spool.Ack(rs[len(rs)-1].Seq)
}

// reading is the telemetry of a device without sensors: what its runtime
// measures of itself.
type reading struct {
	Uptime   int64   `json:"uptime_seconds"` // of the runtime
	Resident int64   `json:"resident_bytes"` // memory of the process; 0 where unknown
	Heap     uint64  `json:"heap_bytes"`
	Load     float64 `json:"load_1m"` // of the machine; 0 where unknown
	Routines int     `json:"goroutines"`
}

// measure publishes a reading at each interval while it may.
func (a *Agent) measure(ctx context.Context, s Session, may <-chan bool) {
	tick := time.NewTicker(a.cfg.Telemetry)
	defer tick.Stop()
	allowed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.Done():
			return
		case allowed = <-may:
		case <-tick.C:
			if !allowed {
				continue
			}
			body, err := json.Marshal(read(time.Since(a.started)))
			if err == nil {
				err = s.Publish(ctx, iothub.Events{Device: a.id}, body)
			}
			if err != nil && ctx.Err() == nil {
				a.cfg.Log.Debug("telemetry not delivered", "err", err)
			}
		}
	}
}

func read(uptime time.Duration) reading {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	return reading{
		Uptime:   int64(uptime / time.Second),
		Resident: field("/proc/self/statm", 1) * int64(os.Getpagesize()),
		Heap:     heap[0].Value.Uint64(),
		Load:     load(),
		Routines: runtime.NumGoroutine(),
	}
}

// field returns a field of a file of numbers, 0 where there is none.
func field(path string, i int) int64 {
	b, err := os.ReadFile(path)
	if fs := strings.Fields(string(b)); err == nil && i < len(fs) {
		n, _ := strconv.ParseInt(fs[i], 10, 64) // 0 when it is no number
		return n
	}
	return 0
}

func load() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if fs := strings.Fields(string(b)); err == nil && len(fs) > 0 {
		v, _ := strconv.ParseFloat(fs[0], 64) // 0 when it is no number
		return v
	}
	return 0
}
