package tuf_test

import (
	"fmt"
	"testing"

	"holdfast/tuf"
)

// BenchmarkRefresh is a device's first update of its metadata, without the
// network: two signatures of each kind on root, targets and product.
func BenchmarkRefresh(b *testing.B) {
	for _, releases := range []int{1, tuf.DefaultLimits().Releases} {
		b.Run(fmt.Sprintf("releases=%d", releases), func(b *testing.B) {
			r := newRepo()
			for i := range releases - 1 {
				r.addRelease("pump", fmt.Sprintf("2.%d.%d", i/100, i%100))
			}
			r.publish()
			b.ReportAllocs()
			for b.Loop() {
				if err := refresh(r.open(b), r.files, known); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFind is what precedes each installation.
func BenchmarkFind(b *testing.B) {
	trust := newRepo().opened(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := trust.Find("pump", version("1.4.0"), known); err != nil {
			b.Fatal(err)
		}
	}
}
