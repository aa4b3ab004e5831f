package subject

import (
	"fmt"
	"runtime/debug"
)

// Guard runs f and turns a panic in it into an error. Bytes of a mapped file
// that has been cut shorter since are no longer there: reading them is such a
// panic under Guard, and would end the program elsewhere. It holds for the
// goroutine that it runs in alone.
func Guard(f func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%v", v)
		}
	}()
	f()
	return nil
}
