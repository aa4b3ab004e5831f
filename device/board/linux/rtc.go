package linux

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// rtc is a hardware clock that keeps UTC. It implements board.RTC. The device
// is opened for each use, because only one program can have it open.
type rtc string

// openRTC returns the clock if it tells a time.
func openRTC(path string) (rtc, error) {
	if path == "" {
		return "", errNotConfigured
	}
	_, err := rtc(path).Now()
	return rtc(path), err
}

// Now returns the clock's time, in UTC, to the second.
func (r rtc) Now() (time.Time, error) {
	f, err := os.Open(string(r))
	if err != nil {
		return time.Time{}, fmt.Errorf("read clock: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	t, err := unix.IoctlGetRTCTime(int(f.Fd()))
	if err != nil {
		return time.Time{}, fmt.Errorf("read clock %s: %w", string(r), err)
	}
	return fromRTC(t)
}

// Set sets the clock.
func (r rtc) Set(t time.Time) error {
	f, err := os.Open(string(r))
	if err != nil {
		return fmt.Errorf("set clock: %w", err)
	}
	defer func() { _ = f.Close() }() // the ioctl did the work
	if err := unix.IoctlSetRTCTime(int(f.Fd()), toRTC(t)); err != nil {
		return fmt.Errorf("set clock %s: %w", string(r), err)
	}
	return nil
}

// fromRTC reads rtc(4)'s struct rtc_time, which counts months from 0 and years
// from 1900. A date that is none, as of a clock without battery, is an error.
func fromRTC(r *unix.RTCTime) (time.Time, error) {
	t := time.Date(int(r.Year)+1900, time.Month(r.Mon+1), int(r.Mday), int(r.Hour), int(r.Min), int(r.Sec), 0, time.UTC)
	if *toRTC(t) != (unix.RTCTime{Sec: r.Sec, Min: r.Min, Hour: r.Hour, Mday: r.Mday, Mon: r.Mon, Year: r.Year}) {
		return time.Time{}, fmt.Errorf("the clock shows no date: %+v", *r)
	}
	return t, nil
}

func toRTC(t time.Time) *unix.RTCTime {
	t = t.UTC()
	return &unix.RTCTime{Sec: int32(t.Second()), Min: int32(t.Minute()), Hour: int32(t.Hour()),
		Mday: int32(t.Day()), Mon: int32(t.Month()) - 1, Year: int32(t.Year()) - 1900}
}
