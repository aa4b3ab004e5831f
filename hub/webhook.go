package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"holdfast/operator"
	"holdfast/tlspolicy"
)

// webhook posts alerts.
type webhook struct {
	url, hub string
	headers  map[string]string
	client   *http.Client
}

const webhookTimeout = 15 * time.Second

func newWebhook(dir string, cfg Config) (*webhook, error) {
	headers, err := readHeaders(dir, cfg.Alerts.WebhookHeadersFile)
	if err != nil {
		return nil, err
	}
	roots, err := readRoots(dir, cfg.Alerts.WebhookRoot)
	if err != nil {
		return nil, err
	}
	return &webhook{url: cfg.Alerts.Webhook, hub: cfg.Hosts[0], headers: headers, client: &http.Client{
		Timeout:       webhookTimeout,
		Transport:     &http.Transport{TLSClientConfig: tlspolicy.Web(roots...), Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // headers stay here
	}}, nil
}

// post posts one alert; what is not answered with 2xx was not taken.
func (w *webhook) post(ctx context.Context, a operator.Alert) error {
	b, err := json.Marshal(map[string]any{"hub": w.hub, "alert": a})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(b))
	if err != nil {
		return err
	}
	for name, value := range w.headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return unless(res.StatusCode/100 == 2, "the webhook answers %s", res.Status)
}
