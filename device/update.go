package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"holdfast/device/agent"
	"holdfast/device/call"
	"holdfast/device/clock"
	"holdfast/device/fetch"
	"holdfast/device/keys"
	"holdfast/device/slots"
	"holdfast/device/updater"
	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/measure"
	"holdfast/posture"
	"holdfast/release"
	"holdfast/tuf"
)

// openUpdater makes the device's updater, if it may have one. A device that
// takes no updates does not ask for offers.
func (d *Device) openUpdater(hub *call.Caller, tpm *keys.TPM) error {
	u, err := d.newUpdater(hub, tpm)
	if reason, off := errors.AsType[noUpdates](err); off {
		d.log.Warn("no updates", "reason", string(reason))
		d.updated(updater.Status{Off: string(reason)})
		return nil
	}
	if err != nil {
		return err
	}
	d.updater = u
	d.updated(u.Status())
	return nil
}

// noUpdates is why a device takes none.
type noUpdates string

// Error implements error.
func (n noUpdates) Error() string { return string(n) }

func (d *Device) newUpdater(hub *call.Caller, tpm *keys.TPM) (*updater.Updater, error) {
	b, p := d.cfg.Board, d.provision
	switch {
	case len(p.ReleaseRoot) == 0:
		return nil, noUpdates("no release root was provisioned")
	case p.Product == "":
		return nil, noUpdates("no product was provisioned")
	case b.Slots == nil:
		return nil, noUpdates("the board has no slots for firmware: " + b.Missing["slots"])
	case b.Reset == nil:
		return nil, noUpdates("the board cannot be reset")
	}
	source, err := fetch.New(fetch.Config{Dial: func(ctx context.Context) (fetch.Conn, error) { return d.connect(ctx, hub) }})
	if err != nil {
		return nil, err
	}
	metadata, err := fetch.Open(fetch.Trust{Source: source, Dir: filepath.Join(d.cfg.Dir, "releases"), Root: p.ReleaseRoot,
		Product: p.Product, Clock: d.tufClock})
	if err != nil { // nothing is installed by what cannot be trusted; the rest of the device goes on
		return nil, noUpdates(err.Error())
	}
	firmware, err := openSlots(b, tpm)
	if err != nil {
		return nil, noUpdates(err.Error())
	}
	u, err := updater.New(updater.Config{
		Path: filepath.Join(d.cfg.Dir, "update.json"), Product: p.Product, Hardware: d.hardware(), Slots: places{firmware},
		Metadata: metadata, Source: contents{source}, Clock: d.tufClock, Checks: d.checks(), Started: d.started,
		Changed: d.updated, Log: d.log,
	})
	if err != nil {
		return nil, noUpdates(err.Error())
	}
	return u, nil
}

// hardware is the board's revision; what was provisioned counts where the board
// does not say.
func (d *Device) hardware() string {
	if h := d.cfg.Board.Hardware; h != "" {
		return h
	}
	return d.provision.Hardware
}

// connect opens a connection to the repository as the device that this is.
func (d *Device) connect(ctx context.Context, hub *call.Caller) (fetch.Conn, error) {
	cert := d.agent.Certificate()
	if cert == nil {
		return nil, fault.New(fault.Unavailable, "the device is not born yet")
	}
	conn, err := hub.Connect(ctx, cert)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// tufClock is what the device knows of the time.
func (d *Device) tufClock() tuf.Clock {
	now, state := d.clock.Now()
	if state == clock.RTC {
		return tuf.At(now)
	}
	return tuf.Clock{Floor: now}
}

// serveUpdates hands a session to the updater.
func (d *Device) serveUpdates(ctx context.Context, s agent.Session) {
	if d.updater != nil {
		d.updater.Serve(ctx, s)
	}
}

// checks are the health checks that this device can make.
func (d *Device) checks() map[string]func() error {
	all := map[string]func() error{release.CheckHub: func() error { return connected(d.agent.Health()) }}
	if d.cfg.Board.TPM != nil {
		all[release.CheckAttested] = func() error { return attested(d.agent.Health()) }
	}
	if d.cfg.Board.Watchdog != nil {
		all[release.CheckWatchdog] = func() error { return watched(d.guard.Report()) }
	}
	return all
}

func connected(h agent.Health) error {
	if !h.Session {
		return errors.New("no session with the hub is open")
	}
	return nil
}

// vetoes are the demands that keep a trial from being committed where they are
// why the device is in quarantine. That the counter is not burned yet is no
// fault of a trial.
var vetoes = []measure.ID{measure.FirmwareSecureBoot, measure.FirmwareSigning}

func attested(h agent.Health) error {
	switch {
	case !h.Proven:
		return errors.New("the hub has not verified evidence of this boot")
	case h.Posture == nil:
		return errors.New("the hub has not said what it thinks of this boot")
	}
	passes := false
	for _, row := range h.Posture.Rows {
		if row.Measure == measure.IdentityAttestation {
			passes = row.Verdict == measure.Pass
		}
	}
	if !passes {
		return errors.New("the hub does not accept the attestation of this boot")
	}
	if h.Posture.Status != posture.Quarantined {
		return nil
	}
	for _, o := range h.Posture.Decision.Outcomes {
		for _, id := range vetoes {
			if o.Measure == id && o.Standing == posture.Unmet {
				return fmt.Errorf("quarantined: %s", o)
			}
		}
	}
	return nil
}

func watched(w evidence.Watchdog) error {
	if !w.Armed {
		return errors.New("the watchdog is not armed")
	}
	for name, passes := range w.Checks {
		if !passes {
			return fmt.Errorf("the watchdog's check %q fails", name)
		}
	}
	return nil
}

// places are a board's slots, for the updater.
type places struct{ *slots.Slots }

// Running implements updater.Slots.
func (p places) Running() (io.ReaderAt, release.Blob) {
	img := p.Slots.Running()
	return img, release.Blob{Length: img.Size, SHA256: img.Blob}
}

// Write implements updater.Slots.
func (p places) Write(rel release.Release, offset int64) (updater.Writer, error) {
	w, err := p.Resume(rel, offset)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// contents are what the repository has, for the updater.
type contents struct{ *fetch.Source }

// Blob implements updater.Source.
func (c contents) Blob(ctx context.Context, b release.Blob, from int64, trouble func(error)) io.ReadCloser {
	return c.Source.Blob(ctx, b, from, trouble)
}

// Delta implements updater.Source.
func (c contents) Delta(ctx context.Context, from, to release.Blob, trouble func(error)) (io.ReadCloser, int64, error) {
	s, err := c.Source.Delta(ctx, from, to, trouble)
	if err != nil {
		return nil, 0, err
	}
	return s, s.Length(), nil
}
