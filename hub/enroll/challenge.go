package enroll

import (
	"crypto/rand"
	"crypto/subtle"
	"sync"
	"time"

	"holdfast/birth"
	"holdfast/fault"
)

const (
	// ChallengeTTL is how long a device has to answer.
	ChallengeTTL = time.Minute
	// MaxChallenges bounds how many are open; each takes some 4 KiB.
	MaxChallenges = 4096
)

// challenge is what a device has to answer, and what follows when it does.
type challenge struct {
	entry   birth.Entry
	shown   *birth.Verified
	secret  []byte
	expires time.Time
}

// answered compares in constant time.
func (c challenge) answered(secret []byte) bool {
	return subtle.ConstantTimeCompare(c.secret, secret) == 1
}

// challenges are the open challenges, in memory alone: none outlives the
// process. The zero value is ready.
type challenges struct {
	mu   sync.Mutex
	open map[string]challenge
}

// add opens a challenge and returns what it is answered under.
func (s *challenges) add(c challenge, now time.Time) (session string, err error) {
	session = rand.Text() + rand.Text()
	c.expires = now.Add(ChallengeTTL)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[string]challenge)
	}
	if len(s.open) >= MaxChallenges {
		s.expire(now)
	}
	if len(s.open) >= MaxChallenges {
		return "", fault.New(fault.Unavailable, "too many devices enrol at once")
	}
	s.open[session] = c
	return session, nil
}

// expire drops what nobody answered in time.
func (s *challenges) expire(now time.Time) {
	for session, c := range s.open {
		if !now.Before(c.expires) {
			delete(s.open, session)
		}
	}
}

// spend returns a challenge and makes it unusable.
func (s *challenges) spend(session string, now time.Time) (challenge, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.open[session]
	delete(s.open, session)
	if !ok || !now.Before(c.expires) {
		return challenge{}, fault.New(fault.Conflict, "the challenge is unknown, spent or expired: begin again")
	}
	return c, nil
}
