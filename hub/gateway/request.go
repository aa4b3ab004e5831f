package gateway

import (
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"holdfast/internal/httpfault"
	"holdfast/iothub"
)

// line is a kind of requests that are answered one after the other.
type line int

// The lines, and how many requests each takes before it refuses more.
const (
	attestLine line = iota
	twinLine
	credentialLine
	registerLine
	updateLine
	lines
)

var lineDepth = [lines]int{attestLine: 1, twinLine: 16, credentialLine: 2, registerLine: 4, updateLine: 16}

func lineOf(t iothub.Request) line {
	switch t.(type) {
	case iothub.Attest:
		return attestLine
	case iothub.TwinGet, iothub.ReportedPatch:
		return twinLine
	case iothub.IssueCertificate:
		return credentialLine
	case iothub.UpdateProgress:
		return updateLine
	}
	return registerLine
}

// work has the requests of a session that wait for their answers. A session
// without any has no work.
type work struct {
	ctx    context.Context
	cancel context.CancelFunc
	lines  [lines][]job // the first of each is being answered
	count  int
}

type job struct {
	topic   iothub.Request
	payload []byte
	number  uint64 // of the message, to acknowledge
}

// request puts a request in its line.
func (s *Session) request(ctx context.Context, j job) {
	l := lineOf(j.topic)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	if s.work == nil {
		s.work = &work{}
		s.work.ctx, s.work.cancel = context.WithCancel(ctx)
	}
	w := s.work
	if waiting := len(w.lines[l]); waiting >= lineDepth[l] {
		s.mu.Unlock()
		s.reply(j, nil, nil, iothub.Fail(iothub.CodeThrottled, "%d requests wait for their answers", waiting))
		return
	}
	w.lines[l] = append(w.lines[l], j)
	w.count++
	idle := len(w.lines[l]) == 1
	s.mu.Unlock()
	if idle {
		s.g.wg.Go(func() { s.answerAll(w, l) })
	}
}

// answerAll answers the requests of a line until none waits.
func (s *Session) answerAll(w *work, l line) {
	defer s.recover(w.ctx)
	for more := true; more; more = s.answered(w, l) {
		s.mu.Lock()
		j := w.lines[l][0]
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(w.ctx, RequestTimeout)
		topic, body, err := s.g.cfg.Requests.Answer(ctx, s, j.topic, j.payload)
		cancel()
		s.reply(j, topic, body, err)
	}
}

// answered takes the first request of a line out and reports whether another
// one waits.
func (s *Session) answered(w *work, l line) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.lines[l][0] = job{}
	w.lines[l] = w.lines[l][1:]
	w.count--
	if w.count == 0 {
		w.cancel()
		s.work = nil
	}
	return len(w.lines[l]) > 0 && !s.closed
}

// reply sends the answer to a request and acknowledges the request.
func (s *Session) reply(j job, topic iothub.Topic, body []byte, err error) {
	s.g.stats.outcome(countRequest, err)
	if err != nil {
		topic, body = s.failure(j.topic, err)
	}
	s.publishTo(topic.String(), body)
	s.finish(j.number, nil)
}

// failure tells a device of an error in the form that the topic has for it.
func (s *Session) failure(t iothub.Request, err error) (iothub.Topic, []byte) {
	log := s.g.log.With(slog.String("device", string(s.device)), slog.String("topic", t.String()))
	switch t.(type) {
	case iothub.Attest, iothub.UpdateProgress: // ours, not Azure's
		status, body := httpfault.Encode(log, err)
		return t.Result(status), body
	}
	tracking := rand.Text()
	log.Warn("request refused", slog.String("id", tracking), slog.Any("err", err))
	status, body := iothub.Refusal(err, tracking, time.Now())
	return t.Result(status), body
}
