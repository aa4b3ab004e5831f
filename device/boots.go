package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/atomicfile"
)

// boots counts the device's boots, which its log records carry.
type boots struct {
	Count  uint64 `json:"count"`
	Kernel string `json:"kernel,omitempty"` // boot_id of the kernel, where a boot is one of the kernel's
}

// countBoot returns the number of this boot and whether the runtime runs in it
// for the first time. A Linux machine boots when its kernel does; a virtual
// board, whenever its firmware starts. A damaged count begins anew: it orders
// records for readers and protects nothing.
func countBoot(dir string, kernel string) (n uint64, first bool, err error) {
	path := filepath.Join(dir, "boots.json")
	var b boots
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, false, fmt.Errorf("count boot: %w", err)
	}
	if err == nil && json.Unmarshal(text, &b) != nil {
		b = boots{}
	}
	if kernel != "" && b.Kernel == kernel {
		return b.Count, false, nil
	}
	b.Count, b.Kernel = b.Count+1, kernel
	if text, err = json.Marshal(b); err != nil {
		return 0, false, fmt.Errorf("count boot: %w", err)
	}
	return b.Count, true, atomicfile.Write(path, text, 0o600)
}

// kernelBoot returns the boot_id of the Linux kernel, or "".
func kernelBoot() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// lock takes a state directory for this process alone.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("state directory %s is in use by another process: %w", dir, err), f.Close())
	}
	return f, nil
}
