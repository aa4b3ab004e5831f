// Package measure has the words of the security checklist: the measures, each
// with a stable id, and what is known of one on a device (verdict, grade, row).
package measure
