package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/operator"
)

func referenceCmd() *cobra.Command {
	return noun("reference", "Say which measurements are known good (Reference Values)",
		referenceAddCmd(), referenceListCmd(), referenceRemoveCmd())
}

func referenceAddCmd() *cobra.Command {
	var r operator.Reference
	var group, image, bootROM, digest, audit string
	cmd := &cobra.Command{
		Use:   "add (--group GROUP (--image FILE | --boot-rom FILE | --digest HEX --kind KIND --pcr N) | --audit FILE)",
		Short: "Add a Reference Value to a group, or what an auditor says of an image",
		Long: `Add a Reference Value: a measurement that an attesting device of the group may
show. It is computed from what you signed (--image: a MCUboot image; --boot-rom: the
boot ROM's program), or given as a digest. It is never learned from a device. Published
releases of the group's product need none: they are known good by their signatures, and
firmware.signing passes for them alone.

--audit gives the hub the statement that 'holdfast audit --attest' has signed with a
registered auditor's key. It is about images, not groups: devices that attest one of
them get its verdicts. It makes no image known good.`,
		Example: `  holdfast reference add --group pumps --image pump-fw-1.1.0.img --name pump-fw
  holdfast reference add --group gateways --kind event --pcr 4 --digest 9f86d0... --name 'boot loader'
  holdfast reference add --audit audit.dsse.json`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringVar(&group, "group", "", "the group (required, but for --audit)")
	f.StringVar(&image, "image", "", "firmware image in MCUboot's format")
	f.StringVar(&bootROM, "boot-rom", "", "program of the boot ROM")
	f.StringVar(&audit, "audit", "", "signed statement of an auditor")
	f.StringVar(&digest, "digest", "", "SHA-256 of the measurement")
	f.StringVar(&r.Kind, "kind", "event", "with --digest: boot-rom, firmware, manifest or event")
	f.IntVar(&r.PCR, "pcr", 0, "with --digest: the register it is measured into")
	f.StringVar(&r.Name, "name", "", "what it is")
	f.StringVar(&r.Version, "version", "", "its version (default: the image's own)")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if audit != "" {
			if group+image+bootROM+digest != "" {
				return usagef("--audit stands alone: a statement is about images, not about a group")
			}
			return addStatement(cmd, audit)
		}
		if group == "" {
			return usagef("--group is required: the group")
		}
		var err error
		if r.Group, err = identity.ParseGroup(group); err != nil {
			return usagef("--group: %w", err)
		}
		if err := measureFile(&r, image, bootROM, digest); err != nil {
			return err
		}
		return ask(cmd, "add reference", func(c *client.Client, ctx context.Context) (operator.Reference, error) {
			return r, c.AddReference(ctx, r)
		}, func(w writer, r operator.Reference) {
			fmt.Fprintf(w, "added %s %s %s: PCR %d, %s\n", r.Kind, r.Name, r.Version, r.PCR, r.Digest)
		})
	}
	return cmd
}

// measureFile fills in the digest, and what follows from its source.
func measureFile(r *operator.Reference, image, bootROM, digest string) error {
	given := 0
	for _, s := range []string{image, bootROM, digest} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		return usagef("give one of --image, --boot-rom and --digest")
	}
	switch {
	case image != "":
		return measureImage(r, image)
	case bootROM != "":
		r.Kind, r.PCR = "boot-rom", 0
		var err error
		r.Digest, err = sumFile(bootROM)
		return err
	}
	d, err := identity.ParseDigest(digest)
	if err != nil {
		return usagef("--digest: %w", err)
	}
	r.Digest = d
	return nil
}

// measureImage computes what a boot ROM will measure of an image.
func measureImage(r *operator.Reference, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	img, err := mcuboot.Parse(b)
	if err != nil {
		return fmt.Errorf("image %s: %w", path, err)
	}
	r.Kind, r.PCR, r.Digest = "firmware", 4, img.Digest
	if r.Version == "" {
		r.Version = img.Version.String()
	}
	return nil
}

func sumFile(path string) (identity.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return identity.Digest{}, fmt.Errorf("read the boot ROM: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return identity.Digest{}, fmt.Errorf("read the boot ROM: %w", err)
	}
	return identity.Digest(h.Sum(nil)), nil
}

func referenceListCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "list GROUP", Short: "List a group's Reference Values", Example: "  holdfast reference list pumps", Args: nArgs(1)}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, "list references of "+a[0], func(c *client.Client, ctx context.Context) ([]operator.Reference, error) {
			return c.References(ctx, identity.Group(a[0]))
		}, func(w writer, rs []operator.Reference) {
			fmt.Fprintln(w, "KIND\tPCR\tNAME\tVERSION\tDIGEST\tSAID BY")
			for _, r := range rs {
				by := "operator"
				if r.Released {
					by = "release"
				}
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", r.Kind, r.PCR, plain(r.Name), plain(r.Version), r.Digest, by)
			}
		})
	}
	return cmd
}

func referenceRemoveCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "remove GROUP DIGEST",
		Short:   "Remove a Reference Value: devices that show it no longer attest well",
		Example: "  holdfast reference remove pumps 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		Args:    nArgs(2),
	}
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		d, err := identity.ParseDigest(a[1])
		if err != nil {
			return usageError{err}
		}
		return ask(cmd, "remove reference", func(c *client.Client, ctx context.Context) (map[string]string, error) {
			return map[string]string{"group": a[0], "digest": d.String()}, c.RemoveReference(ctx, identity.Group(a[0]), d)
		}, func(w writer, _ map[string]string) { fmt.Fprintf(w, "removed %s\n", d) })
	}
	return cmd
}
