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
	"holdfast/internal/atomicfile"
)

// Status is what a device last knew of itself.
type Status struct {
	agent.Status
	Hub     string    `json:"hub"`
	Updated time.Time `json:"updated"` // by the system's clock
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

func (d *Device) report(s agent.Status) error {
	b, err := json.Marshal(Status{Status: s, Hub: d.provision.Hub, Updated: time.Now().UTC()})
	if err != nil {
		return err
	}
	return atomicfile.Write(statusPath(d.cfg.Dir), b, 0o600)
}
