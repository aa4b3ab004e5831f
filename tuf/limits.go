package tuf

// Limits bound what is read before it is verified, and what is held of it.
type Limits struct {
	RootBytes      int64
	TimestampBytes int64
	SnapshotBytes  int64
	TargetsBytes   int64
	ProductBytes   int64 // each product's role

	Depth      int   // of nested objects and arrays
	Keys       int   // of a root or of targets, of each kind
	Signatures int   // on one file
	Products   int   // that targets delegates to
	Releases   int   // of one product
	Roots      int   // new roots in one refresh
	Version    int64 // the highest of any file: beyond it none could follow
}

// DefaultLimits returns the limits that devices and the hub use.
func DefaultLimits() Limits {
	return Limits{
		RootBytes:      256 << 10,
		TimestampBytes: 8 << 10,
		SnapshotBytes:  64 << 10,
		TargetsBytes:   512 << 10,
		ProductBytes:   512 << 10,

		Depth:      12,
		Keys:       32,
		Signatures: 64,
		Products:   128,
		Releases:   400,
		Roots:      64,
		Version:    1 << 48,
	}
}

// bytes returns the most bytes that a role's file may have.
func (l Limits) bytes(role string) int64 {
	switch role {
	case Root:
		return l.RootBytes
	case Timestamp:
		return l.TimestampBytes
	case Snapshot:
		return l.SnapshotBytes
	case Targets:
		return l.TargetsBytes
	}
	return l.ProductBytes
}
