package iothub

import (
	"fmt"
	"strings"

	"holdfast/identity"
)

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
	if u.APIVersion == "" {
		return Username{}, fmt.Errorf("user name %.100q has no api-version", s)
	}
	return u, nil
}
