package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"holdfast/device/agent"
	"holdfast/device/provision"
	"holdfast/device/updater"
	"holdfast/internal/atomicfile"
)

// Status is what a device last knew of itself.
type Status struct {
	agent.Status
	Hub     string         `json:"hub"`
	Update  updater.Status `json:"update,omitzero"`
	Updated time.Time      `json:"updated"` // by the system's clock
}

func statusPath(dir string) string { return filepath.Join(dir, "status.json") }

// LoadStatus reads what a device in dir last knew of itself. It does not need
// the device to run.
func LoadStatus(dir string) (Status, error) {
	var s Status
	p, err := provision.Load(dir)
	if err != nil {
		return s, err
	}
	s.Hub, s.Phase = p.Hub, agent.Provisioned
	b, err := os.ReadFile(statusPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read status: %w", err)
	}
	return s, nil
}

// report keeps what the agent knows.
func (d *Device) report(a agent.Status) error { return d.keep(func(s *Status) { s.Status = a }) }

// updated keeps what the updater knows. It is for people, and no step depends
// on it.
func (d *Device) updated(u updater.Status) {
	if err := d.keep(func(s *Status) { s.Update = u }); err != nil {
		d.log.Warn("status not kept", "err", err)
	}
}

func (d *Device) keep(f func(*Status)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.status)
	d.status.Hub, d.status.Updated = d.provision.Hub, time.Now().UTC()
	b, err := json.Marshal(d.status)
	if err != nil {
		return err
	}
	return atomicfile.Write(statusPath(d.cfg.Dir), b, 0o600)
}
