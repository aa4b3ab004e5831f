package iothub

import (
	"errors"
	"fmt"
	"strings"

	"holdfast/identity"
)

// MaxModelID is the longest model id in bytes (DTDL has 128 for an interface).
const MaxModelID = 256

// Username is the user name of a CONNECT:
// {host}[:port]/{device}/?api-version=...&DeviceClientType=...&model-id=...
type Username struct {
	Host       string // without its port
	Device     identity.Device
	APIVersion string
	ClientType string // the client's name and version
	ModelID    string // DTDL model of the device
}

// ParseUsername reads a user name. The "?" may be missing, as in Azure's older
// documents. The order of the parameters is free and unknown ones are ignored.
func ParseUsername(s string) (Username, error) {
	host, rest, _ := strings.Cut(s, "/")
	id, query, ok := strings.Cut(rest, "/")
	if host == "" || !ok {
		return Username{}, fmt.Errorf("user name %.100q: want {host}/{device}/?api-version=", s)
	}
	d, err := identity.ParseDevice(id)
	if err != nil {
		return Username{}, fmt.Errorf("user name %.100q: %w", s, err)
	}
	params, err := ParseBag(query)
	if err != nil {
		return Username{}, fmt.Errorf("user name %.100q: %w", s, err)
	}
	u := Username{Device: d}
	u.Host, _, _ = strings.Cut(host, ":")
	for _, p := range params {
		switch p.Key {
		case "api-version":
			u.APIVersion = p.Value
		case "DeviceClientType":
			u.ClientType = p.Value
		case "model-id":
			u.ModelID = p.Value
		}
	}
	switch {
	case u.APIVersion == "":
		return Username{}, fmt.Errorf("user name %.100q has no api-version", s)
	case len(u.ModelID) > MaxModelID:
		return Username{}, fmt.Errorf("user name %.100q: model id has %d bytes, at most %d are allowed", s, len(u.ModelID), MaxModelID)
	}
	return u, nil
}

// Registration is the user name of a CONNECT to DPS:
// {idScope}/registrations/{registrationId}/api-version=...&ClientVersion=...
type Registration struct {
	Scope         string
	ID            identity.Device // the registration id, as it came
	APIVersion    string
	ClientVersion string // the client's name and version
}

// IsRegistration reports whether a user name has the form of DPS. No user name
// has that of both DPS and the hub.
func IsRegistration(username string) bool {
	_, rest, _ := strings.Cut(username, "/")
	id, ok := strings.CutPrefix(rest, "registrations/")
	return ok && !strings.HasPrefix(id, "?")
}

// MaxScope is the longest id scope in bytes.
const MaxScope = 64

// ParseRegistration reads a user name of DPS. Unlike the hub's it has no "?",
// but one is allowed.
func ParseRegistration(s string) (Registration, error) {
	bad := func(err error) (Registration, error) {
		return Registration{}, fmt.Errorf("user name %.100q: %w", s, err)
	}
	parts := strings.SplitN(s, "/", 4)
	if len(parts) != 4 || parts[1] != "registrations" {
		return bad(errors.New("want {idScope}/registrations/{registrationId}/api-version="))
	}
	r := Registration{Scope: parts[0]}
	if r.Scope == "" || len(r.Scope) > MaxScope || plain(r.Scope) != nil {
		return bad(errors.New("id scope is not one"))
	}
	var err error
	if r.ID, err = identity.ParseDevice(parts[2]); err != nil {
		return bad(err)
	}
	params, err := ParseBag(parts[3])
	if err != nil {
		return bad(err)
	}
	for _, p := range params {
		switch p.Key {
		case "api-version":
			r.APIVersion = p.Value
		case "ClientVersion":
			r.ClientVersion = p.Value
		}
	}
	if r.APIVersion == "" {
		return bad(errors.New("no api-version"))
	}
	return r, nil
}
