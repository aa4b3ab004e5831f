package checks_test

import (
	"strings"
	"testing"

	"holdfast/audit/checks"
	"holdfast/audit/subject"
)

// FuzzBytes gives the rules bytes in every place that they search: code, data
// with the names of tables and keys, images with MCUboot's tags, and files.
func FuzzBytes(f *testing.F) {
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nMHc=\n-----END EC PRIVATE KEY-----\n"))
	f.Add([]byte{0x30, 0x77, 2, 1, 1, 4, 0x20})
	f.Add([]byte("HostName=h;SharedAccessKey=AAAA psk=\"12345678\" eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.x a://u:p@h"))
	f.Add([]byte{0x3d, 0xb8, 0xf3, 0x96, 0, 0, 0, 0, 32, 0, 0, 0, 4, 0, 0, 0, 7, 0x69, 8, 0})
	f.Add([]byte{0x4f, 0xf0, 0xe0, 0x23, 0x00, 0xf0, 0x01, 0xf8, 0x48, 0x40, 0xfc, 0xd1})
	f.Fuzz(func(t *testing.T, data []byte) {
		n := uint64(len(data))
		code := subject.Section{Name: ".text", Type: "PROGBITS", Alloc: true, Exec: true, Address: 0x8000, Size: n}
		p := &subject.Program{File: "app.elf", Data: data, Arch: subject.ARM, Bits: 32, Type: subject.Executable, Attributes: map[string]string{"CPU_arch_profile": "77", "CPU_arch": "17"},
			Sections: []subject.Section{code}, Segments: []subject.Segment{{Type: "LOAD", Address: 0x8000, FileSize: n, MemorySize: n}}}
		for _, name := range []string{"_nx_crypto_ciphersuite_lookup_table", "ciphersuite_preference", "aes_key", "device_private_key", "wifi_password", "__stack_chk_guard"} {
			p.Symbols = append(p.Symbols, subject.Symbol{Name: name, Kind: subject.ObjectSymbol, Address: 0x8000, Size: n, Section: ".text"})
		}
		p.Symbols = append(p.Symbols, subject.Symbol{Name: "encrypt", Kind: subject.FuncSymbol, Address: 0x8000, Size: n, Thumb: true})
		for _, name := range []string{"mbedtls_ssl_conf_authmode", "mbedtls_ssl_handshake", "tcp_bind", "__stack_chk_fail"} {
			p.Symbols = append(p.Symbols, subject.Symbol{Name: name, Kind: subject.FuncSymbol, Address: 0x8000 + n, Size: 2, Thumb: true})
		}
		p.Index()
		var calls []subject.Call
		for _, to := range []string{"mbedtls_ssl_conf_authmode", "mbedtls_ssl_handshake", "tcp_bind", "__stack_chk_fail"} {
			calls = append(calls, subject.Call{From: "encrypt", To: to, Site: 0x8000 + n/2})
		}
		p.Calls = subject.NewCalls(calls, nil, true)
		s := withPrograms(p)
		s.Images = image(data).Images
		s.Files = file("x", data).Files
		_, results, err := checks.Judge(t.Context(), s, checks.All(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if strings.Contains(r.Reason, "ended on this input") {
				t.Errorf("%s: %s", r.Rule, r.Reason)
			}
		}
	})
}
