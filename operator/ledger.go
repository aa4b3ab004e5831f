package operator

import "holdfast/identity"

// LedgerQuery asks for records of the ledger. Empty fields select all.
type LedgerQuery struct {
	From   int64 // the first sequence number; the last one, for the newest first; 0: from the end
	Limit  int
	Newest bool // the newest first
	Device identity.Device
	Kind   string
}
