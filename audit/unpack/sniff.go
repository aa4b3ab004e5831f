package unpack

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"holdfast/audit/elfread"
	"holdfast/audit/flash"
	"holdfast/audit/subject"
)

// families are the configuration headers that are read as such, by their names.
var families = []string{
	"tx_user.h", "nx_user.h", "nx_secure_user.h", "fx_user.h", "ux_user.h", "FreeRTOSConfig.h", "FreeRTOSIPConfig.h",
	"mbedtls_config.h", "mbedtls_user_config.h", "crypto_config.h", "user_settings.h", "lwipopts.h",
}

// family returns the family of a configuration header or file, or "".
func family(name string) string {
	base := subject.Base(name)
	switch {
	case slices.Contains(families, base):
		return base
	case base == "config.h" && strings.Contains(name, "mbedtls/config.h"): // before Mbed TLS 3
		return "mbedtls_config.h"
	case base == "autoconf.h" || base == "zephyr_autoconf.h" || base == "sdkconfig.h":
		return kconfig
	case isKconfig(base):
		return kconfig
	}
	return ""
}

// kconfig is the family of .config files and of the headers made from them.
const kconfig = "kconfig"

func isKconfig(base string) bool {
	return base == ".config" || base == "sdkconfig" || base == "prj.conf" || strings.HasPrefix(base, "sdkconfig.") && base != "sdkconfig.h" || strings.HasPrefix(base, "prj_") && strings.HasSuffix(base, ".conf")
}

// sniff says what a file is: by its first bytes, and where these tell nothing
// by its name.
func sniff(name string, data []byte, given bool) subject.Kind {
	switch {
	case elfread.Is(data):
		return subject.ELF
	case archiveOf(data) != nil:
		return subject.Archive
	case isMCUboot(data):
		return subject.MCUboot
	case flash.IsUF2(data):
		return subject.UF2
	case isRecords(data, ':'):
		return subject.Hex
	case isRecords(data, 'S'):
		return subject.SREC
	case isText(data):
		return text(name, data, given)
	case given || slices.Contains([]string{".bin", ".img", ".rom", ".fw"}, strings.ToLower(path.Ext(name))):
		return subject.Binary
	}
	return subject.Other
}

// text says what a text is.
func text(name string, data []byte, given bool) subject.Kind {
	base, ext := subject.Base(name), strings.ToLower(path.Ext(name))
	switch {
	case base == "compile_commands.json":
		return subject.Commands
	case isKconfig(base):
		return subject.Kconfig
	case family(name) != "" || given && ext == ".h":
		return subject.Header
	case language(name) != "":
		return subject.CSource
	case ext == ".map" && isMap(data):
		return subject.LinkMap
	case ext == ".log" || strings.HasPrefix(base, "build") && ext == ".txt":
		return subject.BuildLog
	}
	return subject.Other
}

// language returns the language of a source, by its name.
func language(name string) string {
	switch path.Ext(name) {
	case ".c":
		return "c"
	case ".h", ".inc":
		return "h"
	case ".cc", ".cpp", ".cxx", ".c++", ".hpp", ".hh", ".hxx":
		return "c++"
	case ".s", ".S", ".sx", ".asm":
		return "asm"
	}
	return ""
}

func isMCUboot(data []byte) bool { return bytes.HasPrefix(data, []byte{0x3d, 0xb8, 0xf3, 0x96}) }

// isRecords reports whether a text begins with a record: a mark and at least
// eight hexadecimal digits.
func isRecords(data []byte, mark byte) bool {
	data = bytes.TrimLeft(data[:min(len(data), 256)], " \t\r\n")
	if len(data) < 10 || data[0] != mark {
		return false
	}
	for _, c := range data[1:10] {
		if !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
			return false
		}
	}
	return true
}

// isText reports whether the first bytes have no NUL and few control
// characters. No bytes are a text too.
func isText(data []byte) bool {
	const look, few = 8192, 50
	data = data[:min(len(data), look)]
	odd := 0
	for _, c := range data {
		if c == 0 {
			return false
		}
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' && c != '\f' && c != 0x1b {
			odd++
		}
	}
	return odd <= len(data)/few
}

func isMap(data []byte) bool {
	for _, mark := range []string{"Linker script and memory map", "Memory Configuration", "Memory Map of the image", "Image Symbol Table", "IAR ELF Linker"} {
		if bytes.Contains(data, []byte(mark)) {
			return true
		}
	}
	return bytes.Contains(data[:min(len(data), 4096)], []byte(" VMA ")) // lld
}
