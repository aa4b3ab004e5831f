package tuf

import "holdfast/release"

// What follows lets fuzz targets read files that nobody has signed.

// ReadRoot reads a root.
func ReadRoot(b []byte) (version int64, err error) {
	f, _, err := readRoot(b, DefaultLimits())
	if err != nil {
		return 0, err
	}
	return f.version, nil
}

// ReadTimestamp reads a timestamp, and returns the version of the snapshot.
func ReadTimestamp(b []byte) (snapshot int64, err error) {
	f, err := readTimestamp(b, DefaultLimits())
	if err != nil {
		return 0, err
	}
	return snapshotOf(f).Version, nil
}

// ReadSnapshot reads a snapshot, and returns the version of targets.
func ReadSnapshot(b []byte) (targets int64, err error) {
	f, err := readSnapshot(b, DefaultLimits())
	if err != nil {
		return 0, err
	}
	return f.meta.Signed.Meta[Targets+".json"].Version, nil
}

// ReadTargets reads targets, and returns the products.
func ReadTargets(b []byte) ([]release.Product, error) {
	f, keys, err := readTargets(b, DefaultLimits())
	if err != nil {
		return nil, err
	}
	return (&Trust{targets: f, keys: keys}).Products(), nil
}

// ReadProduct reads a product's role, and returns its releases.
func ReadProduct(p release.Product, b []byte) ([]release.Release, error) {
	f, err := readProduct(p, b, DefaultLimits())
	if err != nil {
		return nil, err
	}
	return f.releases(), nil
}
