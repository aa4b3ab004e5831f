package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/device"
	"holdfast/device/provision"
	"holdfast/release"
)

// enrolment is what enroll is told.
type enrolment struct {
	hub, trust, token string
	release           string // file with the release root
	product, hardware string
	https, mqtt       int
	only              bool
	timeout           time.Duration
}

func enrollCmd(io stdio) *cobra.Command {
	var e enrolment
	cmd := &cobra.Command{
		Use:   "enroll --hub HOST[:PORT] --trust root.pem [--token-file FILE]",
		Short: "Provision this device and get its birth certificate",
		Long: `Provision this device with its hub and the hub's root certificate, which is the only
thing it will ever trust, make its keys, and get its birth certificate (IDevID). The
hub decides whether it may come: by its TPM's endorsement key, by a claim token, or an
operator accepts it. While the hub waits for the operator, so does this command; it may
be interrupted, and 'run' goes on where it stopped.

With --release-root and --product the device takes updates of that product, and only
those that the keys of that root have signed: the hub cannot sign any. Without them it
takes none.

A refusal ends it with exit code 3.`,
		Example: `  holdfast-device enroll --hub hub.example --trust root.pem
  holdfast-device enroll --hub 192.0.2.10:8443 --trust root.pem --token-file claim --tpm none
  holdfast-device enroll --hub hub.example --trust root.pem --release-root 1.root.json --product pump`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringVar(&e.hub, "hub", "", "the hub's name or address, and its HTTPS port if that is not 8443 (required)")
	f.StringVar(&e.trust, "trust", "", "file with the hub's root certificate, PEM (required)")
	f.StringVar(&e.token, "token-file", "", "file with the claim token; the device deletes its copy once it is born")
	f.StringVar(&e.release, "release-root", "", "file with the root of the releases that this device takes (1.root.json); needs --product")
	f.StringVar(&e.product, "product", "", "whose releases this device takes")
	f.StringVar(&e.hardware, "hardware", "", "revision of this device's hardware, where the board does not say it")
	f.IntVar(&e.https, "https-port", provision.DefaultHTTPSPort, "the hub's HTTPS port")
	f.IntVar(&e.mqtt, "mqtt-port", provision.DefaultMQTTPort, "the hub's MQTT port")
	f.BoolVar(&e.only, "provision-only", false, "provision and stop; 'run' enrols later")
	f.DurationVar(&e.timeout, "timeout", 0, "give up after this time (default: wait for the hub's decision)")
	state, h := stateFlag(cmd), hardwareFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := e.provision()
		if err != nil {
			return err
		}
		if err := provision.Save(*state, p); err != nil || e.only {
			return err
		}
		return e.enroll(cmd.Context(), io, *state, h)
	}
	return cmd
}

// provision reads what the flags name.
func (e *enrolment) provision() (provision.Provision, error) {
	p := provision.Provision{Hub: e.hub, HTTPSPort: e.https, MQTTPort: e.mqtt}
	if e.hub == "" || e.trust == "" {
		return p, usagef("--hub and --trust are required: a device trusts nobody whom it was not told to")
	}
	if host, port, err := net.SplitHostPort(e.hub); err == nil {
		n, err := strconv.Atoi(port)
		if err != nil {
			return p, usagef("--hub %s: the port is not a number", e.hub)
		}
		p.Hub, p.HTTPSPort = host, n
	}
	root, err := os.ReadFile(e.trust)
	if err != nil {
		return p, fmt.Errorf("read the hub's root certificate: %w", err)
	}
	p.Root = string(root)
	if err := e.releases(&p); err != nil {
		return p, err
	}
	if e.token == "" {
		return p, nil
	}
	token, err := os.ReadFile(e.token)
	if err != nil {
		return p, fmt.Errorf("read the claim token: %w", err)
	}
	p.Token = strings.TrimSpace(string(token))
	return p, nil
}

// releases reads what is said of releases.
func (e *enrolment) releases(p *provision.Provision) (err error) {
	p.Product, p.Hardware = release.Product(e.product), e.hardware
	if e.release == "" {
		return nil
	}
	if e.product == "" {
		return usagef("--release-root needs --product: a device takes the releases of one product")
	}
	if p.ReleaseRoot, err = os.ReadFile(e.release); err != nil {
		return fmt.Errorf("read the release root: %w", err)
	}
	return nil
}

func (e *enrolment) enroll(ctx context.Context, io stdio, state string, h *hardware) error {
	if e.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.timeout)
		defer cancel()
	}
	return with(io, state, h, func(d *device.Device) error {
		if err := d.Enroll(ctx); err != nil {
			if ctx.Err() != nil {
				return errors.New("enrolment is not finished: 'holdfast-device run' goes on with it")
			}
			return fmt.Errorf("enrol: %w", err)
		}
		s := d.Status()
		_, err := fmt.Fprintf(io.Out, "%s in group %s\n", s.Device, s.Group)
		return err
	})
}

// with opens board and device around f.
func with(io stdio, state string, h *hardware, f func(*device.Device) error) error {
	b, err := h.open()
	if err != nil {
		return err
	}
	d, err := device.Open(device.Config{
		Dir: state, Board: b, Version: version, Build: buildTime(),
		Log: slog.NewTextHandler(io.Err, nil),
	})
	if err != nil {
		return errors.Join(err, b.Close())
	}
	return errors.Join(f(d), d.Close(), b.Close())
}
