package console

import (
	"net/http"
	"strconv"
	"strings"

	"holdfast/ledger"
)

// ledgerPage is how many records a page shows.
const ledgerPage = 50

func (c *console) ledgerRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /ledger", c.show("ledger", c.ledger))
}

// ledgerView is some records, the newest first.
type ledgerView struct {
	Device, Kind string // only these; empty: all
	Records      []ledger.Record
	Next         string // asks for those before; empty: nothing is left
	Head         ledger.Head
	Chained      bool // nothing is left out, and each record follows the one below it
	Ends         bool // the first is the one that the head speaks of
}

func (c *console) ledger(r *http.Request) (page, error) {
	q := r.URL.Query()
	v := ledgerView{Device: strings.TrimSpace(q.Get("device")), Kind: strings.TrimSpace(q.Get("kind"))}
	var err error
	if v.Head, err = get[ledger.Head](c, r, "/v1/ledger/head"); err != nil {
		return page{}, err
	}
	v.Records, err = get[[]ledger.Record](c, r, "/v1/ledger", "newest", "true", "from", q.Get("from"), "limit", strconv.Itoa(ledgerPage),
		"device", v.Device, "kind", v.Kind)
	if n := len(v.Records); n == ledgerPage && v.Records[n-1].Seq > 1 {
		v.Next = encode([]string{"device", v.Device, "kind", v.Kind, "from", strconv.FormatUint(v.Records[n-1].Seq-1, 10)})
	}
	v.Chained = v.Device == "" && v.Kind == "" && chained(v.Records)
	v.Ends = len(v.Records) > 0 && v.Records[0].Tip() == v.Head.Tip()
	return page{Data: v, Live: changes}, err
}

// chained reports whether each record follows the one after it in the list.
func chained(rs []ledger.Record) bool {
	for i := range len(rs) - 1 {
		if rs[i].Prev != rs[i+1].Hash {
			return false
		}
	}
	return true
}
