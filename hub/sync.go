//go:build !unsafe_nosync

package hub

// acknowledgeUnsynced is false in every product: an acknowledgement is a
// promise. The tests of durability build a hub with the tag unsafe_nosync, to
// show that they would notice.
const acknowledgeUnsynced = false
