// Package arch holds the tree to its own rules, as a test: which package may
// import which, what only one package may do, and what each program links.
// The rules are tables in the test files; a new package at the top of the tree
// has to be entered in the table of layers before the tests pass.
package arch
