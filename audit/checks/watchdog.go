package checks

import (
	"regexp"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

func watchdogRules() []Rule {
	const section = "Watchdog timers"
	return []Rule{{
		ID: "WDG-ARM-01", Measure: measure.AppWatchdog, Bullets: []string{"take.watchdog"}, Severity: finding.Medium, Confidence: finding.Guess,
		Title: "nothing arms a watchdog", Why: "A watchdog ends code that has run away, and shortens the time that an attack has.", Section: section, CWE: []string{"CWE-1247"},
		Fix: "Arm the independent watchdog early in the start-up code.", Bad: "int main(void) { tx_kernel_enter(); }", Good: "int main(void) { HAL_IWDG_Init(&watchdog); tx_kernel_enter(); }",
		Judge: eachProgram(judgeArmed),
	}, {
		ID: "WDG-FEED-01", Measure: measure.AppWatchdog, Bullets: []string{"take.watchdog"}, Severity: finding.Medium, Confidence: finding.Guess,
		Title: "the watchdog is armed and nothing feeds it, or an interrupt does", Why: "Unfed it resets the device for ever; fed from an interrupt it stays quiet when the threads have stopped.", Section: section, CWE: []string{"CWE-1247"},
		Fix: "Feed it from a thread that has seen every other thread alive.", Bad: "void SysTick_Handler(void) { HAL_IWDG_Refresh(&watchdog); }", Good: "void monitor(void) { if (all_alive()) HAL_IWDG_Refresh(&watchdog); }",
		Judge: eachProgram(judgeFed),
	}}
}

var (
	watchdogName = `(?i)(wdt|wdog|iwdg|wwdg|wwdt|wdtc|watch_?dog|iwdt|rwdt|wdg)`
	// arming are functions that start a watchdog, by their names.
	arming  = regexp.MustCompile(watchdogName + `\w*(init|enable|start|setup|open|arm|install|config|unstall|activate)`)
	arming2 = regexp.MustCompile(`(?i)(init|enable|start|setup|arm|config)\w*` + watchdogName[4:])
	// feeding are functions that tell it to wait again.
	feeding = regexp.MustCompile(watchdogName + `\w*(refresh|reload|feed|kick|reset|pet|clear|service|restart|update|alive)|(?i)(feed|kick|pet|refresh|reload|service|reset)_?(the_?)?(wdt|wdog|iwdg|watch_?dog)`)
	// off are functions that stop it.
	off = regexp.MustCompile(`(?i)(disable|deinit|stop|reset_?flag|is_?(running|enabled)|irq|isr|handler|callback|get)`)
	// interrupt are handlers of interrupts.
	interrupt = regexp.MustCompile(`(_IRQHandler|_Handler|_ISR|_isr|IRQHandler|_vect)$`)
)

// watchdogUses returns the functions of a kind that a program uses.
func watchdogUses(p *subject.Program, kinds ...*regexp.Regexp) []subject.Symbol {
	var all []subject.Symbol
	for _, s := range p.Symbols {
		if s.Kind != subject.FuncSymbol || off.MatchString(s.Name) || p.Calls.Decoded && !p.Calls.Used(s.Name) {
			continue
		}
		for _, k := range kinds {
			if k.MatchString(s.Name) {
				all = append(all, s)
				break
			}
		}
	}
	return all
}

// registers tells of the independent watchdog of STM32, written without a
// library: its address, and the key that starts it.
func registers(p *subject.Program, key uint32) (uint64, bool) {
	if p.Arch != subject.ARM {
		return 0, false
	}
	for _, base := range []uint32{0x4000_3000, 0x5800_4800, 0x4000_2c00} { // IWDG, of H7, WWDG
		if _, ok := constant(p, base); !ok {
			continue
		}
		if at, ok := constant(p, key); ok {
			return at, true
		}
		if at, ok := halfConstant(p, uint16(key)); ok {
			return at, true
		}
	}
	return 0, false
}

// halfConstant returns where the code loads a number of 16 bits.
func halfConstant(p *subject.Program, n uint16) (at uint64, ok bool) {
	halfwords(p, func(here uint64, this, next uint16) bool {
		if v, _, is := movw(this, next); is && v == n {
			at, ok = here, true
		}
		return !ok
	})
	return at, ok
}

// The keys of IWDG_KR (reference manual of STM32, "Independent watchdog").
const startKey, feedKey = 0xcccc, 0xaaaa

func judgeArmed(p *subject.Program, r *Ruling) {
	if !linked(p) || hosted(p) {
		r.Idle("no firmware: on an operating system the system arms the watchdog")
		return
	}
	if all := watchdogUses(p, arming, arming2); len(all) > 0 {
		r.Pass("%s uses %s", p.File, all[0].Name)
		return
	}
	if at, ok := registers(p, startKey); ok {
		r.Pass("%s starts the independent watchdog", orUnnamed(p.At(at).Symbol))
		return
	}
	if why := nameless(p); why != "" {
		r.Unknown("%s", why)
		return
	}
	if p.Arch != subject.ARM && p.Arch != subject.RISCV32 && p.Arch != subject.AArch64 && p.Arch != subject.RISCV64 {
		r.Unknown("the watchdogs of this machine are not known")
		return
	}
	r.Found(finding.InFile(p.File), "no function that is known to arm a watchdog is used")
}

func judgeFed(p *subject.Program, r *Ruling) {
	if !linked(p) || hosted(p) {
		r.Idle("no firmware: on an operating system the system feeds the watchdog")
		return
	}
	armed := watchdogUses(p, arming, arming2)
	fed := watchdogUses(p, feeding)
	_, byHand := registers(p, startKey)
	if len(armed) == 0 && !byHand {
		r.Idle("no watchdog is known to be armed")
		return
	}
	if _, ok := registers(p, feedKey); ok && len(fed) == 0 {
		r.Pass("the independent watchdog is fed")
		return
	}
	if len(fed) == 0 {
		r.Found(finding.InFile(p.File), "nothing that is used feeds the watchdog")
		return
	}
	threads := 0
	for _, f := range fed {
		for _, c := range p.Calls.To(f.Name) {
			if interrupt.MatchString(c.From) {
				r.Found(p.At(c.Site), "%s, an interrupt, feeds the watchdog with %s", c.From, f.Name)
			} else {
				threads++
			}
		}
	}
	r.Pass("the watchdog is fed in %d places", threads)
}
