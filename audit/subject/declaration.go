package subject

import "time"

// Declaration is what the makers of a firmware say of it, in
// .holdfast-audit.yaml: the rules compare it with what is there.
type Declaration struct {
	File     string    // where it was said; empty: nowhere
	Modules  []string  // protocols that may be linked: "mqtt", "dhcp", "sntp"
	Ports    []string  // that may listen: "tcp/8883"
	Core     string    // "cortex-m4": what the alignment rules go by when the input does not tell
	Language string    // "c", "c++", "rust"
	Version  string    // of the firmware
	Now      time.Time // when the audit is made, for the dates of certificates; zero: not known
}
