package main

import (
	"slices"

	"holdfast/audit/checks"
	"holdfast/audit/process"
	"holdfast/measure"
)

// What decides a bullet of the checklist.
const (
	byRule     = "rules"
	byEvidence = "evidence"
	byBoth     = "rules, evidence"
	byNeither  = "neither"
)

// bullet is a bullet with what decides it in an audit.
type bullet struct {
	measure.Item
	By string
}

// bullets returns the bullets of a list. One that has others under it rests on
// what decides these too.
func bullets(list measure.List) []bullet {
	ruled, evidenced := map[string]bool{}, map[string]bool{}
	speak := func(by map[string]bool, ids []string) {
		for _, id := range ids {
			by[id] = true
			if item, ok := measure.FindItem(id); ok && item.Parent != "" {
				by[item.Parent] = true
			}
		}
	}
	for _, r := range checks.All() {
		speak(ruled, r.Bullets)
	}
	for _, k := range process.Kinds() {
		speak(evidenced, k.Bullets())
	}
	var out []bullet
	for _, it := range items(list) {
		by := byNeither
		switch {
		case ruled[it.ID] && evidenced[it.ID]:
			by = byBoth
		case ruled[it.ID]:
			by = byRule
		case evidenced[it.ID]:
			by = byEvidence
		}
		out = append(out, bullet{it, by})
	}
	return out
}

// count returns how many bullets of both lists are decided so.
func count(by string) int {
	n := 0
	for _, b := range slices.Concat(bullets(measure.Take), bullets(measure.Avoid)) {
		if b.By == by {
			n++
		}
	}
	return n
}
