package measure

func monitorMeasures() []Measure {
	return []Measure{
		{
			ID:          MonitorThreats,
			Title:       "Threats watched at run time",
			Section:     "Runtime security monitoring and threat detection",
			Hardware:    "Nothing is demanded but a network interface.",
			Runtime:     "Report security events: connections, processes, logins, failed checks.",
			Application: "Describe what is normal for the device, and decide who hears of an alert.",
			Proof:       "The hub receives the events, compares each device with its own past and with its group, and raises alerts with a recommendation.",
			Best:        Observed,
			Remedy:      "Follow the alert's recommendation; quarantine the device while you look.",
			Standards: Standards{
				SevenProperties: []string{"Error Reporting"},
				IEC62443:        []string{"CR 2.8", "CR 6.2"},
				ETSI:            []string{"5.10-1"},
				CRA:             []string{"I(2)(d)", "I(2)(l)"},
			},
		},
		{
			ID:          MonitorChecklist,
			Title:       "The checklist kept",
			Section:     "Azure RTOS IoT application security checklist",
			Hardware:    "Nothing is demanded beyond the other measures.",
			Runtime:     "Keep the rules for code itself, and build with its tests, fuzzers and analysers on.",
			Application: "Fuzz, analyse, walk through and, where it pays, certify; sign a statement of what was done for each release.",
			Proof:       "Code rules are checked in the image, and process evidence is a signed statement about the release whose digest is attested.",
			Best:        Audited,
			Remedy:      "Do what the missing item asks, or sign a statement why it does not apply.",
			Standards: Standards{
				ETSI:    []string{"5.4-3", "5.6-9"},
				CRA:     []string{"II(1)", "II(3)"},
				FIPS140: []string{"7.11"},
			},
		},
	}
}
