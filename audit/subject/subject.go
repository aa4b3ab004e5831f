// Package subject is what the rules of the audit see: programs, images, linker
// maps, sources, configurations and build commands, read from files by package
// unpack and held as facts, without a judgement.
//
// Invariants: every slice is in a fixed order (files as given, directories and
// archives by name, symbols by address and name), so two audits of the same
// input see the same; nothing is changed once unpack has returned, so rules may
// run in parallel; what could not be read is in Troubles and is absent
// elsewhere, and a fact that the input does not tell is marked as not known
// rather than given its zero value.
//
// Bytes of files are mapped and live until the subject is closed: keep copies,
// not slices, of what goes into a report.
package subject

import (
	"iter"
	"slices"
	"strings"

	"holdfast/finding"
	"holdfast/identity"
	"holdfast/mcuboot"
)

// Subject is all that is judged together.
type Subject struct {
	Files    []*File // every file, of whatever kind; the members of archives too
	Programs []*Program
	Images   []*Image
	Maps     []*Map
	Sources  []*Source
	Configs  []*Config // tx_user.h and its like, .config files
	Commands []Command // of compile_commands.json and build logs
	Logs     []*Log    // of builds
	Declared Declaration
	Troubles []finding.Trouble

	close func() error
}

// Kind says what a file is.
type Kind string

// The kinds of files.
const (
	ELF      Kind = "elf"
	Hex      Kind = "hex"      // Intel HEX
	SREC     Kind = "srec"     // Motorola S-records
	UF2      Kind = "uf2"      // USB flashing format
	MCUboot  Kind = "mcuboot"  // an image with MCUboot's header
	Binary   Kind = "binary"   // bytes as in flash
	LinkMap  Kind = "map"      // of a linker
	Commands Kind = "commands" // compile_commands.json
	BuildLog Kind = "log"      // what a build printed
	CSource  Kind = "source"   // C, C++, headers, assembler
	Header   Kind = "config"   // a configuration header
	Kconfig  Kind = "kconfig"  // .config, sdkconfig, prj.conf
	Archive  Kind = "archive"  // ar, tar, zip, gzip: its members follow it
	Other    Kind = "other"    // certificates, scripts, anything else
)

// File is one file of the input.
type File struct {
	Name   string // as it was given, or below the directory that was; "!" stands before a member of an archive
	Kind   Kind
	Size   int64 // bytes
	SHA256 identity.Digest
	Arch   Arch // of an ELF
	Given  bool // named by the caller, not found in a directory or an archive

	read func() ([]byte, error)
}

// NewFile makes a file whose bytes read returns; read may be called often and
// from several goroutines.
func NewFile(name string, kind Kind, read func() ([]byte, error)) *File {
	return &File{Name: name, Kind: kind, Size: -1, read: read}
}

// Data returns the file's bytes, which must not be changed, or nil when they
// can no longer be read. Small files are read anew on each call, so that a
// large directory does not have to fit in memory: hold the result while it is
// needed.
func (f *File) Data() []byte {
	b, err := f.read()
	if err != nil {
		return nil
	}
	return b
}

// Text returns the file as a string. Bytes that are not UTF-8 stay as they are.
func (f *File) Text() string { return string(f.Data()) }

// Input returns the file as reports name it.
func (f *File) Input() finding.Input {
	return finding.Input{File: f.Name, Kind: string(f.Kind), Size: f.Size, SHA256: f.SHA256, Arch: string(f.Arch)}
}

// New makes a subject; close gives back what its files hold, and may be nil.
func New(close func() error) *Subject { return &Subject{close: close} }

// Close gives back what the files hold. Nothing of the subject may be used
// after it.
func (s *Subject) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

// Input returns the files as reports name them.
func (s *Subject) Input() []finding.Input {
	all := make([]finding.Input, 0, len(s.Files))
	for _, f := range s.Files {
		all = append(all, f.Input())
	}
	return all
}

// Changed returns the names of the files whose bytes are no longer those that
// were hashed when the subject was opened. Who signs a report asks first.
func (s *Subject) Changed() []string {
	var names []string
	for _, f := range s.Files {
		same := false
		err := Guard(func() { same = identity.Sum(f.Data()) == f.SHA256 })
		if err != nil || !same {
			names = append(names, f.Name)
		}
	}
	return names
}

