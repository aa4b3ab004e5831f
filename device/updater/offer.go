package updater

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/backoff"
	"holdfast/mcuboot"
	"holdfast/release"
	"holdfast/tuf"
	"holdfast/update"
)

// Limits of an offer.
const (
	maxOffer   = 16 << 10 // bytes
	maxDepth   = 8        // of its JSON
	maxWindows = 32
	maxRollout = 64 // bytes of a rollout's id
)

// ParseOffer reads an offer as it came from the hub. What it refuses is
// release.MalformedMetadata. Members that it does not know are for later
// devices, and are passed over.
func ParseOffer(body []byte) (release.Offer, error) {
	o, err := parseOffer(body)
	if err != nil {
		return release.Offer{}, release.Refuse(release.MalformedMetadata, fmt.Errorf("offer: %w", err))
	}
	return o, nil
}

func parseOffer(body []byte) (o release.Offer, err error) {
	if err := tuf.CheckStrict(body, maxOffer, maxDepth); err != nil {
		return o, err
	}
	if err := json.Unmarshal(body, &o); err != nil {
		return o, err
	}
	if o.Product == "" {
		return release.Offer{}, nil // stay as you are
	}
	if _, err := release.ParseProduct(string(o.Product)); err != nil {
		return o, err
	}
	switch {
	case o.Version == (mcuboot.Version{}):
		return o, errors.New("no version")
	case o.Attempt < 0 || len(o.Windows) > maxWindows:
		return o, errors.New("attempt or windows are out of bounds")
	case len(o.Rollout) > maxRollout || strings.ContainsFunc(o.Rollout, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return o, errors.New("the rollout's id is no plain text")
	}
	for _, w := range o.Windows {
		for _, text := range []string{w.From, w.To} {
			if _, err := time.Parse("15:04", text); err != nil {
				return o, fmt.Errorf("window: %w", err)
			}
		}
	}
	return o, nil
}

// Offer takes an offer as it came from the hub. It does not wait; of several
// the newest counts.
func (u *Updater) Offer(body []byte) {
	for {
		select {
		case u.offers <- body:
			return
		default:
		}
		select {
		case <-u.offers:
		default:
		}
	}
}

// offered begins to follow an offer.
func (u *Updater) offered(ctx context.Context, body []byte) {
	o, err := ParseOffer(body)
	if err != nil {
		u.trouble(err)
		return
	}
	u.offer = o
	u.look(ctx)
	if o.Product == "" { // nothing is to be looked up, and nothing to be waited for
		u.step(ctx, update.Offered{})
	}
}

// look brings the metadata up to date and looks up what the newest offer names,
// however long that takes. Without an offer it keeps the metadata fresh.
func (u *Updater) look(ctx context.Context) {
	o := u.offer
	u.begin(ctx, &u.lookup, func(ctx context.Context, tell func(any)) any {
		delays := backoff.New(slow)
		for {
			err := u.cfg.Metadata.Refresh(ctx)
			if err == nil && o.Product == "" {
				return nil
			}
			if err == nil {
				e := u.find(o)
				if !passes(e.Err) {
					return found{e}
				}
				err = e.Err
			}
			if ctx.Err() != nil {
				return nil
			}
			tell(setback{err})
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(delays.Next()):
			}
		}
	})
}

// passes reports whether a release may yet be found: the clock is set late, or
// the hub signs late.
func passes(err error) bool {
	a := release.AttackOf(err)
	return a == release.WrongClock || a == release.IndefiniteFreeze
}

// find looks an offer up in the metadata.
func (u *Updater) find(o release.Offer) update.Offered {
	e := update.Offered{Offer: o}
	if o.Product != u.cfg.Product {
		e.Err = release.Refuse(release.WrongProduct, fmt.Errorf("%s was offered, this device is a %s", o.Product, u.cfg.Product))
		return e
	}
	if e.Release, e.Err = u.cfg.Metadata.Find(o.Version); e.Err != nil {
		return e
	}
	for _, check := range e.Release.Health.Checks {
		if u.cfg.Checks[check] == nil {
			e.Err = fmt.Errorf("%s wants the health check %q, which this device cannot make", e.Release.Path(), check)
		}
	}
	return e
}

// trouble reports what will be tried again, once while it stays the same.
func (u *Updater) trouble(err error) {
	p := u.progress()
	if !u.machine.Busy() {
		p = release.Progress{Rollout: u.offer.Rollout, Attempt: u.offer.Attempt, Product: u.offer.Product, Version: u.offer.Version, State: release.Idle}
	}
	p.Reason, p.Attack, p.Final = cut(err.Error()), release.AttackOf(err), false
	if last := u.Status().Progress; last != nil && last.Reason == p.Reason && last.State == p.State && last.Version == p.Version {
		return
	}
	u.cfg.Log.Warn("update does not go on", "err", err)
	u.report(p)
}

// cut returns text that fits a report.
func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), release.MaxText)], "") }

// underway reports how far a download is, now and then.
func (u *Updater) underway() {
	if time.Since(u.reported) >= reportEvery {
		u.reported = time.Now()
		u.report(u.progress())
	}
}
