//go:build !cgo

package main

import (
	"errors"

	"holdfast/internal/token"
)

// libraries is what a build without cgo has of PKCS#11: nothing.
type libraries struct{}

func newLibraries() libraries { return libraries{} }

func (libraries) answer(token.Request) (token.Answer, error) {
	return token.Answer{}, errors.New("this holdfast-pkcs11 was built without cgo and cannot load PKCS#11 libraries: build it with CGO_ENABLED=1 go build ./cmd/holdfast-pkcs11")
}

func (libraries) close() {}
