package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
)

func enrollmentCmd() *cobra.Command {
	return noun("enrollment", "Say what becomes of devices that provision themselves (DPS)",
		enrollmentAddCmd(), enrollmentListCmd(), enrollmentShowCmd(),
		enrollmentDisableCmd("disable", "Refuse the devices of an enrolment", true),
		enrollmentDisableCmd("enable", "Take the devices of an enrolment again", false),
		enrollmentRemoveCmd())
}

// enrollmentFlags are the flags of enrollment add that are not members.
type enrollmentFlags struct {
	group                  string
	certs                  []string
	tags, desired, payload string
}

func enrollmentAddCmd() *cobra.Command {
	var e operator.Enrollment
	var f enrollmentFlags
	cmd := &cobra.Command{
		Use:   "add ID --group GROUP",
		Short: "Add an enrolment for one device, or with --ids for many",
		Long: `Add an enrolment. For one device, ID is its registration id, which is the common
name of its certificate and the id that it gets, unless --device gives it another
one; then --maker-ca or --cert has to say whose certificate it is. With --ids it is one for many: ID
names it, and it takes every device whose certificate is of the --maker-ca and whose
id fits. An enrolment for one device beats one for many, and both beat the ids of
groups. --cert names the one certificate that a device may come with; in a group
with --legacy-selfsigned it may be a self-signed one.`,
		Example: `  holdfast enrollment add meter-7 --group meters --tags '{"site":"A"}' --desired '{"interval":5}'
  holdfast enrollment add spares --group spares --maker-ca maker --ids 'spare-*' --reprovision reset
  holdfast enrollment add gadget-1 --group old --cert gadget-1.pem
  holdfast enrollment add SN-4711 --device meter-9 --group meters --maker-ca maker`,
		Args: nArgs(1),
	}
	cmd.Flags().StringVar(&f.group, "group", "", "group that the devices come into (required)")
	cmd.Flags().StringVar((*string)(&e.Device), "device", "", "id that the device has on the hub, where it is not its registration id")
	cmd.Flags().StringVar(&e.MakerCA, "maker-ca", "", "the one maker's CA that certifies them")
	cmd.Flags().StringSliceVar(&e.IDs, "ids", nil, "ids or patterns: an enrolment for many")
	cmd.Flags().StringSliceVar(&f.certs, "cert", nil, "file with the device's certificate (PEM; twice while it changes)")
	cmd.Flags().StringVar(&f.tags, "tags", "", "tags that a new twin begins with, a JSON object")
	cmd.Flags().StringVar(&f.desired, "desired", "", "desired properties that a new twin begins with, a JSON object")
	cmd.Flags().StringVar(&f.payload, "payload", "", "JSON that is handed to the device with its assignment")
	cmd.Flags().StringVar(&e.Reprovision, "reprovision", operator.Keep, "the twin when a device comes again: keep or reset")
	cmd.Flags().BoolVar(&e.Disabled, "disabled", false, "refuse the devices")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		e.ID = a[0]
		if err := f.into(&e); err != nil {
			return err
		}
		return ask(cmd, "add enrolment "+a[0], func(c *client.Client, ctx context.Context) (operator.Enrollment, error) {
			return c.AddEnrollment(ctx, e)
		}, enrollmentSheet)
	}
	return cmd
}

// into reads the flags into an enrolment.
func (f enrollmentFlags) into(e *operator.Enrollment) error {
	var err error
	if e.Group, err = identity.ParseGroup(f.group); err != nil {
		return usagef("--group: %w", err)
	}
	e.Kind = operator.Individual
	if len(e.IDs) > 0 {
		e.Kind = operator.ForGroup
	}
	for _, j := range []struct{ flag, text string }{{"tags", f.tags}, {"desired", f.desired}, {"payload", f.payload}} {
		if j.text != "" && !json.Valid([]byte(j.text)) {
			return usagef("--%s: not JSON", j.flag)
		}
	}
	if f.tags != "" || f.desired != "" {
		e.Twin = &operator.SetTwin{Tags: json.RawMessage(f.tags), Desired: json.RawMessage(f.desired)}
	}
	e.Payload = json.RawMessage(f.payload)
	for _, name := range f.certs {
		text, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read the certificate: %w", err)
		}
		cert, err := pki.ParseCert(text)
		if err != nil {
			return fmt.Errorf("certificate %s: %w", name, err)
		}
		if cert.Subject.CommonName != e.ID {
			return fmt.Errorf("certificate %s is of %q, not of %s", name, cert.Subject.CommonName, e.ID)
		}
		e.Certificates = append(e.Certificates, identity.Sum(cert.Raw))
	}
	return nil
}

