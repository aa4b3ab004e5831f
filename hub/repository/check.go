package repository

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/tuf"
)

// Inspect looks at the repository in dir, which may be in use, and says what is
// wrong with it. Nothing, where there is none.
func Inspect(dir string, secret pki.Secret, now time.Time) []operator.Finding {
	var found []operator.Finding
	add := func(state, text, fix string) {
		found = append(found, operator.Finding{Check: "releases", State: state, Text: text, Fix: fix})
	}
	if _, err := os.Stat(filepath.Join(dir, keysName)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := openKeys(dir, secret); err != nil {
		add(operator.FindingFail, err.Error(), "restore "+keysName+" from a backup of this hub, or sign a root that names new keys")
		return found
	}
	s, err := disk{dir: filepath.Join(dir, metadataDir)}.load()
	if err != nil {
		add(operator.FindingFail, "what is published does not verify: "+err.Error(), "restore the directory repository from a backup, then publish again")
		return found
	}
	if !s.published() {
		add(operator.FindingOK, "nothing is published yet", "")
		return found
	}
	if missing := s.missing(filepath.Join(dir, blobsDir)); len(missing) > 0 {
		add(operator.FindingFail, "content is missing of "+strings.Join(missing, ", "), "upload it again: 'holdfast release publish'")
	}
	for _, e := range s.expiries() {
		if _, due := warning(e, now); due {
			state := operator.FindingWarn
			if !now.Before(e.Expires) {
				state = operator.FindingFail
			}
			add(state, e.role+": "+ends(e, now), "sign it again with the release keys, and publish")
		}
	}
	if e := s.roles[tuf.Timestamp]; !now.Before(e.Expires) {
		add(operator.FindingWarn, fmt.Sprintf("the timestamp expired on %s", e.Expires.Format(time.RFC3339)), "the hub renews it when it runs")
	}
	if len(found) == 0 {
		add(operator.FindingOK, fmt.Sprintf("%d are published", len(s.releases)), "")
	}
	return found
}

// missing names the releases of which some content is not there.
func (s *state) missing(dir string) []string {
	var out []string
	for _, rel := range s.releases {
		if rel.Withdrawn != "" {
			continue
		}
		for _, b := range blobsOf(rel) {
			if !there(dir, b.SHA256, b.Length) {
				out = append(out, rel.Path())
				break
			}
		}
	}
	return out
}

func there(dir string, d identity.Digest, length int64) bool {
	info, err := os.Stat(filepath.Join(dir, d.String()))
	return err == nil && info.Size() == length
}
