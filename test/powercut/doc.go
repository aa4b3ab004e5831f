// Package powercut cuts the power of a device at every write, erase and sync
// of a complete update, and again while it recovers. What runs is what the
// product runs: the boot ROM of the virtual board (device/board/virtual), the
// slots (device/slots) and the rules of package update; only the flash is
// simulated (internal/flash/flashtest), the network answers at once, and the
// counter and the runtime's own file change whole or not at all, as a TPM and
// an atomic rename have it.
package powercut
