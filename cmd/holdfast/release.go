package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/client/staging"
	"holdfast/identity"
	"holdfast/internal/atomicfile"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/release"
)

func releaseCmd(io stdio) *cobra.Command {
	return noun("release", "Sign firmware, and publish what enough signers have signed",
		releaseKeygenCmd(io), releaseInitCmd(io), releaseSignCmd(io), releaseCountersignCmd(io), releaseStatusCmd(), releaseRootCmd(), releasePublishCmd(),
		releaseListCmd(), releaseShowCmd(), releaseWithdrawCmd(io), releaseRotateCmd(io), releaseRenewCmd(io), releaseDiscardCmd(), releaseFetchCmd(),
		releaseHubKeysCmd(), releaseSBOMCmd())
}

// dirFlag adds --dir.
func dirFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("dir", "releases", "staging directory")
}

// expiresFlag adds --expires.
func expiresFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("expires", "", "when what is signed expires: a day as 2027-11-30, or an age in days as 90d (default what the draft says, else 365d)")
}

// options reads --expires. Ages end at a midnight, UTC, so that signers of one
// day sign the same bytes.
func options(expires string, now time.Time) (staging.Options, error) {
	opt := staging.Options{Now: now}
	if expires == "" {
		return opt, nil
	}
	var days int
	if _, err := fmt.Sscanf(expires, "%dd", &days); err == nil && expires == fmt.Sprintf("%dd", days) && days > 0 && days <= 36500 {
		opt.Expires = now.UTC().Truncate(24*time.Hour).AddDate(0, 0, days+1)
		return opt, nil
	}
	at, err := time.Parse(time.DateOnly, expires)
	if err != nil {
		return opt, usagef("--expires %q: want a day like 2027-11-30, or days like 90d", expires)
	}
	if !at.After(now) {
		return opt, usagef("--expires %s has passed", expires)
	}
	opt.Expires = at
	return opt, nil
}

// tellStaged shows what a command signed.
func tellStaged(cmd *cobra.Command, out staging.Staged) error {
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	return show(cmd.OutOrStdout(), asJSON, out, func(w writer) {
		for _, c := range out.Changes {
			fmt.Fprintln(w, plain(c))
		}
		for _, s := range out.Signed {
			fmt.Fprintln(w, "signed", plain(s))
		}
		switch {
		case !out.Complete:
			fmt.Fprintln(w, "further signatures are needed: 'holdfast release status' says whose")
		case len(out.Signed) == 0:
			fmt.Fprintln(w, "nothing to sign: it is settled as it is")
		default:
			fmt.Fprintln(w, "complete: 'holdfast release publish' makes it public")
		}
	})
}

func releaseStatusCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what is staged, who has signed it, and whose signatures are missing",
		Long: `Show what is staged. DIGEST is the SHA-256 of what is signed: signers who sit apart
can compare it.`,
		Example: "  holdfast release status",
		Args:    noArgs,
	}
	dir := dirFlag(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := staging.Open(*dir).Status()
		if err != nil {
			return err
		}
		return show(cmd.OutOrStdout(), *asJSON, s, func(w writer) { statusSheet(w, s) })
	}
	return cmd
}

func statusSheet(w writer, s staging.Status) {
	fmt.Fprintln(w, "ROLE\tVERSION\tSTATE\tEXPIRES\tDIGEST\tSIGNED BY\tMAY SIGN")
	for _, r := range s.Roles {
		state := "settled"
		if r.Draft {
			state = "draft"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%.16s\t%s\t%s\n", r.Role, r.Version, state, r.Expires.UTC().Format(time.DateOnly), r.Digest, list(r.Signed), list(r.Missing))
	}
	for _, c := range s.Changes {
		fmt.Fprintln(w, plain(c))
	}
	for _, m := range s.Missing {
		fmt.Fprintln(w, "missing:", m)
	}
}

func list(names []string) string {
	if len(names) == 0 {
		return "-"
	}
	return plain(strings.Join(names, ", "))
}

func releasePublishCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "publish",
		Short: "Publish what enough signers have signed",
		Long: `Check what is staged as a device would, upload images and documents, then all
metadata at once, which makes it public. Interrupted, it leaves the hub with what it
had, and can be repeated.`,
		Example: "  holdfast release publish",
		Args:    noArgs,
	}
	dir := dirFlag(cmd)
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "publish", func(c *client.Client, ctx context.Context) (staging.Published, error) {
			return staging.Open(*dir).Publish(ctx, c, time.Now())
		}, func(w writer, p staging.Published) {
			if len(p.Files) == 0 {
				fmt.Fprintln(w, "nothing to publish: the hub has it all")
				return
			}
			fmt.Fprintf(w, "published %s; %d files of content, %d bytes\n", strings.Join(p.Files, ", "), p.Blobs, p.Bytes)
		})
	}
	return cmd
}

func releaseRootCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "root",
		Short: "Write the first root, which devices are provisioned with",
		Long: `Write the first root to a file, once enough have signed it. Devices get it with
'holdfast-device enroll --release-root'. It is public, but who can change it on its way
to a device decides what the device runs: carry it as you carry the hub's root.`,
		Example: "  holdfast release root --out 1.root.json",
		Args:    noArgs,
	}
	cmd.Flags().StringVar(&out, "out", "1.root.json", "file to write")
	dir := dirFlag(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b, err := staging.Open(*dir).FirstRoot()
		if err != nil {
			return err
		}
		if err := atomicfile.Write(out, b, 0o644); err != nil {
			return fmt.Errorf("write the first root: %w", err)
		}
		sum := identity.Sum(b)
		return show(cmd.OutOrStdout(), *asJSON, map[string]string{"file": out, "sha256": sum.String()}, func(w writer) {
			fmt.Fprintf(w, "%s written, SHA-256 %s\n", out, sum)
		})
	}
	return cmd
}

func releaseDiscardCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "discard",
		Short:   "Drop the draft, with its signatures",
		Example: "  holdfast release discard",
		Args:    noArgs,
	}
	dir := dirFlag(cmd)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d := staging.Open(*dir)
		if err := d.Discard(); err != nil {
			return err
		}
		s, err := d.Status()
		if err != nil {
			return err
		}
		return show(cmd.OutOrStdout(), *asJSON, s, func(w writer) { fmt.Fprintln(w, "the draft is gone") })
	}
	return cmd
}

func releaseFetchCmd() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:   "fetch",
		Short: "Take what others have published into the staging directory",
		Long: `Take the hub's published metadata into the staging directory, where it is newer than
what is there and as many have signed it as root wants. A new directory needs --root:
the first root, from whoever made it and not from the hub.`,
		Example: `  holdfast release fetch
  holdfast release fetch --dir releases --root 1.root.json`,
		Args: noArgs,
	}
	cmd.Flags().StringVar(&root, "root", "", "the first root, for a new directory")
	dir := dirFlag(cmd)
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var first []byte
		if root != "" {
			var err error
			if first, err = staging.ReadFile(root, release.MaxDocument); err != nil {
				return fmt.Errorf("read the root: %w", err)
			}
		}
		return ask(cmd, "fetch", func(c *client.Client, ctx context.Context) (staging.Status, error) {
			return staging.Open(*dir).Fetch(ctx, c, first, time.Now())
		}, statusSheet)
	}
	return cmd
}

func releaseListCmd() *cobra.Command {
	var product string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List published releases",
		Example: `  holdfast release list
  holdfast release list --product pump --json`,
		Args: noArgs,
	}
	cmd.Flags().StringVar(&product, "product", "", "only this product's")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "list releases", func(c *client.Client, ctx context.Context) ([]operator.Release, error) {
			return c.Releases(ctx, release.Product(product))
		}, func(w writer, rs []operator.Release) {
			fmt.Fprintln(w, "PRODUCT\tVERSION\tSECURITY\tBYTES\tHARDWARE\tSTATE")
			for _, r := range rs {
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\n", r.Product, r.Version, r.SecurityVersion, r.Image.Length, list(r.Hardware), releaseState(r))
			}
		})
	}
	return cmd
}

func releaseState(r operator.Release) string {
	switch {
	case r.Withdrawn != "":
		return "withdrawn: " + plain(r.Withdrawn)
	case r.Newest:
		return "newest"
	}
	return "-"
}

func releaseShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show PRODUCT VERSION",
		Short:   "Show a published release",
		Example: "  holdfast release show pump 1.4.0",
		Args:    nArgs(2),
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		p, v, err := productVersion(a)
		if err != nil {
			return err
		}
		return ask(cmd, "show "+a[0]+" "+a[1], func(c *client.Client, ctx context.Context) (operator.Release, error) {
			return c.Release(ctx, p, v)
		}, releaseSheet)
	}
	return cmd
}

func productVersion(a []string) (release.Product, mcuboot.Version, error) {
	p, err := release.ParseProduct(a[0])
	if err != nil {
		return p, mcuboot.Version{}, usageError{err}
	}
	v, err := mcuboot.ParseVersion(a[1])
	if err != nil {
		return p, v, usageError{err}
	}
	return p, v, nil
}

func releaseSheet(w writer, r operator.Release) {
	line := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, value) }
	line("release", string(r.Product)+" "+r.Version.String())
	line("state", releaseState(r))
	line("security version", fmt.Sprint(r.SecurityVersion))
	line("image", fmt.Sprintf("%d bytes, SHA-256 %s", r.Image.Length, r.Image.SHA256))
	line("measured", r.Measured.String())
	line("hardware", list(r.Hardware))
	for _, q := range r.Requires {
		line("requires", fmt.Sprintf("%s %s or later", q.Product, q.Version))
	}
	line("health", fmt.Sprintf("%s within %s", list(r.Health.Checks), r.Health.Deadline()))
	if r.SBOM != nil {
		line("SBOM", fmt.Sprintf("%d bytes, SHA-256 %s", r.SBOM.Length, r.SBOM.SHA256))
	}
	if r.Audit != nil {
		line("audit", fmt.Sprintf("%d bytes, SHA-256 %s", r.Audit.Length, r.Audit.SHA256))
	}
}

func releaseHubKeysCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hub-keys",
		Short: "Print the keys that the hub signs snapshots and timestamps with",
		Long: `Print the hub's own keys, for 'release init --hub-keys' and 'release rotate --hub-keys'
on a machine that does not reach the hub.`,
		Example: "  holdfast release hub-keys --json > hub-keys.json",
		Args:    noArgs,
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "ask for the hub's keys", func(c *client.Client, ctx context.Context) (hubKeys, error) {
			r, err := c.Repository(ctx)
			return hubKeys{r.SnapshotKey, r.TimestampKey}, err
		}, func(w writer, k hubKeys) { fmt.Fprintf(w, "snapshot\t%s\ntimestamp\t%s\n", k.Snapshot, k.Timestamp) })
	}
	return cmd
}

// hubKeys are the hub's keys as a file has them.
type hubKeys struct {
	Snapshot  string `json:"snapshot_key"`
	Timestamp string `json:"timestamp_key"`
}

// readHubKeys returns the hub's keys: from a file, or from the hub.
func readHubKeys(cmd *cobra.Command, path string) (staging.HubKeys, error) {
	var k hubKeys
	if path == "" {
		c, err := connect(cmd)
		if err != nil {
			return staging.HubKeys{}, fmt.Errorf("ask for the hub's keys, or give --hub-keys: %w", err)
		}
		r, err := c.Repository(cmd.Context())
		if err != nil {
			return staging.HubKeys{}, fmt.Errorf("ask for the hub's keys: %w", err)
		}
		k = hubKeys{r.SnapshotKey, r.TimestampKey}
	} else {
		f, err := os.Open(path)
		if err != nil {
			return staging.HubKeys{}, fmt.Errorf("read the hub's keys: %w", err)
		}
		defer f.Close()
		if err := json.NewDecoder(io.LimitReader(f, 64<<10)).Decode(&k); err != nil {
			return staging.HubKeys{}, fmt.Errorf("read the hub's keys: %w", err)
		}
	}
	var out staging.HubKeys
	var err error
	if out.Snapshot, err = onlineKey(k.Snapshot); err != nil {
		return out, fmt.Errorf("the hub's snapshot key: %w", err)
	}
	if out.Timestamp, err = onlineKey(k.Timestamp); err != nil {
		return out, fmt.Errorf("the hub's timestamp key: %w", err)
	}
	return out, nil
}

func onlineKey(text string) ([]byte, error) {
	b, err := hex.DecodeString(text)
	if err == nil && len(b) != 32 {
		err = fmt.Errorf("%d bytes, want 32 of Ed25519", len(b))
	}
	return b, err
}
