package issuer

import (
	"context"
	"fmt"
	"time"

	"holdfast/identity"
	"holdfast/pki"
)

// Certificate is a certificate as it is recorded.
type Certificate struct {
	Serial    string // as pki.SerialText
	Class     pki.Class
	Name      string // the CN: device id, operator's name, host
	Key       identity.Digest
	NotBefore time.Time
	NotAfter  time.Time
	DER       []byte
	IssuedAt  time.Time
	RevokedAt time.Time // zero: it is not
	Reason    int       // of the revocation, RFC 5280 section 5.3.1
}

// Key is a public key that was seen in the fleet.
type Key struct {
	Digest identity.Digest
	Owner  string // device id, operator's name, host
	Kind   string // a class, or "ak", "ek"
}

// KeySeenError says that a public key was seen before, and whose it was.
type KeySeenError struct{ Known Key }

// Error names the first owner.
func (e *KeySeenError) Error() string {
	return fmt.Sprintf("public key %s was seen before, as the %s key of %q", e.Known.Digest, e.Known.Kind, e.Known.Owner)
}

// Added is what became of a certificate that was to be recorded.
type Added struct {
	Err        error // *KeySeenError: refused, and not recorded
	Superseded int   // birth certificates of the same device that it revoked
}

// Selection picks certificates: all set fields have to match.
type Selection struct {
	Serial string
	Class  pki.Class
	Name   string
}

// Store keeps what was issued. What a method without error has written is on
// stable storage.
type Store interface {
	// AddCertificates records a batch in one transaction: of each certificate
	// its key, refused where the key was seen before, and itself. A birth
	// certificate revokes the earlier ones of its device as superseded. The
	// result has an element for each of the batch; on error nothing was written.
	AddCertificates(ctx context.Context, batch []Certificate) ([]Added, error)

	// NoteKey records a key that is not ours to certify. It is a *KeySeenError
	// where the key is another's; the same again is no error.
	NoteKey(ctx context.Context, k Key, at time.Time) error

	// Revoke marks the selected certificates that are not revoked yet, and
	// returns their serial numbers.
	Revoke(ctx context.Context, which Selection, at time.Time, reason int) ([]string, error)

	// Certificates returns the selected certificates, the newest first.
	Certificates(ctx context.Context, which Selection) ([]Certificate, error)

	// NextCRL returns the next number of the class's revocation list, greater
	// than any before, and the revoked certificates that end after since.
	NextCRL(ctx context.Context, class pki.Class, since time.Time) (int64, []Certificate, error)
}
