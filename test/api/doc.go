// Package api is tests of the operator API on a whole hub, made from the API's
// own description: that it is valid, that answers are as it says, that
// requests of every kind do no harm, and that a generator that is not ours
// makes a client of it.
package api
