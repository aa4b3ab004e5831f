// Command app is a program of Go.
package main

import "os"

const version = "pump 1.4.2"

func main() {
	if len(os.Args) > 1 && os.Args[len(os.Args)-1][0] == 'v' {
		os.Stdout.WriteString(version)
	}
}
