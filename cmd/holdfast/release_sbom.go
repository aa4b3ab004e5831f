package main

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/spf13/cobra"

	"holdfast/client/staging"
	"holdfast/fault"
	"holdfast/internal/atomicfile"
	"holdfast/mcuboot"
	"holdfast/release"
)

// madeSBOM is the answer of 'release sbom'.
type madeSBOM struct {
	File       string `json:"file"`
	Components int    `json:"components"`
}

func releaseSBOMCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "sbom IMAGE --out FILE",
		Short: "Make the SBOM of a Go program, or of an image with one in it",
		Long: `Make a software bill of materials (CycloneDX 1.6, JSON) of what the Go compiler wrote
into a program: the modules it was built of, with versions and checksums. IMAGE is the
program, or a MCUboot image whose payload it is. Firmware in another language brings
its own SBOM. The same program gives the same file.`,
		Example: "  holdfast release sbom pump-fw-1.4.0.img --out pump-fw-1.4.0.cdx.json",
		Args:    nArgs(1),
	}
	cmd.Flags().StringVar(&out, "out", "", "the file to write (required)")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		image, err := staging.ReadFile(a[0], release.MaxImage)
		if err != nil {
			return fmt.Errorf("read the image: %w", err)
		}
		bom, err := billOf(image)
		if err != nil {
			return fmt.Errorf("%s: %w", a[0], err)
		}
		var text bytes.Buffer
		if err := cyclonedx.NewBOMEncoder(&text, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cyclonedx.SpecVersion1_6); err != nil {
			return fmt.Errorf("write the SBOM: %w", err)
		}
		if err := atomicfile.Write(out, text.Bytes(), 0o644); err != nil {
			return err
		}
		made := madeSBOM{File: out, Components: len(*bom.Components)}
		return show(cmd.OutOrStdout(), *asJSON, made, func(w writer) { fmt.Fprintf(w, "wrote %s: %d components\n", made.File, made.Components) })
	}
	return required(cmd, "out")
}

// billOf makes the SBOM of a Go program, bare or in an image.
func billOf(image []byte) (*cyclonedx.BOM, error) {
	program := image
	version := ""
	if img, err := mcuboot.Parse(image); err == nil {
		program, version = img.Payload, img.Version.String()
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return nil, fault.New(fault.Invalid, "no Go program with build information: %w", err)
	}
	bom := cyclonedx.NewBOM()
	bom.SpecVersion = cyclonedx.SpecVersion1_6
	bom.Metadata = &cyclonedx.Metadata{Component: &cyclonedx.Component{BOMRef: "main", Type: cyclonedx.ComponentTypeFirmware,
		Name: info.Path, Version: cmp.Or(version, info.Main.Version)}}
	all := []cyclonedx.Component{{BOMRef: "go", Type: cyclonedx.ComponentTypeLibrary, Name: "std", Version: info.GoVersion, PackageURL: "pkg:golang/std@" + info.GoVersion}}
	for _, m := range info.Deps {
		all = append(all, componentOf(m))
	}
	slices.SortFunc(all, func(a, b cyclonedx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	bom.Components = &all
	return bom, nil
}

// componentOf describes a module, or what replaces it.
func componentOf(m *debug.Module) cyclonedx.Component {
	if m.Replace != nil {
		m = m.Replace
	}
	url := "pkg:golang/" + m.Path + "@" + m.Version
	c := cyclonedx.Component{BOMRef: url, Type: cyclonedx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: url}
	if m.Sum != "" {
		c.Properties = &[]cyclonedx.Property{{Name: "go:sum", Value: m.Sum}}
	}
	return c
}
