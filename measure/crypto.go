package measure

func cryptoMeasures() []Measure {
	return []Measure{
		{
			ID:          CryptoEntropy,
			Title:       "True random entropy source",
			Section:     "True random hardware-based entropy source",
			Hardware:    "Provide a physical noise source.",
			Runtime:     "Run the SP 800-90B health tests on the raw source before any key is made, and stop when they fail.",
			Application: "Take random numbers from the runtime alone; with ThreadX, define NX_RAND to the hardware's generator.",
			Proof:       "The device reports its health tests; the hub compares every public key, nonce and RSA factor with all that it has seen in the fleet and refuses a repetition.",
			Best:        Observed,
			Remedy:      "Replace or repair the source, then make every key of the device anew: none of the old ones can be trusted.",
			Standards: Standards{
				PSA:      []string{"Cryptographic and Trusted Services"},
				SESIP:    []string{"Cryptographic Random Number Generation"},
				IEC62443: []string{"CR 4.3"},
				ETSI:     []string{"5.4-4"},
				FIPS140:  []string{"7.9.2"},
			},
		},
		{
			ID:          CryptoTime,
			Title:       "Trustworthy time",
			Section:     "Real-time capability",
			Hardware:    "Keep a clock through resets and power cuts, to the hour or better over the device's life.",
			Runtime:     "Set the clock from authenticated time only, and keep a floor that never goes back.",
			Application: "Check validity dates against that clock; with NetX Secure, set the time function.",
			Proof:       "The hub compares the device's clock with its own on every session and follows the drift.",
			Best:        Observed,
			Remedy:      "Let the device ask for signed time. A clock that keeps falling behind needs a new battery or oscillator.",
			Standards: Standards{
				IEC62443: []string{"CR 2.11", "CR 2.11 RE(1)", "CR 2.11 RE(2)"},
			},
		},
		{
			ID:          CryptoAlgorithms,
			Title:       "Approved algorithms, strong keys",
			Section:     "Use approved cryptographic routines with strong key sizes",
			Hardware:    "Support at least P-256, AES-128 and SHA-256.",
			Runtime:     "Use the one versioned algorithm policy, constant-time code, and a build on the FIPS 140-3 module where it is demanded.",
			Application: "Use nothing outside the policy: no MD5, SHA-1, DES, RC4 or RSA under 2048 bits.",
			Proof:       "The hub checks keys and signatures of every certificate, request, quote and handshake against the policy.",
			Best:        Observed,
			Remedy:      "Make the key anew with an approved algorithm; update the runtime if it offers none.",
			Standards: Standards{
				PSA:      []string{"Cryptographic and Trusted Services"},
				SESIP:    []string{"Cryptographic Operation"},
				IEC62443: []string{"CR 1.9", "CR 4.3"},
				ETSI:     []string{"5.5-1", "5.5-2", "5.5-3"},
				CRA:      []string{"I(2)(e)"},
				FIPS140:  []string{"Annex C"},
			},
		},
		{
			ID:          CryptoAcceleration,
			Title:       "Hardware cryptography in use",
			Section:     "Hardware-based cryptography acceleration",
			Hardware:    "Offer AES and SHA in hardware, in constant time, with protection for the keys.",
			Runtime:     "Detect and use it, in authenticated modes only; an accelerator that knows only ECB is a building block.",
			Application: "Call the runtime's cryptography instead of linking another copy.",
			Proof:       "The device names the features that it detected and uses.",
			Best:        Claimed,
			Remedy:      "Enable the driver for the accelerator, or choose a board that has one.",
			Standards:   Standards{SESIP: []string{"Cryptographic Operation"}},
		},
	}
}
