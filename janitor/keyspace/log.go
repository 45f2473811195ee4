package keyspace

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// libraryLogger receives what the Redis client would print to stderr by itself.
type libraryLogger func(ctx context.Context, format string, args ...any)

func (l libraryLogger) Printf(ctx context.Context, format string, args ...any) {
	l(ctx, format, args...)
}

// QuietLibrary sends what the Redis client logs of its own accord to log. It is the process's own
// setting: call it once, before the first connection.
func QuietLibrary(log func(ctx context.Context, format string, args ...any)) {
	redis.SetLogger(libraryLogger(log))
}
