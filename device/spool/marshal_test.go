package spool_test

import (
	"encoding/json"
	"testing"

	"holdfast/logs"
)

func marshal(t *testing.T, rs []logs.Record) []byte {
	t.Helper()
	b, err := json.Marshal(rs)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
