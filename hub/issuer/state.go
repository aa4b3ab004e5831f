package issuer

import (
	"time"

	"holdfast/pki"
)

// List is a revocation list that was signed last.
type List struct {
	Class        pki.Class
	Number       int64
	Signed, Next time.Time // its nextUpdate
}

// Lists returns the revocation lists that are in memory, of device classes. One
// that nobody has asked for since the hub began is not.
func (i *Issuer) Lists() []List {
	i.mu.Lock()
	defer i.mu.Unlock()
	var ls []List
	for _, class := range []pki.Class{pki.Birth, pki.Operational} {
		c := i.crls[class]
		if c.der == nil {
			continue
		}
		half := i.cfg.CRLLifetime / 2
		ls = append(ls, List{Class: class, Number: c.number, Signed: c.renew.Add(-half), Next: c.renew.Add(half)})
	}
	return ls
}
