package auditors

import (
	"context"
	"time"

	"holdfast/identity"
	"holdfast/operator"
	"holdfast/release"
)

// Store keeps auditors and their statements. A method that returned nil has
// written to disk.
type Store interface {
	Auditors(ctx context.Context) ([]operator.Auditor, error) // by name
	// AddAuditor adds an auditor, or is a fault of kind Conflict where its name
	// or its key is taken.
	AddAuditor(ctx context.Context, a operator.Auditor) error
	// RemoveAuditor removes an auditor with its statements, or is a fault of kind
	// NotFound.
	RemoveAuditor(ctx context.Context, name string) error

	Statements(ctx context.Context) ([]Statement, error) // in the order in which they came
	// AddStatement adds a statement; one that is there stays as it is.
	AddStatement(ctx context.Context, s Statement) error
	// RemoveStatement removes a statement, or is a fault of kind NotFound.
	RemoveStatement(ctx context.Context, id identity.Digest) error
}

// Statement is an envelope as it is kept.
type Statement struct {
	ID       identity.Digest // of the envelope
	Auditor  identity.Digest // key that signed it
	Envelope []byte
	By       string
	Received time.Time
}

// Releases knows what is published, and the statements that came with it.
type Releases interface {
	Releases(ctx context.Context) []release.Release
	// Document returns content that a release names.
	Document(ctx context.Context, b release.Blob) ([]byte, error)
}

// Keys knows the keys that have another role.
type Keys interface {
	// Claim takes a key for the auditor of a name for good, or is a fault of kind
	// Conflict that says whose it is.
	Claim(ctx context.Context, key identity.Digest, name string) error
	// Role says what else a key is used for now; empty: nothing.
	Role(ctx context.Context, key identity.Digest) (string, error)
}

// Ledger records what is relevant to security; details marshal to an object.
type Ledger interface {
	Record(ctx context.Context, kind string, device identity.Device, details any) error
}
