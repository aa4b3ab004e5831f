package checks_test

import (
	"strings"
	"testing"

	"holdfast/audit/checks"
	"holdfast/audit/csource"
	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

// config is a configuration of a family with a text; whole says that the
// command line is known too.
func config(family, text string, whole bool) *subject.Subject {
	t := csource.NewTable()
	t.Complete = whole
	t.Read(family, text, nil, csource.Limits{Includes: 4, Lines: 1000})
	s := subject.New(nil)
	s.Configs = []*subject.Config{{File: family, Family: family, Macros: t}}
	return s
}

// Each switch turns its own rule by its examples: in a configuration that is
// whole, the wrong one fails and the right one passes.
func TestEachSwitchTurnsItsRule(t *testing.T) {
	for _, r := range checks.All() {
		family := familyOf(r)
		if family == "" {
			continue
		}
		res, found := run(t, config(family, context(r.ID)+r.Bad+"\n", true), r.ID)
		if res.Verdict != measure.Fail && r.Severity != finding.Info || len(found) != 1 {
			t.Errorf("%s with %q: %s, %d findings (%s)", r.ID, r.Bad, res.Verdict, len(found), res.Reason)
		}
		if res, found := run(t, config(family, context(r.ID)+r.Good+"\n", true), r.ID); res.Verdict != measure.Pass || len(found) != 0 {
			t.Errorf("%s with %q: %s (%s)", r.ID, r.Good, res.Verdict, res.Reason)
		}
	}
}

// familyOf returns the family of a rule of the tables.
func familyOf(r checks.Rule) string {
	for prefix, family := range map[string]string{"TX-": "tx_user.h", "NX-": "nx_user.h", "NXS-": "nx_secure_user.h", "NXA-": "nx_user.h",
		"FR-": "FreeRTOSConfig.h", "MB-": "mbedtls_config.h", "ZE-": "kconfig", "ES-": "kconfig"} {
		if strings.HasPrefix(r.ID, prefix) && (strings.HasPrefix(r.Good, "#define") || strings.HasPrefix(r.Bad, "#define")) && !strings.Contains(r.ID, "NXA-SNMP") {
			return family
		}
	}
	return ""
}

// context is what a rule needs beside its switch to mean anything.
func context(id string) string {
	switch {
	case id == "TX-STACK-03":
		return "#define TX_ENABLE_STACK_CHECKING\n"
	case id == "NX-ICMP-01":
		return "#define FEATURE_NX_IPV6\n"
	case id == "NXS-CLIENT-01", id == "NXS-RENEG-03":
		return "#define NX_WEB_HTTPS_ENABLE\n"
	case id == "FR-MPU-02":
		return "#define configENABLE_MPU 1\n"
	case strings.HasPrefix(id, "MB-KU-"):
		return "#undef MBEDTLS_X509_CHECK_KEY_USAGE\n"
	case strings.HasPrefix(id, "ZE-"):
		return "#define CONFIG_MULTITHREADING 1\n#define CONFIG_MMU 1\n"
	case strings.HasPrefix(id, "ES-"):
		return "#define CONFIG_IDF_TARGET esp32\n"
	}
	return ""
}

func TestSwitches(t *testing.T) {
	for _, c := range []struct {
		name, family, text string
		whole              bool
		rule               string
		verdict            measure.Verdict
		confidence         finding.Confidence
		says               string
	}{
		{"0 counts as defined", "nx_secure_user.h", "#define NX_SECURE_TLS_DISABLE_SECURE_RENEGOTIATION 0\n", true, "NXS-RENEG-01", measure.Fail, finding.Firm, "counts as defined"},
		{"as 0 it is defined where that is wanted", "tx_user.h", "#define TX_ENABLE_STACK_CHECKING 0\n", true, "TX-STACK-01", measure.Pass, "", ""},
		{"undefined again", "tx_user.h", "#define TX_DISABLE_ERROR_CHECKING\n#undef TX_DISABLE_ERROR_CHECKING\n", false, "TX-CHECK-01", measure.Pass, "", ""},
		{"behind a condition that nobody knows", "tx_user.h", "#ifdef DEBUG\n#define TX_DISABLE_ERROR_CHECKING\n#endif\n", false, "TX-CHECK-01", measure.Unknown, "", "depends"},
		{"the command line may define it", "tx_user.h", "\n", false, "TX-CHECK-01", measure.Unknown, "", "command line"},
		{"the command line does not", "tx_user.h", "\n", true, "TX-CHECK-01", measure.Pass, "", ""},
		{"missing, as far as the header tells", "tx_user.h", "\n", false, "TX-STACK-01", measure.Fail, finding.Guess, "not defined"},
		{"of another library", "FreeRTOSConfig.h", "\n", true, "TX-STACK-01", measure.Unknown, "", "no tx_user.h"},
		{"a number through a macro", "FreeRTOSConfig.h", "#define LEVEL 1\n#define configCHECK_FOR_STACK_OVERFLOW (LEVEL + 1)\n", false, "FR-STACK-01", measure.Pass, "", "is 2"},
		{"a number that is not known", "FreeRTOSConfig.h", "#define configCHECK_FOR_STACK_OVERFLOW ELSEWHERE\n", false, "FR-STACK-01", measure.Unknown, "", "not known"},
		{"a number that is not set", "FreeRTOSConfig.h", "\n", false, "FR-STACK-01", measure.Fail, finding.Guess, "not set"},
		{"a switch that nothing asks for", "nx_secure_user.h", "#define NX_CRYPTO_KEY_CLEAR\n", false, "CFG-DEAD-01", measure.Fail, finding.Certain, "NX_SECURE_KEY_CLEAR"},
		{"Zephyr's options in a kernel's .config", "kconfig", "#define CONFIG_CC_VERSION_TEXT 1\n", true, "ZE-STACK-01", measure.Unknown, "", "means anything"},
	} {
		res, found := run(t, config(c.family, c.text, c.whole), c.rule)
		said := res.Reason
		if len(found) > 0 {
			said = found[0].Message
			if found[0].Confidence != c.confidence {
				t.Errorf("%s: confidence %s", c.name, found[0].Confidence)
			}
		}
		if res.Verdict != c.verdict || !strings.Contains(said, c.says) {
			t.Errorf("%s: %s (%s), want %s with %q", c.name, res.Verdict, said, c.verdict, c.says)
		}
	}
}

// Switches of NetX Secure may stand in either of two headers: the one that
// names a switch speaks for the build, and where neither does it is missing
// once.
func TestSwitchesOfTwoHeaders(t *testing.T) {
	const set = "#define NX_SECURE_KEY_CLEAR\n"
	for _, c := range []struct {
		name      string
		netX, tls string
		verdict   measure.Verdict
		at        string
	}{
		{"in the header of TLS", "\n", set, measure.Pass, ""},
		{"in the header of NetX", set, "\n", measure.Pass, ""},
		{"in neither", "\n", "\n", measure.Fail, "nx_secure_user.h"},
		{"taken back in one", "#undef NX_SECURE_KEY_CLEAR\n", set, measure.Fail, "nx_user.h"},
	} {
		s := config("nx_user.h", c.netX, true)
		s.Configs = append(s.Configs, config("nx_secure_user.h", c.tls, true).Configs...)
		res, found := run(t, s, "NXS-CLEAR-01")
		if res.Verdict != c.verdict || c.at == "" && len(found) > 0 || c.at != "" && (len(found) != 1 || found[0].File != c.at) {
			t.Errorf("%s: %s, %v (%s)", c.name, res.Verdict, found, res.Reason)
		}
	}
}
