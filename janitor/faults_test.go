package janitor_test

import (
	"strconv"
	"strings"
	"sync/atomic"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
)

// through sends a run's talk through a proxy.
func through(p *redistest.FaultProxy) func(*janitor.Request) {
	return func(r *janitor.Request) { r.Connection.URLs = []string{"redis://" + p.Addr + "/0"} }
}

// evictionKeys are the keys of a batch on its way to the server; nil for any other command. The scripts of the lease
// name one key, and that is the lease.
func evictionKeys(cmd []string) []string {
	if !strings.EqualFold(cmd[0], "EVALSHA") || len(cmd) < 5 || cmd[3] == leaseKey {
		return nil
	}
	named, err := strconv.Atoi(cmd[2])
	if err != nil || len(cmd) < 4+named {
		return nil
	}
	count, err := strconv.Atoi(cmd[3+named])
	if err != nil || count > named {
		return nil
	}
	return cmd[3 : 3+count]
}

// onEviction has do see the keys of every batch before the server does.
func onEviction(p *redistest.FaultProxy, do func(keys []string)) {
	p.Answer(func(cmd []string) (string, bool) {
		if keys := evictionKeys(cmd); keys != nil {
			do(keys)
		}
		return "", false
	})
}

// atEviction does something once, while the n-th batch waits at the server's door.
func atEviction(p *redistest.FaultProxy, n int64, do func()) {
	var seen atomic.Int64
	onEviction(p, func([]string) {
		if seen.Add(1) == n {
			do()
		}
	})
}
