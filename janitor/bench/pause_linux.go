package main

import (
	"syscall"
	"time"
)

// pause sleeps in the kernel: time.Sleep of less than a millisecond may take a whole one (Go waits in epoll_wait, whose
// timeout has whole milliseconds).
func pause(d time.Duration) {
	if d <= 0 {
		return
	}
	left := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&left, nil) // woken early by a signal: the caller looks at the clock anyway
}
