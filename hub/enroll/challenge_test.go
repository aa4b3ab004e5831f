package enroll

import (
	"testing"
	"time"

	"holdfast/fault"
)

func TestChallengesAreBounded(t *testing.T) {
	var s challenges
	now := time.Now()
	seen := make(map[string]bool)
	for range MaxChallenges {
		session, err := s.add(challenge{}, now)
		if err != nil || seen[session] || len(session) < 50 {
			t.Fatalf("session %q, %v", session, err)
		}
		seen[session] = true
	}
	if _, err := s.add(challenge{}, now.Add(ChallengeTTL-1)); fault.Of(err) != fault.Unavailable {
		t.Errorf("one more: %v", err)
	}
	session, err := s.add(challenge{}, now.Add(ChallengeTTL))
	if err != nil || len(s.open) != 1 {
		t.Fatalf("after they have expired: %v, %d open", err, len(s.open))
	}
	if _, err := s.spend(session, now.Add(ChallengeTTL)); err != nil {
		t.Error(err)
	}
	if _, err := s.spend(session, now.Add(ChallengeTTL)); fault.Of(err) != fault.Conflict {
		t.Errorf("spent twice: %v", err)
	}
}
