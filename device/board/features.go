package board

import (
	"bufio"
	"io"
	"slices"
	"strings"
)

// accelerations names the cryptographic features of processors: flags of
// /proc/cpuinfo on x86 and Arm, and what they speed up.
var accelerations = map[string]string{
	"aes": "aes", "pclmulqdq": "ghash", "pmull": "ghash",
	"sha_ni": "sha2", "sha2": "sha2", "sha512": "sha512", "sha3": "sha3",
	"rdrand": "rng", "rdseed": "rng", "rng": "rng",
}

// Features lists what a processor accelerates, from the text of
// /proc/cpuinfo, sorted.
func Features(cpuinfo io.Reader) []string {
	var found []string
	lines := bufio.NewScanner(cpuinfo)
	for lines.Scan() {
		name, flags, _ := strings.Cut(lines.Text(), ":")
		if name = strings.TrimSpace(name); name != "flags" && name != "Features" {
			continue
		}
		for _, flag := range strings.Fields(flags) {
			if a := accelerations[flag]; a != "" {
				found = append(found, a)
			}
		}
		break // all processors have the same
	}
	slices.Sort(found)
	return slices.Compact(found)
}
