package keyspace

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts by their SHA-1.
	_ "embed"
	"encoding/hex"
)

// script is a Lua program that is part of this binary. Redis runs it by its digest, so nothing
// that a configuration or a server says can become a script.
type script struct {
	body   string
	digest string
}

func newScript(body string) script {
	sum := sha1.Sum([]byte(body)) //nolint:gosec // not a security boundary here: see above.
	return script{body: body, digest: hex.EncodeToString(sum[:])}
}

//go:embed lua/evict.lua
var evictLua string

//go:embed lua/lease.lua
var leaseLua string

//go:embed lua/release.lua
var releaseLua string

// writingScripts lists every script that may leave the process.
func writingScripts() []script {
	return []script{newScript(evictLua), newScript(leaseLua), newScript(releaseLua)}
}
