package fleet

import (
	"context"
	"time"

	"holdfast/identity"
)

// Absent calls each with every device that has been here and has no session
// now, and when it was last seen.
func (f *Fleet) Absent(ctx context.Context, each func(id identity.Device, seen time.Time)) error {
	return f.survey(ctx, func(p *panel) {
		for _, d := range p.dials {
			if i := d.item; !i.live && !i.LastSeen.IsZero() {
				each(i.ID, i.LastSeen)
			}
		}
	})
}
