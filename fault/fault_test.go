package fault_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"holdfast/fault"
)

var errSecret = errors.New("signature: r is 0")

func TestNewIsPublic(t *testing.T) {
	err := fault.New(fault.Invalid, "topic %q is too long", "a/b")
	if fault.Of(err) != fault.Invalid || fault.Public(err) != `topic "a/b" is too long` || err.Error() != fault.Public(err) {
		t.Errorf("kind %s, public %q, log %q", fault.Of(err), fault.Public(err), err)
	}
}

func TestNewKeepsTheCause(t *testing.T) {
	err := fault.New(fault.Invalid, "read packet: %w", io.ErrUnexpectedEOF)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
	if want := "read packet: unexpected EOF"; err.Error() != want || fault.Public(err) != want {
		t.Errorf("log %q, public %q, want %q once each", err, fault.Public(err), want)
	}
}

func TestHideKeepsTheCauseFromThePeer(t *testing.T) {
	err := fmt.Errorf("session 7: %w", fault.Hide(fault.Integrity, "evidence does not verify", errSecret))
	if fault.Of(err) != fault.Integrity || fault.Public(err) != "evidence does not verify" {
		t.Errorf("kind %s, public %q", fault.Of(err), fault.Public(err))
	}
	if want := "session 7: evidence does not verify: signature: r is 0"; err.Error() != want || !errors.Is(err, errSecret) {
		t.Errorf("log %q, want %q", err, want)
	}
}

func TestPeerLearnsNothingOfInternalErrors(t *testing.T) {
	for name, err := range map[string]error{
		"without a kind":        errSecret,
		"of kind internal":      fault.New(fault.Internal, "open /var/lib/key: %w", errSecret),
		"hidden without a text": fault.Hide(fault.Denied, "", errSecret),
	} {
		if got := fault.Public(err); got != "internal error" {
			t.Errorf("%s: the peer reads %q", name, got)
		}
		if !errors.Is(err, errSecret) {
			t.Errorf("%s: the log does not learn the cause", name)
		}
	}
	if fault.Of(errSecret) != fault.Internal {
		t.Errorf("an error without a kind is %s", fault.Of(errSecret))
	}
}

func TestOutermostKindCounts(t *testing.T) {
	inner := fault.New(fault.NotFound, "no device pump-01")
	if err := fault.Hide(fault.Denied, "not yours", inner); fault.Of(err) != fault.Denied || fault.Public(err) != "not yours" {
		t.Errorf("kind %s, public %q", fault.Of(err), fault.Public(err))
	}
}
