//go:build !unsafe_nosync

package store

// synchronous is SQLite's: each commit is fsynced before it returns. The tests
// of durability build a store with the tag unsafe_nosync, to show that they
// would notice.
const synchronous = "FULL"
