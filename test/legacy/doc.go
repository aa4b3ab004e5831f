// Package legacy has no code. Its tests run a whole hub and come to its
// listeners as firmware does that cannot do better.
package legacy
