package operator

import (
	"time"

	"holdfast/identity"
	"holdfast/release"
)

// Repository is the hub's release repository: GET /v1/repository.
type Repository struct {
	SnapshotKey  string                     `json:"snapshot_key" doc:"the hub's Ed25519 key that signs snapshots, hexadecimal"`
	TimestampKey string                     `json:"timestamp_key" doc:"the hub's Ed25519 key that signs timestamps, hexadecimal"`
	Files        map[string]identity.Digest `json:"files" doc:"the roots, the newest targets and the newest file of each product that are published, with their SHA-256"`
	Roles        map[string]RepositoryRole  `json:"roles" doc:"the newest version of each role"`
}

// RepositoryRole is the newest file of a role.
type RepositoryRole struct {
	Version   int64           `json:"version"`
	Expires   time.Time       `json:"expires"`
	Threshold int             `json:"threshold,omitempty" doc:"of the keys of each kind, how many have to sign; of what release keys sign"`
	Keys      []RepositoryKey `json:"keys,omitempty" doc:"who may sign it, and who has; of what release keys sign"`
}

// RepositoryKey is a key that may sign a role, and whether it has.
type RepositoryKey struct {
	ID     string `json:"id" doc:"TUF key id, hexadecimal"`
	Kind   string `json:"kind" enum:"classical,ml-dsa-65" doc:"classical: Ed25519, or ECDSA on P-256; each kind is counted for itself"`
	Signed bool   `json:"signed" doc:"its signature on this version verifies"`
}

// Metadata has metadata files by their names: what POST /v1/repository/metadata
// publishes, all or nothing, and what GET of it answers: every root, the newest
// targets and the newest file of each product.
type Metadata struct {
	Files map[string][]byte `json:"files" doc:"base64 of each file, by name: 2.root.json, 5.targets.json, 3.pump.json"`
}

// Release is a published release.
type Release struct {
	release.Release
	Newest bool `json:"newest,omitempty" doc:"the newest of its product that is not withdrawn"`
}
