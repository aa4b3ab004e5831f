package checks

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"holdfast/audit/csource"
	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

// The families of configurations, as subject.Config names them.
const (
	threadX   = "tx_user.h"
	netX      = "nx_user.h"
	netXTLS   = "nx_secure_user.h"
	freeRTOS  = "FreeRTOSConfig.h"
	mbedTLS   = "mbedtls_config.h"
	kconfig   = "kconfig"
	azureIoT  = netX // the add-ons read NetX's header
	undefined = "undefined"
	defined   = "defined"
)

// macro is a switch of a library: how it should stand, and how upstream asks
// for it. Most are asked for with #ifdef, so that a definition as 0 counts as a
// definition.
type macro struct {
	id       string
	name     string
	family   []string
	want     string // defined, undefined, or a condition on its number: ">=32", "<=2", "==0"
	absent   int64  // the number it has where nothing defines it
	measure  measure.ID
	bullets  []string
	severity finding.Severity
	title    string
	why      string
	fix      string // empty: what want says
	section  string
	cwe      string
	// when says where the switch matters at all; nil: wherever its family is.
	when func(*subject.Subject, *subject.Config) bool
}

// macroRules makes a rule of each switch.
func macroRules() []Rule {
	var all []Rule
	for _, m := range slices.Concat(threadXMacros(), netXMacros(), tlsMacros(), addonMacros(), freeRTOSMacros(), mbedTLSMacros(), kconfigMacros()) {
		all = append(all, m.rule())
	}
	return append(all, deadMacroRule())
}

func (m macro) rule() Rule {
	fix := m.fix
	if fix == "" {
		fix = map[string]string{defined: "Define " + m.name + ".", undefined: "Remove the definition of " + m.name + "; a definition as 0 counts too."}[m.want]
	}
	if fix == "" {
		fix = "Set " + m.name + " to a value " + m.want + "."
	}
	bad, good := m.examples()
	var weaknesses []string
	if m.cwe != "" {
		weaknesses = []string{m.cwe}
	}
	return Rule{ID: m.id, Measure: m.measure, Bullets: m.bullets, Severity: m.severity, Confidence: finding.Firm, Title: m.title, Why: m.why,
		Section: m.section, CWE: weaknesses, Fix: fix, Bad: bad, Good: good, Judge: m.judge}
}

// examples returns a wrong and a right line.
func (m macro) examples() (bad, good string) {
	on, off := "#define "+m.name, "/* "+m.name+" is not defined */"
	switch n, op, number := bound(m.want); {
	case number && op == ">=":
		return fmt.Sprintf("%s %d", on, n-1), fmt.Sprintf("%s %d", on, n)
	case number:
		return fmt.Sprintf("%s %d", on, n+1), fmt.Sprintf("%s %d", on, n)
	case m.want == undefined:
		return on, off
	}
	return off, on
}

// bound reads a condition as ">=32".
func bound(want string) (n int64, op string, ok bool) {
	if len(want) < 3 || !slices.Contains([]string{">=", "<=", "=="}, want[:2]) {
		return 0, "", false
	}
	n, err := strconv.ParseInt(want[2:], 10, 64)
	return n, want[:2], err == nil
}

// holds reports whether a number meets the condition.
func (m macro) holds(n int64) bool {
	switch want, op, _ := bound(m.want); op {
	case ">=":
		return n >= want
	case "<=":
		return n <= want
	default:
		return n == want
	}
}

// judge looks the switch up in the configurations of its families, each by
// itself.
func (m macro) judge(s *subject.Subject, r *Ruling) {
	r.Idle("no %s that it means anything for", strings.Join(m.family, " or "))
	for _, c := range m.asked(s.Configs) {
		if m.when == nil || m.when(s, c) {
			m.look(c, r)
		}
	}
}

// asked returns the configurations that are asked for the switch. Where it may
// stand in either of two headers of one build, the one that names it speaks for
// both, and the first family's where neither does.
func (m macro) asked(all []*subject.Config) []*subject.Config {
	own := slices.DeleteFunc(slices.Clone(all), func(c *subject.Config) bool { return !slices.Contains(m.family, c.Family) })
	rank := func(c *subject.Config) int {
		if _, named := c.Macros.Lookup(m.name); named {
			return 0
		}
		return 1 + slices.Index(m.family, c.Family)
	}
	return slices.DeleteFunc(slices.Clone(own), func(c *subject.Config) bool {
		return slices.ContainsFunc(own, func(o *subject.Config) bool {
			return o.Family != c.Family && rank(o) < rank(c) && (len(own) == 2 || path.Dir(o.File) == path.Dir(c.File))
		})
	})
}

// look judges one configuration.
func (m macro) look(c *subject.Config, r *Ruling) {
	got, named := c.Macros.Lookup(m.name)
	at := got.Location
	if !named || at.File == "" {
		at = finding.InFile(c.File)
	}
	if _, _, number := bound(m.want); number {
		m.lookNumber(c, at, named, r)
		return
	}
	switch {
	case c.Macros.State(m.name) == csource.Unsure:
		r.Unknown("whether %s is defined depends on what %s does not say", m.name, c.File)
	case named && got.State == csource.Defined && m.want == undefined:
		r.Found(at, "%s is defined%s", m.name, asZero(got))
	case named && got.State == csource.Defined, m.want == undefined && (named || c.Macros.Complete):
		r.Pass("%s is %s", m.name, m.want)
	case m.want == defined && (named || c.Macros.Complete):
		r.Found(at, "%s is not defined", m.name)
	case m.want == defined:
		r.FoundAs(m.severity, finding.Guess, at, "%s is not defined in the configuration", m.name)
	default:
		r.Unknown("%s does not define %s, and the command line, which may, is not known", c.File, m.name)
	}
}

