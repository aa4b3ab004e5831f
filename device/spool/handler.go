package spool

import (
	"context"
	"errors"
	"log/slog"
	"maps"

	"holdfast/logs"
)

// Handler returns a slog.Handler that appends records of level info and above
// to the spool and passes all that next wants on to next. What the spool
// cannot take is counted in Dropped.
func (s *Spool) Handler(next slog.Handler) slog.Handler {
	return &handler{spool: s, next: next}
}

type handler struct {
	spool  *Spool
	next   slog.Handler
	attrs  map[string]string // of With, never changed once set
	prefix string            // of WithGroup
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || h.next.Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	var errs []error
	if r.Level >= slog.LevelInfo {
		errs = append(errs, h.spool.Append(h.record(r)))
	}
	if h.next.Enabled(ctx, r.Level) {
		errs = append(errs, h.next.Handle(ctx, r))
	}
	return errors.Join(errs...)
}

func (h *handler) record(r slog.Record) logs.Record {
	attrs := maps.Clone(h.attrs)
	if attrs == nil {
		attrs = make(map[string]string, r.NumAttrs())
	}
	r.Attrs(func(a slog.Attr) bool {
		flatten(attrs, h.prefix, a)
		return true
	})
	return logs.Record{Time: r.Time.UTC(), Level: level(r.Level), Message: r.Message, Attrs: attrs}
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(as []slog.Attr) slog.Handler {
	attrs := maps.Clone(h.attrs)
	if attrs == nil {
		attrs = make(map[string]string, len(as))
	}
	for _, a := range as {
		flatten(attrs, h.prefix, a)
	}
	return &handler{spool: h.spool, next: h.next.WithAttrs(as), attrs: attrs, prefix: h.prefix}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &handler{spool: h.spool, next: h.next.WithGroup(name), attrs: h.attrs, prefix: h.prefix + name + "."}
}

// flatten puts an attribute into m; those of a group become group.name.
func flatten(m map[string]string, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() != slog.KindGroup {
		if a.Key != "" {
			m[prefix+a.Key] = v.String()
		}
		return
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	for _, g := range v.Group() {
		flatten(m, prefix, g)
	}
}

func level(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	}
	return "error"
}
