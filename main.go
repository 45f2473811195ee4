// Command redis-janitor cleans a Redis cache under memory pressure without taking what it should not.
package main

import (
	"os"

	"redis-janitor/cmd"
)

func main() {
	os.Exit(cmd.Main())
}
