// Package console has no code. Its tests drive the operators' console in
// Debian's Chromium, before a whole hub with devices: every page and every act,
// with the keyboard, on a phone, in both themes, and with what hostile devices
// say. Screenshots go to the directory that HOLDFAST_SCREENSHOTS names.
package console