// asZero warns of a definition that looks like its opposite.
func asZero(m csource.Macro) string {
	if m.Value == "0" {
		return " (as 0, which counts as defined: it is asked for with #ifdef)"
	}
	return ""
}

func (m macro) lookNumber(c *subject.Config, at finding.Location, named bool, r *Ruling) {
	n, known := c.Macros.Int(m.name)
	absent := !named || c.Macros.State(m.name) == csource.Undefined
	if absent {
		n = m.absent
	}
	switch {
	case known && !m.holds(n):
		r.Found(at, "%s is %d", m.name, n)
	case absent && c.Macros.Complete && !m.holds(n):
		r.Found(at, "%s is not set: %d", m.name, n)
	case absent && !m.holds(n):
		r.FoundAs(m.severity, finding.Guess, at, "%s is not set in the configuration: %d", m.name, n)
	case known, absent && c.Macros.Complete:
		r.Pass("%s is %d", m.name, n)
	default:
		r.Unknown("what %s comes to is not known", m.name)
	}
}

// deadMacros are names that documents give and no source asks for, with what
// to use instead.
var deadMacros = map[string]string{
	"NX_SECURE_TLS_DISABLE_TLS_1_1":      "TLS 1.1 is off unless NX_SECURE_TLS_ENABLE_TLS_1_1 is defined",
	"NX_CRYPTO_DISABLE_UNALIGNED_ACCESS": "unaligned access is off unless NX_CRYPTO_ENABLE_UNALIGNED_ACCESS is defined",
	"NX_CRYPTO_KEY_CLEAR":                "the name is NX_SECURE_KEY_CLEAR",
	"NX_SECURE_CERT_VERIFY_DISABLE":      "nothing asks for it",
	"NX_FTP_NO_AUTHENTICATION":           "nothing asks for it",
}

func deadMacroRule() Rule {
	return Rule{
		ID: "CFG-DEAD-01", Measure: measure.AppCompiler, Bullets: []string{"take.clean-builds"}, Severity: finding.Low, Confidence: finding.Certain,
		Title:   "a switch that does nothing is set",
		Why:     "The name stands in documents and no source of NetX Duo asks for it: whoever set it believes in a protection that is not there.",
		Section: "Use the latest version of TLS possible for connectivity", CWE: []string{"CWE-1164"},
		Fix: "Remove it, and set the switch that the message names.", Bad: "#define NX_CRYPTO_KEY_CLEAR", Good: "#define NX_SECURE_KEY_CLEAR",
		Judge: judgeDead,
	}
}

func judgeDead(s *subject.Subject, r *Ruling) {
	if len(s.Configs) == 0 {
		r.Idle("no configuration")
		return
	}
	for _, c := range s.Configs {
		for _, m := range c.Macros.All() {
			if instead, dead := deadMacros[m.Name]; dead && m.State == csource.Defined {
				r.Found(m.Location, "%s does nothing: %s", m.Name, instead)
			}
		}
	}
	r.Pass("no switch is set that nothing asks for")
}

// hasDefined tells of configurations that define a macro for sure.
func hasDefined(name string) func(*subject.Subject, *subject.Config) bool {
	return func(_ *subject.Subject, c *subject.Config) bool { return c.Macros.State(name) == csource.Defined }
}

// without tells of configurations that do not define a macro.
func without(name string) func(*subject.Subject, *subject.Config) bool {
	return func(_ *subject.Subject, c *subject.Config) bool { return c.Macros.State(name) != csource.Defined }
}

// serves tells of firmware that has a TLS server in it.
func serves(s *subject.Subject, _ *subject.Config) bool {
	https := func(c *subject.Config) bool { return c.Macros.State("NX_WEB_HTTPS_ENABLE") == csource.Defined }
	return slices.ContainsFunc(s.Configs, https) || links(s, "_nx_tcpserver_start", "_nx_web_http_server_start", "_nxe_web_http_server_start")
}

func linksSNMP(s *subject.Subject, _ *subject.Config) bool {
	return links(s, "_nx_snmp_agent_start", "_nxe_snmp_agent_start")
}

// links reports whether any program has one of the functions in it.
func links(s *subject.Subject, names ...string) bool {
	return slices.ContainsFunc(s.Programs, func(p *subject.Program) bool { return slices.ContainsFunc(names, p.Has) })
}

// oldMbed tells of configurations of Mbed TLS 2, whose switches the next
// version always has on.
func oldMbed(_ *subject.Subject, c *subject.Config) bool {
	_, named := c.Macros.Lookup("MBEDTLS_X509_CHECK_KEY_USAGE")
	return named || subject.Base(c.File) == "config.h"
}

// espidf and zephyr tell whose options a .config has; others', as of the Linux
// kernel, are neither's.
func espidf(_ *subject.Subject, c *subject.Config) bool {
	return names(c, "CONFIG_IDF_TARGET", "CONFIG_IDF_CMAKE")
}

func zephyr(s *subject.Subject, c *subject.Config) bool {
	return !espidf(s, c) && (subject.Base(c.File) == "prj.conf" || names(c, "CONFIG_SYS_CLOCK_TICKS_PER_SEC", "CONFIG_MULTITHREADING", "CONFIG_KERNEL_INIT_PRIORITY_DEFAULT"))
}

// zephyrMMU tells of Zephyr on a core with an MMU.
func zephyrMMU(s *subject.Subject, c *subject.Config) bool {
	return zephyr(s, c) && c.Macros.State("CONFIG_MMU") == csource.Defined
}

func names(c *subject.Config, macros ...string) bool {
	return slices.ContainsFunc(macros, func(name string) bool { _, ok := c.Macros.Lookup(name); return ok })
}
