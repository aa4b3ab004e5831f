package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/operator"
)

func TestRolloutRefusesWrongFlags(t *testing.T) {
	t.Setenv("HOLDFAST_PROFILE", filepath.Join(t.TempDir(), "none.json"))
	for args, want := range map[string]string{
		"start pump --group g":                           "1 arguments instead of 2",
		"start Pump 1.4.0 --group g":                     `product "Pump"`,
		"start pump 1.4 --group g":                       "version",
		"start pump 1.4.0":                               "say which devices",
		"start pump 1.4.0 --group g --device d":          "say which devices",
		"start pump 1.4.0 --group g!":                    "--group: ",
		"start pump 1.4.0 --device d!":                   "--device: ",
		"start pump 1.4.0 --group g --canary 5":          "--canary: share",
		"start pump 1.4.0 --group g --canary 0%":         "want more than 0%",
		"start pump 1.4.0 --group g --step 101%":         "--step: share",
		"start pump 1.4.0 --group g --halt-on x%":        "--halt-on: share",
		"start pump 1.4.0 --group g --soak -1s":          "--soak -1s: want whole seconds",
		"start pump 1.4.0 --group g --soak 1500ms":       "--soak 1.5s: want whole seconds",
		"start pump 1.4.0 --group g --deadline 1s":       "--deadline 1s",
		"start pump 1.4.0 --group g --silent-after 1s":   "--silent-after 1s",
		"start pump 1.4.0 --group g --window 22-04":      "--window: maintenance window",
		"start pump 1.4.0 --group g --window 1:00-02:00": "--window: maintenance window",
		"retry r --device d!":                            "--device: ",
		"watch r --every 1ms":                            "--every 1ms",
		"watch a b":                                      "2 arguments instead of 0 to 1",
		"pause":                                          "0 arguments instead of 1",
		"pause r --device d":                             "unknown flag: --device",
		"explode r":                                      `unknown command or argument "explode"`,
	} {
		_, err := call(t, append([]string{"rollout"}, strings.Fields(args)...)...)
		if exitCode(err) != 2 || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
	if _, err := call(t, "rollout", "start", "pump", "1.4.0+7", "--group", "pumps", "--canary", "0.5%", "--window", "22:00-04:00", "--soak", "0s"); exitCode(err) != 1 || !strings.Contains(err.Error(), "profile") {
		t.Errorf("what is right: %v", err)
	}
}

func TestRolloutLine(t *testing.T) {
	r := operator.Rollout{ID: "pump-x", Product: "pump", Stage: "running", Wave: 2, Waves: 5, Limit: 30,
		Counts: operator.RolloutCounts{Done: 20, Updating: 5, Failed: 1, Waiting: 74, Excluded: 2}}
	if got, want := rolloutLine(r), "pump-x pump 0.0.0: running, wave 2 of 5: 20 of 100 done, 5 updating, 74 waiting, 1 failed, 2 excluded"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := bar(r), "[######!==|....................]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	r.Soaked = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	if got := rolloutLine(r); !strings.HasSuffix(got, "soaks until 10:00:00") {
		t.Error(got)
	}
	r.Stage, r.Reason = "halted", "3 failed\x1b[31m"
	if got := rolloutLine(r); !strings.HasSuffix(got, `; 3 failed\x1b[31m`) {
		t.Error(got)
	}
	for _, r := range []operator.Rollout{{}, {Counts: operator.RolloutCounts{Done: 1}, Limit: 1}, {Counts: operator.RolloutCounts{Done: 1, Failed: 1, Offered: 1, Waiting: 1000}, Limit: 1}} {
		if got := bar(r); len(got) != barWidth+2 {
			t.Errorf("%d: %s", len(got), got)
		}
	}
}
