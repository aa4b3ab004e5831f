package hub_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/hub"
)

func TestConfigOfAlertsAndTraces(t *testing.T) {
	for name, tt := range map[string]struct{ json, want string }{
		"all": {`"alerts":{"offline":"1h","offline_groups":{"pumps":"0s"},"keep":"24h","max":5,"webhook":"https://x/y","webhook_headers_file":"h"},
			"traces":{"endpoint":"https://collector:4318","headers_file":"h","sample":0.5}`, ""},
		"webhook in the clear":   {`"alerts":{"webhook":"http://x"}`, "https"},
		"webhook that is a file": {`"alerts":{"webhook":"file:///etc/passwd"}`, "https"},
		"negative maximum":       {`"alerts":{"max":-1}`, "negative"},
		"negative duration":      {`"alerts":{"offline":"-1h"}`, "-1h"},
		"group":                  {`"alerts":{"offline_groups":{"../x":"1h"}}`, "offline_groups"},
		"unknown key":            {`"alerts":{"mail":"x"}`, "mail"},
		"traces in the clear":    {`"traces":{"endpoint":"http://collector:4318"}`, "https"},
		"traces to nowhere":      {`"traces":{"sample":0.1}`, "https"},
		"too many traces":        {`"traces":{"endpoint":"https://x","sample":2}`, "sample"},
		"password in the URL":    {`"traces":{"endpoint":"https://me:hunter2@x"}`, "password"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "hub.json"), []byte(`{"hosts":["h"],`+tt.json+`}`), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := hub.LoadConfig(dir)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2")):
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}
