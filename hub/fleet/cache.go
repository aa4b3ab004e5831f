package fleet

import (
	"context"
	"crypto/x509"
	"fmt"

	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
)

// maxRecords bounds how many records are kept in memory, some 6 KiB each: enough
// for the devices that come at a time, few beside those that are connected.
const maxRecords = 512

// read returns a device's record for who holds its lock: from memory where it
// was read or written lately. That is exact because one process at a time
// works on a store, and records change under the device's lock alone. What is
// in memory is never changed itself.
func (f *Fleet) read(ctx context.Context, id identity.Device) (Record, error) {
	f.mu.Lock()
	r, ok := f.records[id]
	f.mu.Unlock()
	if ok {
		return r, nil
	}
	r, err := f.cfg.Store.Device(ctx, id)
	if err == nil {
		f.keep(r)
	}
	return r, err
}

// write saves a device's record for who holds its lock.
func (f *Fleet) write(ctx context.Context, r Record, es []Event) error {
	if err := f.cfg.Store.SaveDevice(ctx, r, es); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.records, r.ID) // it may have been written or not
		return err
	}
	f.keep(r)
	f.index.put(OutlineOf(r))
	return nil
}

func (f *Fleet) keep(r Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.records[r.ID]; !known && len(f.records) >= maxRecords {
		for other := range f.records {
			delete(f.records, other) // any one: the next reader fetches it again
			break
		}
	}
	f.records[r.ID] = r
}

// authority is a registered authority with its certificate.
type authority struct {
	operator.CA
	cert *x509.Certificate
}

// authorities returns the registered authorities: from memory where they were
// read since saveCA last changed them, as each connection of a maker's device
// asks for them. What is in memory is never changed itself.
func (f *Fleet) authorities(ctx context.Context) ([]authority, error) {
	f.mu.Lock()
	as, epoch := f.cas, f.casEpoch
	f.mu.Unlock()
	if as != nil {
		return as, nil
	}
	cas, err := f.cfg.Store.CAs(ctx)
	if err != nil {
		return nil, err
	}
	as = make([]authority, 0, len(cas))
	for _, ca := range cas {
		cert, err := pki.ParseCert([]byte(ca.PEM))
		if err != nil {
			return nil, fmt.Errorf("registered authority %s: %w", ca.Name, err)
		}
		as = append(as, authority{ca, cert})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.casEpoch == epoch {
		f.cas = as
	}
	return as, nil
}

// saveCA writes an authority; whoever asks from now on reads it anew.
func (f *Fleet) saveCA(ctx context.Context, ca operator.CA, es []Event) error {
	err := f.cfg.Store.SaveCA(ctx, ca, es)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cas, f.casEpoch = nil, f.casEpoch+1
	return err
}
