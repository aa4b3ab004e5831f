package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client/staging"
	"holdfast/identity"
	"holdfast/internal/keyfile"
	"holdfast/release"
)

func releaseInitCmd(io stdio) *cobra.Command {
	var threshold int
	var keys []string
	var hub string
	cmd := &cobra.Command{
		Use:   "init --threshold N --keys FILE,FILE,...",
		Short: "Begin a release repository: the first root",
		Long: `Begin a release repository in a staging directory. Root and targets take the
signatures of --threshold of the keys; the hub signs only snapshots and timestamps,
with keys that it is asked for. Keys that are missing are made. Those whose private
half is here sign at once; the others sign with 'release countersign'.

Devices get the first root with 'holdfast-device enroll --release-root'.`,
		Example: `  holdfast release init --threshold 2 --keys release-1.key,release-2.key,release-3.key
  holdfast release init --threshold 2 --keys release-1.key,release-2.key.pub,release-3.key.pub --hub-keys hub-keys.json`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.IntVar(&threshold, "threshold", 0, "how many of the keys have to sign (required)")
	f.StringSliceVar(&keys, "keys", nil, "the key files, or their public halves (required)")
	f.StringVar(&hub, "hub-keys", "", "file with the hub's keys, where the hub is not reached: see 'release hub-keys'")
	dir, expires, k := dirFlag(cmd), expiresFlag(cmd), newKeyFlags(cmd, io).making(cmd)
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		opt, err := options(*expires, time.Now())
		if err != nil {
			return err
		}
		if threshold < 1 || threshold > len(keys) {
			return usagef("--threshold %d with %d keys", threshold, len(keys))
		}
		online, err := readHubKeys(cmd, hub)
		if err != nil {
			return err
		}
		if err := k.ensure(cmd, keys); err != nil {
			return err
		}
		var signers []staging.Signer
		for _, path := range keys {
			key, err := keyfile.Load(path)
			if err != nil {
				return err
			}
			if !key.Private() {
				continue
			}
			s, err := k.open(cmd, path)
			if err != nil {
				return err
			}
			signers = append(signers, s)
		}
		d := staging.Open(*dir)
		q, err := addKeys(d, keys)
		if err != nil {
			return err
		}
		q.Threshold = threshold
		out, err := d.Stage(staging.Init(q, online), opt, signers...)
		if err != nil {
			return err
		}
		return tellStaged(cmd, out)
	}
	return required(cmd, "threshold", "keys")
}

// signing adds the flags that every command that signs has, and runs it.
func signing(cmd *cobra.Command, io stdio, edit func(cmd *cobra.Command, a []string, d *staging.Dir) (staging.Edit, error)) *cobra.Command {
	var keys []string
	cmd.Flags().StringSliceVar(&keys, "key", nil, "the key that signs (required)")
	dir, expires, k := dirFlag(cmd), expiresFlag(cmd), newKeyFlags(cmd, io)
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		opt, err := options(*expires, time.Now())
		if err != nil {
			return err
		}
		d := staging.Open(*dir)
		if _, err := d.Status(); err != nil { // before anything is asked for or kept
			return err
		}
		e, err := edit(cmd, a, d)
		if err != nil {
			return err
		}
		var signers []staging.Signer
		for _, path := range keys {
			s, err := k.open(cmd, path)
			if err != nil {
				return err
			}
			signers = append(signers, s)
		}
		out, err := d.Stage(e, opt, signers...)
		if err != nil {
			return err
		}
		return tellStaged(cmd, out)
	}
	return required(cmd, "key")
}

// signFlags are what 'release sign' is told of an image.
type signFlags struct {
	product, version, measured, health string
	security                           uint32
	hardware, requires                 []string
	deadline                           time.Duration
	sbom, audit                        string
}

