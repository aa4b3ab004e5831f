package appraise_test

import (
	"slices"
	"strings"
	"testing"

	"holdfast/appraise"
	"holdfast/appraise/appraisetest"
	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/measure"
)

// counting is a healthy board that measures where its counter is: the counter
// stands at 3.
func counting(t *testing.T, index uint32, base uint64) *appraisetest.Board {
	b := appraisetest.New(t)
	b.Events = slices.Insert(b.Events, 6, appraisetest.SecurityCounter(index, base)...)
	return b
}

// runs appraises a board and returns what it proves of its firmware.
func runs(t *testing.T, b *appraisetest.Board, change func(*appraise.Input)) appraise.Outcome {
	t.Helper()
	in := inputOf(b, b.Attest(t, nonce, device, exporter))
	if change != nil {
		change(&in)
	}
	o := appraise.Appraise(in, now)
	if o.Failure != nil {
		t.Fatal(o.Failure)
	}
	return o
}

func TestRunningFirmware(t *testing.T) {
	o := runs(t, counting(t, appraisetest.CounterIndex, 1), nil)
	r := o.Facts.Running
	if r == nil || r.Digest != appraisetest.Image || r.Grade != measure.Attested || !r.Time.Equal(now) || r.Doubt != "" || r.Reference != "pump 1.2.0" {
		t.Fatalf("%+v", r)
	}
	if r.Minimum == nil || *r.Minimum != 2 || r.CounterFault != "" {
		t.Errorf("minimum %v, %q", r.Minimum, r.CounterFault)
	}
	if want := (appraise.SecurityCounter{Index: appraisetest.CounterIndex, Base: 1}); o.State.Origin == nil || *o.State.Origin != want {
		t.Errorf("remembers %+v", o.State.Origin)
	}
	want(t, o, measure.IdentityAttestation, measure.Pass, measure.Attested, "")
}

// TestCounterThatProvesNothing: withholding, moving or resetting the counter
// gains nothing.
func TestCounterThatProvesNothing(t *testing.T) {
	half := func(n int) func(*testing.T) *appraisetest.Board {
		return func(t *testing.T) *appraisetest.Board {
			b := appraisetest.New(t)
			b.Events = slices.Insert(b.Events, 6, appraisetest.SecurityCounter(appraisetest.CounterIndex, 1)[n])
			return b
		}
	}
	at := func(index uint32, base uint64) func(*testing.T) *appraisetest.Board {
		return func(t *testing.T) *appraisetest.Board { return counting(t, index, base) }
	}
	began := func(base uint64) func(*appraise.Input) {
		return func(in *appraise.Input) {
			in.Previous = &appraise.State{Origin: &appraise.SecurityCounter{Index: appraisetest.CounterIndex, Base: base}}
		}
	}
	for name, c := range map[string]struct {
		board   func(*testing.T) *appraisetest.Board
		change  func(*appraise.Input)
		fault   string // of the counter
		doubt   string
		unknown bool // the boot is not known any more
	}{
		"none is measured":     {board: func(t *testing.T) *appraisetest.Board { return appraisetest.New(t) }},
		"another is certified": {board: at(0x01800009, 1), fault: "not among the certified"},
		"none is certified": {board: at(appraisetest.CounterIndex, 1), change: func(in *appraise.Input) { in.Evidence.Counters = nil },
			fault: "not among the certified"},
		"below its base":        {board: at(appraisetest.CounterIndex, 4), fault: "below the 4"},
		"base moved up":         {board: at(appraisetest.CounterIndex, 2), change: began(1), fault: "began at 1"},
		"base moved down":       {board: at(appraisetest.CounterIndex, 0), change: began(1), fault: "began at 1"},
		"measured before":       {board: func(t *testing.T) *appraisetest.Board { return appraisetest.New(t) }, change: began(1), fault: "measures no counter any more"},
		"no NV index":           {board: at(0x81000001, 1), doubt: "unknown measurement", unknown: true},
		"index without a base":  {board: half(0), doubt: "one half"},
		"base without an index": {board: half(1), doubt: "one half"},
		"index of three bytes": {board: func(t *testing.T) *appraisetest.Board {
			b := appraisetest.New(t)
			b.Events = slices.Insert(b.Events, 6, appraisetest.Measured(7, evidence.EventVariableConfig, evidence.Variable(evidence.VariableCounterIndex, []byte{1, 0, 0})))
			return b
		}, doubt: "unknown measurement", unknown: true},
		"base of nine bytes": {board: func(t *testing.T) *appraisetest.Board {
			b := appraisetest.New(t)
			b.Events = slices.Insert(b.Events, 6, appraisetest.Measured(7, evidence.EventVariableConfig, evidence.Variable(evidence.VariableCounterBase, make([]byte, 9))))
			return b
		}, doubt: "unknown measurement", unknown: true},
		"said twice": {board: func(t *testing.T) *appraisetest.Board {
			b := counting(t, appraisetest.CounterIndex, 1)
			b.Events = slices.Insert(b.Events, 6, appraisetest.SecurityCounter(appraisetest.CounterIndex, 3)...)
			return b
		}, doubt: "unknown measurement", unknown: true},
		"said by the firmware": {board: func(t *testing.T) *appraisetest.Board {
			b := appraisetest.New(t)
			b.Events = append(b.Events, appraisetest.SecurityCounter(appraisetest.CounterIndex, 3)...)
			return b
		}, doubt: "unknown measurement", unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			o := runs(t, c.board(t), c.change)
			r := o.Facts.Running
			if r == nil {
				t.Fatal("nothing runs")
			}
			if (c.fault != "" || c.doubt == "") && r.Minimum != nil || !strings.Contains(r.CounterFault, c.fault) || !strings.Contains(r.Doubt, c.doubt) || c.doubt == "" && r.Doubt != "" {
				t.Errorf("minimum %v, fault %q, doubt %q", r.Minimum, r.CounterFault, r.Doubt)
			}
			if unknown := len(o.Facts.Unknown) > 0; unknown != c.unknown {
				t.Errorf("unknown: %v", o.Facts.Unknown)
			}
		})
	}
}

