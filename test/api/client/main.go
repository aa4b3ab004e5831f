// Program client uses the client that oapi-codegen makes from the API's
// description. It is a module of its own: what generators need is not
// Holdfast's. The environment says where the hub is (HUB), with which token it
// is asked (TOKEN), and what is trusted (SSL_CERT_FILE).
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"holdfast.invalid/client/api"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run registers a device, finds it in two lists, and asks for what the token
// must not do.
func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := api.NewClientWithResponses(os.Getenv("HUB"), api.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+os.Getenv("TOKEN"))
		return nil
	}))
	if err != nil {
		return err
	}
	me, err := c.ShowMeWithResponse(ctx)
	if err != nil || me.JSON200 == nil {
		return fmt.Errorf("me: %v, %w", me, err)
	}
	token := true
	added, err := c.AddDeviceWithResponse(ctx, &api.AddDeviceParams{}, api.AddDeviceJSONRequestBody{Id: "made-01", Group: "lab", Token: &token})
	if err != nil || added.JSON200 == nil {
		return fmt.Errorf("add a device: %s, %w", added.Body, err)
	}
	limit := int64(10)
	page, err := c.ShowFleetWithResponse(ctx, &api.ShowFleetParams{Limit: &limit})
	if err != nil || page.JSON200 == nil {
		return fmt.Errorf("fleet: %s, %w", page.Body, err)
	}
	measures, err := c.ListMeasuresWithResponse(ctx)
	if err != nil || measures.JSON200 == nil {
		return fmt.Errorf("measures: %s, %w", measures.Body, err)
	}
	refused, err := c.SetGroupWithResponse(ctx, "lab", &api.SetGroupParams{}, api.SetGroupJSONRequestBody{})
	if err != nil || refused.ApplicationproblemJSON403 == nil {
		return fmt.Errorf("set a group with a token: %s, %w", refused.Body, err)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"me": me.JSON200.Name, "role": me.JSON200.Role, "devices": page.JSON200.Total, "measures": len(*measures.JSON200), "refused": refused.ApplicationproblemJSON403.Type,
	})
}
