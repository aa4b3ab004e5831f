//go:build unsafe_nosync

package store

const synchronous = "OFF"
