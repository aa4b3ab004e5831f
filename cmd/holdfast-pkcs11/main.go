// Command holdfast-pkcs11 signs with keys in a PKCS#11 token on behalf of
// 'holdfast release', which starts it and asks it over standard input: one JSON
// request per line, one answer per line (package internal/token). PKCS#11 is
// native code; this program alone is built with cgo.
package main

import (
	"fmt"
	"os"

	"holdfast/internal/token"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "holdfast-pkcs11 takes no arguments: 'holdfast release' starts it and asks it over standard input")
		os.Exit(2)
	}
	l := newLibraries()
	err := token.Serve(os.Stdin, os.Stdout, l.answer)
	l.close()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
