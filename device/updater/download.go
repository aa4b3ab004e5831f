package updater

import (
	"context"
	"errors"
	"fmt"
	"io"

	"holdfast/delta"
	"holdfast/release"
	"holdfast/update"
)

const (
	copyBuffer = 32 << 10
	syncEvery  = 1 << 20 // bytes that a power cut may cost
)

// download streams a release into the slot, from an offset on of what is there
// from before: by a delta where that is less, else the image itself. What was
// there from before and turns out to be something else is written once more.
func (u *Updater) download(ctx context.Context, rel release.Release, from int64, tell func(any)) any {
	err := u.patch(ctx, rel, from, tell)
	fresh := false // all that was written was read now
	if errors.Is(err, errNone) && ctx.Err() == nil {
		fresh = from == 0
		err = u.whole(ctx, rel, from, tell)
	}
	if err != nil && !fresh && ctx.Err() == nil && !errors.Is(err, errSlot) {
		tell(setback{fmt.Errorf("taking the whole image: %w", err)})
		err = u.whole(ctx, rel, 0, tell)
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		return update.Downloaded{}
	case release.AttackOf(err) != "":
		return update.Refused{Err: err}
	}
	return update.Failed{Action: update.Download, Err: err}
}

var (
	errSlot = errors.New("write the slot")
	errNone = errors.New("no delta is to be had")
)

// whole downloads the image.
func (u *Updater) whole(ctx context.Context, rel release.Release, from int64, tell func(any)) error {
	s, err := u.sink(rel, from, tell)
	if err != nil {
		return err
	}
	tell(part{})
	body := u.cfg.Source.Blob(ctx, rel.Image, s.w.Offset(), func(err error) { tell(setback{err}) })
	defer func() { _ = body.Close() }() // read to its end, or given up
	s.at = s.w.Offset()
	if _, err := io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{body}, make([]byte, copyBuffer)); err != nil {
		return err
	}
	return s.finish()
}

// patch makes the image of the one that runs. Whatever goes wrong in it is
// found before the image counts, and the whole image is taken instead.
func (u *Updater) patch(ctx context.Context, rel release.Release, from int64, tell func(any)) error {
	old, blob := u.cfg.Slots.Running()
	body, length, err := u.cfg.Source.Delta(ctx, blob, rel.Image, func(err error) { tell(setback{err}) })
	if err != nil {
		return fmt.Errorf("%w: %w", errNone, err)
	}
	defer func() { _ = body.Close() }() // read to its end, or given up
	if length >= rel.Image.Length-from {
		return errNone
	}
	s, err := u.sink(rel, from, tell)
	if err != nil {
		return err
	}
	tell(part{length: length})
	limits := delta.Limits{Length: rel.Image.Length, Block: func(at delta.Place) error {
		tell(part{at.Patch, length})
		return ctx.Err()
	}}
	if err := delta.Apply(old, blob.Length, body, s, limits); err != nil {
		return err
	}
	return s.finish()
}

// sink writes an image into the slot, from its first byte on: what the slot
// has from before is not written again, and never more than was signed.
type sink struct {
	w      Writer
	at     int64 // of the image
	synced int64
	limit  int64
	tell   func(any)
}

func (u *Updater) sink(rel release.Release, from int64, tell func(any)) (*sink, error) {
	w, err := u.cfg.Slots.Write(rel, from)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSlot, err)
	}
	return &sink{w: w, synced: w.Offset(), limit: rel.Image.Length, tell: tell}, nil
}

// Write implements io.Writer.
func (s *sink) Write(p []byte) (int, error) {
	if int64(len(p)) > s.limit-s.at {
		return 0, release.Refuse(release.EndlessData, fmt.Errorf("more than the %d bytes that were signed", s.limit))
	}
	have := min(max(s.synced-s.at, 0), int64(len(p)))
	n, err := s.w.Write(p[have:])
	s.at += have + int64(n)
	if err == nil && s.at-s.synced >= syncEvery {
		err = s.sync()
	}
	if err != nil {
		return int(have) + n, fmt.Errorf("%w: %w", errSlot, err)
	}
	return len(p), nil
}

// sync makes what was written survive a power cut.
func (s *sink) sync() error {
	if err := s.w.Sync(); err != nil {
		return err
	}
	s.synced = s.w.Offset()
	s.tell(update.Chunk{Bytes: s.synced})
	return nil
}

// finish ends the image.
func (s *sink) finish() error {
	err := s.w.Finish()
	if err != nil && release.AttackOf(err) == "" {
		return fmt.Errorf("%w: %w", errSlot, err)
	}
	return err
}
