package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"holdfast/client"
)

// defaultState is where a hub keeps its state unless it is told otherwise.
const defaultState = "/var/lib/holdfast"

// profileName is the file of an operator profile, inside its directory.
const profileName = "profile.json"

var errNoProfile = errors.New("no operator profile found")

// connect makes the API client of a command from the operator's profile, with
// the API token in HOLDFAST_TOKEN where there is one.
func connect(cmd *cobra.Command) (*client.Client, error) {
	path, err := profilePath(cmd)
	if err != nil {
		return nil, err
	}
	if token := os.Getenv("HOLDFAST_TOKEN"); token != "" {
		return client.OpenWithToken(path, token)
	}
	return client.Open(path)
}

// loadProfile finds the operator's profile and reads it.
func loadProfile(cmd *cobra.Command) (path string, p *client.Profile, err error) {
	if path, err = profilePath(cmd); err == nil {
		p, err = client.LoadProfile(path)
	}
	return path, p, err
}

// profilePath finds the profile: the flag, the environment, the user's
// configuration, then the hub's own.
func profilePath(cmd *cobra.Command) (string, error) {
	if p, _ := cmd.Flags().GetString("profile"); p != "" {
		return p, nil
	}
	if p := os.Getenv("HOLDFAST_PROFILE"); p != "" {
		return p, nil
	}
	places := []string{filepath.Join(defaultState, "operator", profileName)}
	if dir, err := os.UserConfigDir(); err == nil {
		places = append([]string{filepath.Join(dir, "holdfast", profileName)}, places...)
	}
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w in %v", errNoProfile, places)
}
