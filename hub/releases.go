package hub

import (
	"cmp"
	"context"
	"net/http"
	"path/filepath"

	"holdfast/hub/metrics"
	"holdfast/hub/repository"
	"holdfast/identity"
	"holdfast/pki"
	"holdfast/release"
)

// repositoryDir is the directory of the release repository.
const repositoryDir = "repository"

// buildRepository opens the release repository.
func (h *hub) buildRepository(dir string, secret pki.Secret) error {
	var err error
	h.repository, err = repository.New(repository.Config{Dir: filepath.Join(dir, repositoryDir), Secret: secret, Ledger: h.journal, Deltas: h.cfg.DeltaBytes, Log: h.component("repository"),
		Audit: func(ctx context.Context, r release.Release, envelope []byte) error {
			return h.auditors.CheckRelease(ctx, r, envelope)
		},
		Free: func() (int64, error) { free, _, err := diskOf(dir); return free, err }})
	if err == nil {
		h.catalogue = h.repository
	}
	return err
}

// releasesOf are the releases that a group's devices may run, as the verifier
// asks for them.
type releasesOf struct{ h *hub }

// Of implements verifier.Releases.
func (o releasesOf) Of(ctx context.Context, g identity.Group) ([]release.Release, error) {
	group, err := o.h.fleet.Group(ctx, g)
	if err != nil || group.Product == "" {
		return nil, err
	}
	return o.h.repository.Published(ctx, group.Product)
}

// watchReleases has devices judged anew as soon as other releases are published.
func (h *hub) watchReleases(ctx context.Context) error {
	for {
		changed := h.repository.Changed()
		if err := h.fleet.ReleasesChanged(ctx); err != nil && ctx.Err() == nil {
			h.log.ErrorContext(ctx, "judge devices by what is published", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// fetcher says which device fetches of the repository, and how fast it may.
func (h *hub) fetcher(r *http.Request) (repository.Client, error) {
	p, err := h.authenticate(r)
	if err != nil {
		return repository.Client{}, err
	}
	id, err := h.fleet.DeviceGroup(r.Context(), p.Device)
	if err != nil {
		return repository.Client{}, err
	}
	g, err := h.fleet.Group(r.Context(), id)
	if err != nil {
		return repository.Client{}, err
	}
	all := h.cfg.Limits
	return repository.Client{Device: p.Device, Group: id,
		Rate:      int64(cmp.Or(g.Limits.DownloadBytesPerSecond, all.DownloadBytesPerSecond)),
		GroupRate: int64(cmp.Or(g.Limits.GroupDownloadBytesPerSecond, all.GroupDownloadBytesPerSecond))}, nil
}

// releaseFamilies are of the release repository.
func (h *hub) releaseFamilies() []metrics.Family {
	return []metrics.Family{
		gauge("release_metadata_expiry_timestamp_seconds", "When the newest metadata of a role ends; of products the first that does.",
			func(emit func(float64, ...string)) {
				h.repository.Expiries(func(n float64, role string) { emit(n, role) })
			}, "role"),
		counter("release_served_bytes_total", "Bytes of releases that devices fetched, by what they were of.",
			func(emit func(float64, ...string)) { h.repository.Stats().Served.Each(emit) }, "kind"),
		counter("release_requests_total", "Requests of devices to the release repository, by what was asked for and the outcome.",
			func(emit func(float64, ...string)) { h.repository.Stats().Asked.Each(emit) }, "kind", "outcome"),
		counter("release_deltas_total", "Deltas between images that were to be made, by outcome.",
			func(emit func(float64, ...string)) { h.repository.Stats().Deltas.Each(emit) }, "outcome"),
	}
}
