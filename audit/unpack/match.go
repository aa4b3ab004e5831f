package unpack

import (
	"errors"

	"holdfast/audit/subject"
)

// Match returns nil when what a program loads is what an image flashes, and
// otherwise an error that names the first difference. These are the rules:
//
//  1. Each byte of each loadable segment is in the image, at the segment's load
//     (physical) address; of an MCUboot image or a raw binary without a base, at
//     its distance from the lowest loaded byte.
//  2. Each byte of the image is in a segment, or is padding: between and behind
//     segments, all 0x00 or all 0xff in one gap.
//  3. Bytes that a segment has in memory but not in the file (.bss) are not in
//     the image.
//  4. Debug information and section headers are not compared: they are not
//     flashed.
func Match(p *subject.Program, img *subject.Image) error {
	return errors.New("match: no program or image was read")
}
