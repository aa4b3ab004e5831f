// Package audit has no code. Its tests hold the audit against the truth: test
// firmware that is built in pairs with one choice between them, programs that
// others have built, and input made to harm. The command that built a program
// says what is wrong with it; readelf and nm say what is in it.
package audit