func releaseSignCmd(io stdio) *cobra.Command {
	var s signFlags
	cmd := &cobra.Command{
		Use:   "sign IMAGE --product NAME --version V --security-version N --key FILE",
		Short: "Sign a firmware image; repeated by each further signer",
		Long: `Sign a firmware image as a release of a product. Each further signer gives the same
image and the same words with another key, on the same staging directory: when the
draft says the same, the signature joins those that are there. What was signed is
printed. Nothing is public before 'release publish'.

Version and security version have to be those of the image's header. A device installs
no release below the security version that it has committed to. A trial has to pass
the health checks before the deadline, or the device goes back: hub (a session with
the hub), attested (the hub has appraised this boot), watchdog.`,
		Example: `  holdfast release sign pump-fw-1.4.0.img --product pump --version 1.4.0 --security-version 7 --key release-1.key
  holdfast release sign pump-fw-1.4.0.img --product pump --version 1.4.0 --security-version 7 --hardware rev-b,rev-c --requires 'pump>=1.2.0' --sbom pump.cdx.json --key release-2.key`,
		Args: nArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&s.product, "product", "", "the product (required)")
	f.StringVar(&s.version, "version", "", "the version (required)")
	f.Uint32Var(&s.security, "security-version", 0, "the security version (required)")
	f.StringVar(&s.measured, "measured", "", "what a device measures that boots it, SHA-256: for images that are not in MCUboot's format")
	f.StringSliceVar(&s.hardware, "hardware", nil, "hardware revisions that it runs on (default all)")
	f.StringSliceVar(&s.requires, "requires", nil, "what has to be installed before, as pump>=1.2.0")
	f.StringVar(&s.health, "health", "hub,attested", "what a trial has to show: hub, attested, watchdog")
	f.DurationVar(&s.deadline, "health-deadline", release.DefaultDeadline, "how long a trial has for it")
	f.StringVar(&s.sbom, "sbom", "", "its SBOM: CycloneDX, JSON")
	f.StringVar(&s.audit, "audit", "", "its audit statement: a DSSE envelope")
	signing(cmd, io, func(_ *cobra.Command, a []string, d *staging.Dir) (staging.Edit, error) {
		c, err := s.claim(a[0])
		if err != nil {
			return staging.Edit{}, err
		}
		r, err := d.Describe(c)
		return staging.Release(r), err
	})
	return required(cmd, "product", "version", "security-version")
}

func (s signFlags) claim(path string) (staging.Claim, error) {
	var c staging.Claim
	var err error
	if c.Target.Product, c.Target.Version, err = productVersion([]string{s.product, s.version}); err != nil {
		return c, err
	}
	c.Target.SecurityVersion, c.Target.Hardware = s.security, s.hardware
	c.Target.Health = release.Health{Checks: strings.FieldsFunc(s.health, func(r rune) bool { return r == ',' }), Seconds: int(s.deadline / time.Second)}
	for _, text := range s.requires {
		q, err := parseRequirement(text)
		if err != nil {
			return c, err
		}
		c.Target.Requires = append(c.Target.Requires, q)
	}
	if s.measured != "" {
		if c.Measured, err = identity.ParseDigest(s.measured); err != nil {
			return c, usagef("--measured: %w", err)
		}
	}
	if c.Image, err = staging.ReadFile(path, release.MaxImage); err != nil {
		return c, fmt.Errorf("read the image: %w", err)
	}
	if s.sbom != "" {
		if c.SBOM, err = staging.ReadFile(s.sbom, release.MaxDocument); err != nil {
			return c, fmt.Errorf("read the SBOM: %w", err)
		}
	}
	if s.audit != "" {
		if c.Audit, err = staging.ReadFile(s.audit, release.MaxDocument); err != nil {
			return c, fmt.Errorf("read the audit statement: %w", err)
		}
	}
	return c, nil
}

func parseRequirement(text string) (release.Requirement, error) {
	product, version, ok := strings.Cut(text, ">=")
	if !ok {
		return release.Requirement{}, usagef("--requires %q: want a form like pump>=1.2.0", text)
	}
	p, v, err := productVersion([]string{product, version})
	return release.Requirement{Product: p, Version: v}, err
}

func releaseCountersignCmd(io stdio) *cobra.Command {
	var keys []string
	var yes bool
	cmd := &cobra.Command{
		Use:   "countersign --key FILE",
		Short: "Sign all of the draft, after it was shown",
		Long: `Show what the draft changes, and sign all of it that the key may sign. It asks first;
where nobody can be asked, --yes says that what 'release status' shows was read.`,
		Example: "  holdfast release countersign --key release-2.key",
		Args:    noArgs,
	}
	cmd.Flags().StringSliceVar(&keys, "key", nil, "the key that signs (required)")
	cmd.Flags().BoolVar(&yes, "yes", false, "sign without asking")
	dir, k := dirFlag(cmd), newKeyFlags(cmd, io)
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d := staging.Open(*dir)
		var signers []staging.Signer
		for _, path := range keys {
			s, err := k.open(cmd, path)
			if err != nil {
				return err
			}
			signers = append(signers, s)
		}
		out, err := d.Countersign(staging.Options{Now: time.Now()}, func(changes []string) error {
			if yes {
				return nil
			}
			return confirm(io, changes)
		}, signers...)
		if err != nil {
			return err
		}
		return tellStaged(cmd, out)
	}
	return required(cmd, "key")
}