// Region is a run of bytes to be searched: a section of a program, a part of
// an image, or a whole file. Address is -1 where there is none.
type Region struct {
	File    string
	Name    string // of the section; empty for a whole file
	Data    []byte
	Offset  int64 // of Data in the file; -1 in text formats such as Intel HEX
	Address int64 // of Data in the device's memory
	Exec    bool
	Write   bool
}

// At returns the location of the byte at i of the region.
func (r Region) At(i int) finding.Location {
	l := finding.InFile(r.File)
	if r.Offset >= 0 {
		l.Offset = r.Offset + int64(i)
	}
	if r.Address >= 0 {
		l.Address = r.Address + int64(i)
	}
	return l
}

// Regions yields everything that can be searched for bytes, each byte once:
// what programs and images load, and all other files whole. Debug sections and
// the archives themselves are left out.
func (s *Subject) Regions() iter.Seq[Region] {
	return func(yield func(Region) bool) {
		for _, p := range s.Programs {
			for _, r := range p.Regions() {
				if !yield(r) {
					return
				}
			}
		}
		for _, img := range s.Images {
			for _, c := range img.Chunks {
				if !yield(Region{File: img.File, Data: c.Data, Offset: c.Offset, Address: int64(c.Address)}) {
					return
				}
			}
		}
		for _, f := range s.Files {
			if f.whole() && !yield(Region{File: f.Name, Data: f.Data(), Address: -1}) {
				return
			}
		}
	}
}

// whole reports whether the file's own bytes are what a search wants.
func (f *File) whole() bool {
	return !slices.Contains([]Kind{ELF, Hex, SREC, UF2, MCUboot, Binary, Archive}, f.Kind)
}

// Image is what is written to a device's flash: bytes at addresses.
type Image struct {
	File   string
	Format Kind    // Hex, SREC, UF2, MCUboot or Binary
	Chunks []Chunk // by address, none touching or overlapping another
	Based  bool    // the addresses are the device's; false: they count from 0

	// MCUboot is set when the image has MCUboot's header, whatever the format
	// around it. Payload is then at MCUboot.Payload.
	MCUboot *mcuboot.Image
	// Measured is what a boot loader measures and a device attests: MCUboot's
	// digest, or of other images the SHA-256 of their bytes from first to last,
	// gaps filled as flash reads when erased.
	Measured identity.Digest
}

// Chunk is a run of bytes at an address. Offset is where they are in the file,
// or -1 when the file holds them as text.
type Chunk struct {
	Address uint64
	Offset  int64
	Data    []byte
}

// Size returns the number of bytes that the image writes.
func (i *Image) Size() int64 {
	var n int64
	for _, c := range i.Chunks {
		n += int64(len(c.Data))
	}
	return n
}

// Bytes returns n bytes at an address, or nil when the image does not have all
// of them in one chunk.
func (i *Image) Bytes(address uint64, n int) []byte {
	k, found := slices.BinarySearchFunc(i.Chunks, address, func(c Chunk, a uint64) int {
		switch {
		case a < c.Address:
			return 1
		case a-c.Address >= uint64(len(c.Data)):
			return -1
		}
		return 0
	})
	if !found || n < 0 {
		return nil
	}
	rest := i.Chunks[k].Data[address-i.Chunks[k].Address:]
	if n > len(rest) {
		return nil
	}
	return rest[:n:n]
}

// Config is what a configuration file comes to.
type Config struct {
	File   string
	Family string // "tx_user.h", "nx_user.h", "nx_secure_user.h", "FreeRTOSConfig.h", "mbedtls_config.h", "kconfig"
	Macros *Macros
}

// ConfigsOf returns the configurations of a family.
func (s *Subject) ConfigsOf(family string) []*Config {
	var all []*Config
	for _, c := range s.Configs {
		if c.Family == family {
			all = append(all, c)
		}
	}
	return all
}

// File returns the file with a name, or nil.
func (s *Subject) File(name string) *File {
	i := slices.IndexFunc(s.Files, func(f *File) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return s.Files[i]
}

// Base returns the last element of a file's name, of a member of an archive
// the member's.
func Base(name string) string {
	if i := strings.LastIndexAny(name, "/\\!"); i >= 0 {
		return name[i+1:]
	}
	return name
}
