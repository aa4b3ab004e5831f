//go:build unsafe_nosync

package hub

const acknowledgeUnsynced = true
