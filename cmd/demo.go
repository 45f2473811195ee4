package cmd

import "github.com/spf13/cobra"

func newDemo(sys System) *cobra.Command {
	return &cobra.Command{Use: "demo", Hidden: true, RunE: func(*cobra.Command, []string) error { return nil }}
}
