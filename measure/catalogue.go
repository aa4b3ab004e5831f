package measure

import "slices"

// Measure is one row of the security checklist: what has to be true of a
// device, whose duty it is, how the hub knows, and what to do when it is not.
type Measure struct {
	ID          ID        `json:"id"`
	Title       string    `json:"title"`
	Section     string    `json:"section"`     // heading in "Develop secure embedded applications with Azure RTOS"
	Hardware    string    `json:"hardware"`    // duty of the board
	Runtime     string    `json:"runtime"`     // duty of the operating system or device runtime
	Application string    `json:"application"` // duty of the maker's own code and process
	Proof       string    `json:"proof"`       // how the hub comes to know
	Best        Grade     `json:"best"`        // the best grade that proof can reach
	Remedy      string    `json:"remedy"`      // what to do when the measure fails
	Standards   Standards `json:"standards"`
}

// Standards are the clauses elsewhere that ask for the same thing. A list is
// empty where no clause really matches.
type Standards struct {
	PSA             []string `json:"psa,omitempty"`              // PSA Certified: names among its ten security goals
	SESIP           []string `json:"sesip,omitempty"`            // EN 17927: security functional requirements by name
	SevenProperties []string `json:"seven_properties,omitempty"` // the seven properties of highly secured devices
	IEC62443        []string `json:"iec_62443_4_2,omitempty"`    // IEC 62443-4-2:2019: CR, EDR and their enhancements (RE)
	ETSI            []string `json:"etsi_en_303_645,omitempty"`  // ETSI EN 303 645 V2.1.1: provisions
	CRA             []string `json:"cra_annex_i,omitempty"`      // Regulation (EU) 2024/2847, Annex I: part, point and letter
	FIPS140         []string `json:"fips_140_3,omitempty"`       // FIPS 140-3: clauses of ISO/IEC 19790:2012, which it adopts
}

// Catalogue returns every measure in the order of IDs. The caller owns the
// slice and everything in it.
func Catalogue() []Measure {
	return slices.Concat(
		identityMeasures(),
		cryptoMeasures(),
		memoryMeasures(),
		firmwareMeasures(),
		protocolMeasures(),
		appMeasures(),
		monitorMeasures(),
	)
}

// Find returns the measure with an id, and whether there is one.
func Find(id ID) (Measure, bool) {
	all := Catalogue()
	i := slices.IndexFunc(all, func(m Measure) bool { return m.ID == id })
	if i < 0 {
		return Measure{}, false
	}
	return all[i], true
}
