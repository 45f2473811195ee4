package keyspace

// Overhead is what MEMORY USAGE leaves out of a key, in bytes: perKey for each key, and perExpire
// more for each that has a TTL, whose entry in the expires table it does not count (object.c,
// memoryCommand; db.c, setExpire).
func (i Info) Overhead() (perKey, perExpire float64) {
	return 0, 24
}
