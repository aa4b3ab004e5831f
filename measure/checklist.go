package measure

import "slices"

// List names one of the two lists of the checklist.
type List string

// The lists.
const (
	Take  List = "take"  // security measures to take
	Avoid List = "avoid" // security measures to avoid
)

// Item is one bullet of the checklist. Parent is the id of the bullet that a
// sub-bullet stands under, and empty otherwise.
type Item struct {
	ID      string `json:"id"` // "take.hardware-entropy": the list and a name
	List    List   `json:"list"`
	Parent  string `json:"parent,omitempty"`
	Text    string `json:"text"`
	Measure ID     `json:"measure"` // the measure that it belongs to
}

// Checklist returns every bullet of both lists, in the order of the original.
func Checklist() []Item { return slices.Concat(take(), avoid()) }

// FindItem returns the bullet with an id, and whether there is one.
func FindItem(id string) (Item, bool) {
	all := Checklist()
	i := slices.IndexFunc(all, func(it Item) bool { return it.ID == id })
	if i < 0 {
		return Item{}, false
	}
	return all[i], true
}

func take() []Item {
	const suites = "take.cipher-suites"
	return []Item{
		{"take.hardware-entropy", Take, "", "Take entropy from hardware, always; with ThreadX, through NX_RAND.", CryptoEntropy},
		{"take.real-time-clock", Take, "", "Have a real-time clock, so that expired certificates are seen.", CryptoTime},
		{"take.revocation", Take, "", "Check certificates against revocation lists.", IdentityCertificates},
		{"take.key-usage", Take, "", "Check what a certificate may be used for: the Key Usage extension.", ProtocolX509},
		{"take.x509-policies", Take, "", "Put policies such as Extended Key Usage in certificates, to match the services they open.", ProtocolX509},
		{suites, Take, "", "Use approved cipher suites.", ProtocolCipherSuites},
		{"take.cipher-suites.every-cipher", Take, suites, "Judge every algorithm of a suite: the weakest one decides.", ProtocolCipherSuites},
		{"take.cipher-suites.remove-unneeded", Take, suites, "Remove the suites that nobody needs.", ProtocolCipherSuites},
		{"take.cipher-suites.hardware-drivers", Take, suites, "Use the drivers for cryptographic hardware.", CryptoAcceleration},
		{"take.ephemeral-keys", Take, "", "Exchange keys ephemerally, for forward secrecy; TLS 1.3 knows nothing else.", ProtocolCipherSuites},
		{"take.memory-checking", Take, "", "Use memory and stack checking of compiler, libraries and ThreadX.", MemoryStack},
		{"take.check-input", Take, "", "Check the length of all input that comes from outside a block, a thread or a function.", MemoryBuffers},
		{"take.clean-builds", Take, "", "Build without a single warning.", AppCompiler},
		{"take.static-analysis", Take, "", "Run static analysis and treat each finding as a possible vulnerability.", MonitorChecklist},
		{"take.fuzzing", Take, "", "Fuzz whatever parses incoming data.", MonitorChecklist},
		{"take.code-review", Take, "", "Walk through the code; what nobody understands may hide a vulnerability.", MonitorChecklist},
		{"take.memory-protection-unit", Take, "", "Use an MPU or MMU, and ThreadX Modules, against execution from RAM and access across threads.", MemoryIsolation},
		{"take.watchdog", Take, "", "Use watchdogs against runaway code and to shorten the time an attack has.", AppWatchdog},
		{"take.certified-code", Take, "", "Consider certified code, and the rigour of a certification for your own.", MonitorChecklist},
	}
}

func avoid() []Item {
	const schemes = "avoid.own-schemes"
	return []Item{
		{"avoid.rand", Avoid, "", "No rand() of the C library: it is not cryptographic.", CryptoEntropy},
		{"avoid.hard-coded-credentials", Avoid, "", "No keys, certificates, names or passwords in the code; renew private keys regularly.", CredentialsRenewable},
		{"avoid.self-signed", Avoid, "", "No self-signed device certificates: use a PKI.", ProtocolX509},
		{"avoid.tls-extensions", Avoid, "", "No TLS extension that nobody needs.", ProtocolTLS},
		{"avoid.obscurity", Avoid, "", "No security by obscurity.", MonitorChecklist},
		{"avoid.unneeded-features", Avoid, "", "No needless function, and no port left open just in case.", AppUnusedFeatures},
		{"avoid.debugging", Avoid, "", "No debugging in production.", AppDebug},
		{"avoid.buffer-overflows", Avoid, "", "No buffer overflows: write defensively, check every input, use the tools that find them.", MemoryBuffers},
		{"avoid.packets-on-stack", Avoid, "", "No network packets on a thread's stack, where an overflow reaches return addresses.", MemoryStack},
		{"avoid.buffers-on-stack", Avoid, "", "No buffers on stacks: allocate them statically.", MemoryStack},
		{"avoid.heap", Avoid, "", "No dynamic memory where it can be helped.", MemoryBuffers},
		{"avoid.function-pointers-in-packets", Avoid, "", "No function pointers in packets, where an overflow reaches them.", MemoryBuffers},
		{"avoid.own-cryptography", Avoid, "", "No cryptographic algorithm of your own.", CryptoAlgorithms},
		{schemes, Avoid, "", "No scheme of your own around approved algorithms: use a protocol such as TLS.", CryptoAlgorithms},
		{"avoid.own-schemes.known-plaintext", Avoid, schemes, "Own schemes fall to known plaintext.", CryptoAlgorithms},
		{"avoid.own-schemes.padding-oracle", Avoid, schemes, "Own schemes fall to padding oracles.", CryptoAlgorithms},
		{"avoid.own-schemes.predictable-secret", Avoid, schemes, "Own schemes fall to predictable secrets.", CryptoAlgorithms},
	}
}
