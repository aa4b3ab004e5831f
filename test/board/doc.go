// Package board has no code. Its tests join a virtual board, the keys in its
// TPM and the hub's rules: what a board measures and certifies is what the
// rules of birth and appraisal accept, and what they find when it misbehaves.
package board
