//go:build !linux

package redistest

import "syscall"

// dieWithParent: only Linux offers this; elsewhere a killed test binary leaves its servers behind.
func dieWithParent() *syscall.SysProcAttr { return nil }