// TestOriginStays: the counter that was measured first under an AK is the one
// that all later ones are held against.
func TestOriginStays(t *testing.T) {
	first := runs(t, counting(t, appraisetest.CounterIndex, 1), nil)
	moved := runs(t, counting(t, appraisetest.CounterIndex, 3), func(in *appraise.Input) { in.Previous = &first.State; in.Previous.Clock = appraise.Clock{} })
	if moved.State.Origin == nil || moved.State.Origin.Base != 1 {
		t.Errorf("remembers %+v", moved.State.Origin)
	}
}

// TestRunningDoubt: a digest proves what runs only where all that measured it
// is known; that the image itself is not known is no doubt.
func TestRunningDoubt(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*appraisetest.Board)
		input  func(*appraise.Input)
		digest identity.Digest
		doubt  string
	}{
		"unknown image": {change: func(b *appraisetest.Board) {
			b.Events = appraisetest.Log(true, true, "deployed", appraisetest.NewImage)
		}, digest: appraisetest.NewImage},
		"unknown boot ROM": {input: func(in *appraise.Input) { in.References = in.References[1:] }, digest: appraisetest.Image, doubt: "unknown measurement"},
		"no separator":     {change: func(b *appraisetest.Board) { b.Events = b.Events[:7] }, digest: appraisetest.Image, doubt: "separator"},
		"a second image": {change: func(b *appraisetest.Board) {
			b.Events = slices.Insert(b.Events, 6, appraise.Event{PCR: 4, Type: evidence.EventIPL, Digest: appraisetest.NewImage})
		}, digest: appraisetest.Image, doubt: "unknown measurement"},
	} {
		t.Run(name, func(t *testing.T) {
			b := appraisetest.New(t)
			if c.change != nil {
				c.change(b)
			}
			r := runs(t, b, c.input).Facts.Running
			if r == nil || r.Digest != c.digest || !strings.Contains(r.Doubt, c.doubt) || c.doubt == "" && r.Doubt != "" {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestNothingRuns: without a log nobody knows.
func TestNothingRuns(t *testing.T) {
	if r := runs(t, appraisetest.New(t), func(in *appraise.Input) { in.Evidence.EventLog = nil }).Facts.Running; r != nil {
		t.Errorf("%+v", r)
	}
}

// TestReferenceOfAnOperator: a Reference Value that comes from a release is no
// operator's word.
func TestReferenceOfAnOperator(t *testing.T) {
	r := runs(t, appraisetest.New(t), func(in *appraise.Input) { in.References[1].Released = true }).Facts.Running
	if r == nil || r.Reference != "" || r.Doubt != "" {
		t.Errorf("%+v", r)
	}
}
