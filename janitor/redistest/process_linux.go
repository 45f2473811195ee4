package redistest

import "syscall"

// dieWithParent has the kernel kill the child when the thread that started it is gone, also after `kill -9` or a test
// timeout's panic, which run no cleanup.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
