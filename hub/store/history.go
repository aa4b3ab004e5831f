package store

import (
	"context"
	"database/sql"
	"fmt"

	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
)

// keptHistory is how many of a device's certificates its history shows.
const keptHistory = 50

// History returns a device's last certificates, birth and operational, the
// newest first.
func (s *Store) History(ctx context.Context, id identity.Device) ([]operator.Issued, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT serial, class, not_before, not_after, revoked_at, COALESCE(reason, 0) FROM certificates
		WHERE name = ? AND class IN (?, ?) ORDER BY issued_at DESC, not_after DESC, serial LIMIT ?`,
		string(id), string(pki.Birth), string(pki.Operational), keptHistory)
	if err != nil {
		return nil, fmt.Errorf("certificates of %s: %w", id, err)
	}
	defer rows.Close()
	out := []operator.Issued{}
	for rows.Next() {
		var c operator.Issued
		var notBefore, notAfter int64
		var revoked sql.NullInt64
		var reason int
		if err := rows.Scan(&c.Serial, &c.Class, &notBefore, &notAfter, &revoked, &reason); err != nil {
			return nil, fmt.Errorf("certificates of %s: %w", id, err)
		}
		c.NotBefore, c.NotAfter = unix(notBefore), unix(notAfter)
		if revoked.Valid {
			c.Revoked, c.Reason = unix(revoked.Int64), reasonText(reason)
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// reasonText names a reason of RFC 5280, section 5.3.1, that the hub gives.
func reasonText(reason int) string {
	switch reason {
	case pki.ReasonKeyCompromise:
		return "its key was compromised"
	case pki.ReasonSuperseded:
		return "superseded by a new one"
	case pki.ReasonRetired:
		return "retired"
	}
	return "revoked by an operator"
}
