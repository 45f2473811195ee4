package probe

import "testing"

func TestAReadingOfThisMachineIsElsewhereUnlessTheServerIsHere(t *testing.T) {
	for addr, elsewhere := range map[string]bool{
		"127.0.0.1:6379": false, "[::1]:6379": false, "localhost:6379": false, "/run/redis.sock": false,
		"10.0.0.1:6379": true, "cache.internal:6379": true, "[2001:db8::1]:6379": true,
	} {
		for _, source := range []string{Host, Cgroup} {
			if got := (Reading{Source: source}).Elsewhere(addr); got != elsewhere {
				t.Errorf("source %s, server %s: %v", source, addr, got)
			}
		}
		for _, source := range []string{Redis, RSS} {
			if (Reading{Source: source}).Elsewhere(addr) {
				t.Errorf("source %s is the server's own, whatever its address: %s", source, addr)
			}
		}
	}
}
