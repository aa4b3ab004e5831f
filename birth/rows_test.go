package birth_test

import (
	"strings"
	"testing"

	"holdfast/birth"
	"holdfast/fault"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

func TestRowsAndWelcome(t *testing.T) {
	policy := func(name string) posture.Policy {
		p, err := posture.Builtin(name)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	strict, lenient := policy(posture.Standard), policy(posture.Lenient)
	const pass, fail, unknown = measure.Pass, measure.Fail, measure.Unknown
	tests := []struct {
		name     string
		class    birth.Class
		group    operator.Group
		root, id measure.Verdict
		welcome  bool
		says     string // in the reason of hardware-root
	}{
		{"hardware", birth.Hardware, operator.Group{Policy: strict}, pass, pass, true, "hardware TPM"},
		{"hardware in a simulation", birth.Hardware, operator.Group{Policy: strict, Simulation: true}, pass, pass, true, "hardware TPM"},
		{"software in a simulation", birth.Software, operator.Group{Policy: strict, Simulation: true}, pass, pass, true, "software TPM"},
		{"software elsewhere", birth.Software, operator.Group{Policy: strict}, fail, pass, false, "software TPM"},
		{"software where it is not demanded", birth.Software, operator.Group{Policy: lenient}, fail, pass, true, "software TPM"},
		{"file", birth.File, operator.Group{Policy: strict}, fail, fail, false, "in a file"},
		{"file where files are allowed", birth.File, operator.Group{Policy: strict, FileKeys: true}, fail, fail, false, "in a file"},
		{"file where nothing is demanded", birth.File, operator.Group{Policy: lenient}, fail, fail, false, "in a file"},
		{"file in a lab", birth.File, operator.Group{Policy: lenient, FileKeys: true}, fail, fail, true, "in a file"},
		{"file in a simulation", birth.File, operator.Group{Policy: strict, FileKeys: true, Simulation: true}, fail, fail, false, "in a file"},
		{"maker", birth.Maker, operator.Group{Policy: lenient}, unknown, unknown, true, "does not show"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rows := birth.Rows(tt.class, tt.group, now)
			if len(rows) != 2 || rows[0].Measure != measure.IdentityHardwareRoot || rows[0].Verdict != tt.root ||
				rows[1].Measure != measure.IdentityDeviceID || rows[1].Verdict != tt.id {
				t.Errorf("rows %+v", rows)
			}
			if !strings.Contains(rows[0].Reason, tt.says) {
				t.Errorf("reason %q, want %q in it", rows[0].Reason, tt.says)
			}
			err := birth.Welcome(tt.class, tt.group)
			if (err == nil) != tt.welcome || err != nil && fault.Of(err) != fault.Denied {
				t.Errorf("welcome: %v", err)
			}
		})
	}
	if rows := birth.Rows("", operator.Group{}, now); rows != nil {
		t.Errorf("rows of a device that was not born: %+v", rows)
	}
}

func TestRefusalOfAFileKeyNamesTheMeasure(t *testing.T) {
	p, err := posture.Builtin(posture.Standard)
	if err != nil {
		t.Fatal(err)
	}
	err = birth.Welcome(birth.File, operator.Group{ID: "valves", Policy: p})
	if text := fault.Public(err); !strings.Contains(text, "identity.hardware-root") || !strings.Contains(text, "valves") {
		t.Errorf("refusal %q", text)
	}
}

func TestMatches(t *testing.T) {
	tests := []struct {
		ids  []string
		id   string
		want bool
	}{
		{nil, "meter-1", false},
		{[]string{"meter-1"}, "meter-1", true},
		{[]string{"meter-1"}, "meter-10", false},
		{[]string{"meter-1"}, "Meter-1", false},
		{[]string{"meter-*"}, "meter-1", true},
		{[]string{"meter-*"}, "meter-", false},
		{[]string{"meter-*"}, "meter", false},
		{[]string{"meter-*"}, "gas-meter-1", false},
		{[]string{"gas-1", "meter-*"}, "meter-1", true},
		{[]string{"me*er"}, "meter", false},
	}
	for _, tt := range tests {
		if got := birth.Matches(tt.ids, tt.id); got != tt.want {
			t.Errorf("%q in %q: %v", tt.id, tt.ids, got)
		}
	}
}