// confirm shows what is to be signed and asks for a yes.
func confirm(io stdio, changes []string) error {
	in, ok := io.In.(*os.File)
	if !ok || !isTerminal(in) {
		return usagef("--yes is required where nobody can be asked")
	}
	for _, c := range changes {
		fmt.Fprintln(io.Err, plain(c))
	}
	fmt.Fprint(io.Err, "sign this? [yes/no] ")
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != "yes" {
		return fmt.Errorf("not signed")
	}
	return nil
}

func releaseWithdrawCmd(io stdio) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "withdraw PRODUCT VERSION --reason TEXT --key FILE",
		Short: "Take a release back; repeated by each further signer",
		Long: `Take a release back: devices no longer install it, and those that run it no longer
pass. It takes as many signatures as signing did, then 'release publish'. The hub alone
can only pause a rollout.`,
		Example: "  holdfast release withdraw pump 1.4.0 --reason 'leaks its key' --key release-1.key",
		Args:    nArgs(2),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; everybody reads it (required)")
	signing(cmd, io, func(_ *cobra.Command, a []string, _ *staging.Dir) (staging.Edit, error) {
		p, v, err := productVersion(a)
		return staging.Withdraw(release.Target{Product: p, Version: v}, reason), err
	})
	return required(cmd, "reason")
}

func releaseRotateCmd(io stdio) *cobra.Command {
	var add, remove []string
	var threshold int
	var hub bool
	var hubFile string
	cmd := &cobra.Command{
		Use:   "rotate [--add FILE] [--remove FILE] [--threshold N] [--hub] --key FILE",
		Short: "Change the release keys or the hub's keys: a new root",
		Long: `Make a new root with other keys. It takes the threshold of the old keys and that of
the new ones; targets and products are signed anew by the new. Repeated by each
further signer, old and new.`,
		Example: `  holdfast release rotate --add release-4.key.pub --remove release-1.key.pub --key release-2.key
  holdfast release rotate --hub --key release-2.key`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringSliceVar(&add, "add", nil, "public halves of keys to add")
	f.StringSliceVar(&remove, "remove", nil, "public halves of keys to remove")
	f.IntVar(&threshold, "threshold", 0, "how many keys have to sign from now on (default as it is)")
	f.BoolVar(&hub, "hub", false, "take the hub's keys, which it is asked for")
	f.StringVar(&hubFile, "hub-keys", "", "take the hub's keys from a file: see 'release hub-keys'")
	return signing(cmd, io, func(cmd *cobra.Command, _ []string, d *staging.Dir) (staging.Edit, error) {
		r := staging.Rotation{Threshold: threshold}
		if len(add)+len(remove) == 0 && threshold == 0 && !hub && hubFile == "" {
			return staging.Edit{}, usagef("nothing to change: give --add, --remove, --threshold, --hub or --hub-keys")
		}
		var err error
		if r.Add, err = addKeys(d, add); err != nil {
			return staging.Edit{}, err
		}
		if r.Remove, err = addKeys(d, remove); err != nil {
			return staging.Edit{}, err
		}
		if hub || hubFile != "" {
			keys, err := readHubKeys(cmd, hubFile)
			if err != nil {
				return staging.Edit{}, err
			}
			r.Hub = &keys
		}
		return staging.Rotate(r), nil
	})
}

func releaseRenewCmd(io stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "renew [ROLE...] --key FILE",
		Short: "Sign metadata anew before it expires; repeated by each further signer",
		Long: `Sign root, targets and products anew as they are, for a later expiry. Without roles,
all of them.`,
		Example: `  holdfast release renew --key release-1.key
  holdfast release renew pump --expires 180d --key release-1.key`,
		Args: cobra.ArbitraryArgs,
	}
	return signing(cmd, io, func(_ *cobra.Command, a []string, _ *staging.Dir) (staging.Edit, error) {
		return staging.Renew(a...), nil
	})
}