func enrollmentSheet(w writer, e operator.Enrollment) {
	fmt.Fprintf(w, "enrolment\t%s (%s)\ngroup\t%s\nstate\t%s\nknown by\t%s\ncoming again\t%s the twin\n",
		e.ID, e.Kind, e.Group, enrollmentState(e), knownBy(e), e.Reprovision)
	if e.Device != "" {
		fmt.Fprintf(w, "device\t%s\n", e.Device)
	}
	if e.Twin != nil {
		fmt.Fprintf(w, "first tags\t%s\nfirst desired\t%s\n", e.Twin.Tags, e.Twin.Desired)
	}
	if len(e.Payload) > 0 {
		fmt.Fprintf(w, "payload\t%s\n", e.Payload)
	}
}

func enrollmentState(e operator.Enrollment) string {
	if e.Disabled {
		return "disabled"
	}
	return "enabled"
}

// knownBy says what tells the devices of an enrolment.
func knownBy(e operator.Enrollment) string {
	var by []string
	if e.MakerCA != "" {
		by = append(by, "CA "+e.MakerCA)
	}
	by = append(by, e.IDs...)
	for _, c := range e.Certificates {
		by = append(by, "certificate "+c.String())
	}
	if len(by) == 0 {
		return "any CA of the group"
	}
	return strings.Join(by, " ")
}

func enrollmentListCmd() *cobra.Command {
	var kind string
	cmd := &cobra.Command{Use: "list", Short: "List enrolments", Example: "  holdfast enrollment list --kind group", Args: noArgs}
	cmd.Flags().StringVar(&kind, "kind", "", "only this kind: individual or group")
	jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask(cmd, "list enrolments", func(c *client.Client, ctx context.Context) ([]operator.Enrollment, error) {
			return c.Enrollments(ctx, kind)
		}, func(w writer, es []operator.Enrollment) {
			fmt.Fprintln(w, "ENROLMENT\tKIND\tGROUP\tSTATE\tKNOWN BY")
			for _, e := range es {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.ID, e.Kind, e.Group, enrollmentState(e), knownBy(e))
			}
		})
	}
	return cmd
}

// enrollmentVerb is a command on one enrolment.
func enrollmentVerb[T any](use, short, example string, do func(c *client.Client, ctx context.Context, kind, id string) (T, error), text func(writer, T)) *cobra.Command {
	var kind string
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: nArgs(1)}
	jsonFlag(cmd)
	cmd.Flags().StringVar(&kind, "kind", operator.Individual, "individual, or group for one for many")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		return ask(cmd, cmd.Name()+" enrolment "+a[0], func(c *client.Client, ctx context.Context) (T, error) {
			return do(c, ctx, kind, a[0])
		}, text)
	}
	return cmd
}

func enrollmentShowCmd() *cobra.Command {
	return enrollmentVerb("show ID", "Show an enrolment", "  holdfast enrollment show meter-7", (*client.Client).Enrollment, enrollmentSheet)
}

func enrollmentDisableCmd(verb, short string, disabled bool) *cobra.Command {
	return enrollmentVerb(verb+" ID", short, "  holdfast enrollment "+verb+" spares --kind group",
		func(c *client.Client, ctx context.Context, kind, id string) (operator.Enrollment, error) {
			return c.DisableEnrollment(ctx, kind, id, disabled)
		},
		func(w writer, e operator.Enrollment) {
			fmt.Fprintf(w, "enrolment %s is %s\n", e.ID, enrollmentState(e))
		})
}

func enrollmentRemoveCmd() *cobra.Command {
	return enrollmentVerb("remove ID", "Remove an enrolment; devices that came by it stay", "  holdfast enrollment remove meter-7",
		func(c *client.Client, ctx context.Context, kind, id string) (map[string]string, error) {
			return map[string]string{"kind": kind, "id": id}, c.RemoveEnrollment(ctx, kind, id)
		},
		func(w writer, removed map[string]string) { fmt.Fprintf(w, "removed enrolment %s\n", removed["id"]) })
}
