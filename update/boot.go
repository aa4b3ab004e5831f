package update

import (
	"errors"
	"fmt"

	"holdfast/identity"
	"holdfast/mcuboot"
)

// Image is what a slot was found to hold.
type Image struct {
	Slot            Slot
	Measured        identity.Digest // what the boot ROM measures of it
	Version         mcuboot.Version
	SecurityVersion uint32
}

// ErrNotStaged is why a trial does not boot when its slot holds another image
// than the one that was verified there.
var ErrNotStaged = errors.New("another image than was staged")

// unconfirmed is the reason of a trial that booted and was not committed.
const unconfirmed = "the trial was not confirmed"

// Refusal is a slot that does not boot. Err is a mcuboot.Refusal with details,
// or ErrNotStaged.
type Refusal struct {
	Slot Slot
	Err  error
}

// Choice is the boot ROM's decision.
type Choice struct {
	Image    Image // what boots; the zero Image: nothing may
	Trial    bool  // it is a trial: arm the watchdog with Record.Trial's deadline
	Record   Record
	Write    bool // Record has changed; it has to be on stable storage before a trial boots
	Reverted bool // a trial has failed: Record.Last
	Refused  []Refusal
}

// Boot decides what boots. look verifies what a slot holds; it is asked for no
// slot that does not matter. minimum is the least security version, cause that
// of the reset before this boot.
func Boot(rec Record, look func(Slot) (Image, error), minimum uint32, cause string) Choice {
	c := Choice{Record: rec}
	if c.try(look, minimum, cause) {
		return c
	}
	first := c.Record.First()
	for _, s := range []Slot{first, first.Other()} {
		img, err := admit(look, s, minimum)
		if err == nil {
			c.Image = img
			return c
		}
		c.refuse(s, err)
	}
	return c
}

// try settles the record's trial and reports whether it boots.
func (c *Choice) try(look func(Slot) (Image, error), minimum uint32, cause string) bool {
	t := c.Record.Trial
	if t == nil {
		return false
	}
	c.Write = true
	switch {
	case c.Record.Trying():
		c.Record, c.Reverted = c.Record.Revert(unconfirmed, cause), true
		return false
	case t.Tried: // committed; the power went before the trial was cleared
		c.Record = c.Record.Clear()
		return false
	}
	img, err := admit(look, t.Slot, minimum)
	if err == nil && img.Measured != t.Digest {
		err = ErrNotStaged
	}
	if err != nil {
		c.refuse(t.Slot, err)
		c.Record, c.Reverted = c.Record.Revert(err.Error(), cause), true
		return false
	}
	c.Image, c.Trial, c.Record = img, true, c.Record.Consume()
	return true
}

func admit(look func(Slot) (Image, error), s Slot, minimum uint32) (Image, error) {
	img, err := look(s)
	if err == nil && img.SecurityVersion < minimum {
		err = fmt.Errorf("%w: %d, the least is %d", mcuboot.LowSecurityCounter, img.SecurityVersion, minimum)
	}
	if err != nil {
		return Image{}, err
	}
	img.Slot = s
	return img, nil
}

// refuse notes a slot once.
func (c *Choice) refuse(s Slot, err error) {
	for _, r := range c.Refused {
		if r.Slot == s {
			return
		}
	}
	c.Refused = append(c.Refused, Refusal{s, err})
}
