// Package update has no code. Its tests run our own device program on a virtual
// board, with its real boot ROM and a software TPM, against a hub that offers it
// updates: a good one is committed and its counter burned, a bad one falls back
// by itself, an older one is refused.
package update
