package operator

import (
	"fmt"
	"math"
)

// What Limits can be at most: what a session holds.
const (
	MaxMessageBytes = 256 << 10
	MaxInFlight     = 256
	MaxBurst        = 3600 // seconds
)

// Limits are what one device may send over MQTT and fetch of releases, and what all
// devices of its group may together. Zero is the hub's default, which for a group,
// and for what is fetched, is no limit. What is over the rates is read or written
// later; what would wait too long, or is too large, ends the session.
type Limits struct {
	MessagesPerSecond int `json:"messages_per_second,omitempty" minimum:"0" doc:"messages in a second"`
	BytesPerSecond    int `json:"bytes_per_second,omitempty" minimum:"0" doc:"bytes of topics and bodies in a second"`
	BurstSeconds      int `json:"burst_seconds,omitempty" minimum:"0" maximum:"3600" doc:"for how many seconds a silent device saves its rates up"`
	MaxMessageBytes   int `json:"max_message_bytes,omitempty" minimum:"0" maximum:"262144" doc:"bytes of one telemetry message's body"`
	InFlight          int `json:"in_flight,omitempty" minimum:"0" maximum:"256" doc:"messages that have not been acknowledged"`

	GroupMessagesPerSecond int `json:"group_messages_per_second,omitempty" minimum:"0" doc:"messages in a second of all devices of the group together"`
	GroupBytesPerSecond    int `json:"group_bytes_per_second,omitempty" minimum:"0" doc:"bytes of topics and bodies in a second of all devices of the group together"`

	DownloadBytesPerSecond      int `json:"download_bytes_per_second,omitempty" minimum:"0" doc:"bytes of releases in a second that a device may fetch"`
	GroupDownloadBytesPerSecond int `json:"group_download_bytes_per_second,omitempty" minimum:"0" doc:"bytes of releases in a second that all devices of the group may fetch together"`
}

// Check says which limit cannot be.
func (l Limits) Check() error {
	for _, c := range []struct {
		name      string
		have, max int
	}{
		{"messages per second", l.MessagesPerSecond, math.MaxInt32}, {"bytes per second", l.BytesPerSecond, math.MaxInt32},
		{"seconds of burst", l.BurstSeconds, MaxBurst}, {"bytes of a message", l.MaxMessageBytes, MaxMessageBytes},
		{"messages in flight", l.InFlight, MaxInFlight},
		{"messages per second of the group", l.GroupMessagesPerSecond, math.MaxInt32}, {"bytes per second of the group", l.GroupBytesPerSecond, math.MaxInt32},
		{"bytes of releases per second", l.DownloadBytesPerSecond, math.MaxInt32}, {"bytes of releases per second of the group", l.GroupDownloadBytesPerSecond, math.MaxInt32},
	} {
		if c.have < 0 || c.have > c.max {
			return fmt.Errorf("%d %s: want 0 (the default) to %d", c.have, c.name, c.max)
		}
	}
	return nil
}
