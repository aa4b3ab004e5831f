// Package hub has no code. Its tests run a whole hub and come to its listeners
// from outside: as firmware does that cannot do better, and as operators do.
package hub
