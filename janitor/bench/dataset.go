package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"

	"redis-janitor/janitor/keyspace"
)

// The keyspace is shaped like Combot's: 55 % ML results, 25 % sessions, the rest what else lives in that database.
// Its lifetimes are 24 times the application's (days for hours): Redis does not care, and so a snapshot can be loaded
// for an hour of rounds without anything in it coming to its end.
const (
	resultLifetime  = 48 * time.Hour
	sessionLifetime = 24 * time.Hour
	// sessionAge is the age from which sessions go. No session is within two hours of it, so that every way, whenever
	// it runs, finds the same ones to be old.
	sessionAge    = 12 * time.Hour
	resultPrefix  = "ml_results:"
	sessionPrefix = "combot_cache:1:django.contrib.sessions.cache"
	othersPrefix  = "foreground:"
	othersKeys    = 10_000
)

// contents counts what a keyspace holds.
type contents struct {
	Keys        int64
	Results     int64
	Sessions    int64
	OldSessions int64
}

// due is how many keys a way that clears both families clears.
func (c contents) due() int64 { return c.Results + c.OldSessions }

// mix is a cheap hash (splitmix64): the keyspace follows from the numbers of its keys alone.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

// filler writes a keyspace's keys.
type filler struct {
	*bulk    // to the server of the key in hand
	bulks    []*bulk
	noise    []byte
	contents contents
}

// fillCombot writes n keys, and the ones that the foreground client works on.
func fillCombot(ctx context.Context, addr string, n int) (contents, error) {
	return fillServers(ctx, []string{addr}, n)
}

// fillServers is fillCombot for several servers, which have the slots of a cluster in order and in even ranges.
func fillServers(ctx context.Context, addrs []string, n int) (contents, error) {
	f := &filler{noise: noise(64 << 10)}
	for _, addr := range addrs {
		b, err := dialBulk(ctx, addr)
		if err != nil {
			return contents{}, err
		}
		f.bulks = append(f.bulks, b)
	}
	for i := range n {
		if i%4096 == 0 && ctx.Err() != nil {
			break
		}
		f.key(uint64(i))
	}
	for i := range othersKeys {
		f.begin(3, "SET", othersPrefix+strconv.Itoa(i))
		f.word(f.value(uint64(i), 100, 300))
		f.contents.Keys++
	}
	for _, b := range f.bulks {
		if err := b.close(ctx); err != nil {
			return contents{}, err
		}
	}
	return f.contents, context.Cause(ctx)
}

// begin begins a command on a key. A wrong server would refuse it.
func (f *filler) begin(words int, verb, key string) {
	f.bulk = f.bulks[masterOf(key, len(f.bulks))]
	f.command(words)
	f.text(verb)
	f.text(key)
}

const clusterSlots = 16384

// masterOf is which of so many masters has a key.
func masterOf(key string, masters int) int {
	if masters == 1 {
		return 0
	}
	return (keyspace.SlotOf(key)*masters + masters - 1) / clusterSlots
}

// noise is text that looks like hex digits everywhere.
func noise(n int) []byte {
	raw := make([]byte, n/2)
	for i := 0; i+8 <= len(raw); i += 8 {
		binary.LittleEndian.PutUint64(raw[i:], mix(uint64(i)))
	}
	return []byte(hex.EncodeToString(raw))
}

// key writes one key. Its number alone says of which sort it is, what its name is and how long it has to live.
func (f *filler) key(i uint64) {
	f.contents.Keys++
	h := mix(i)
	switch share := h % 1000; {
	case share < 330:
		f.result(resultPrefix, i)
	case share < 550:
		f.result(resultPrefix+"1:ml_classification:", i)
	case share < 800:
		f.session(i)
	case share < 920:
		f.set("combot_cache:1:view:", i, 200, 600, f.within(i, 4*time.Hour, resultLifetime))
	case share < 960:
		f.begin(6, "HSET", keyName("product_breakdown:", i))
		f.text("parts")
		f.word(f.value(i, 200, 600))
		f.text("at")
		f.number(int64(h >> 34))
	case share < 980:
		f.begin(6, "ZADD", keyName("ratelimit:", i))
		for j := range int64(2) {
			f.number(int64(h>>34) + j)
			f.number(j)
		}
	default:
		f.set("celery-task-meta-", i, 200, 400, f.within(i, 12*time.Hour, 24*time.Hour))
	}
}

func (f *filler) result(prefix string, i uint64) {
	f.contents.Results++
	ttl := f.within(i, 4*time.Hour, resultLifetime)
	if mix(i^1)%100 == 0 {
		ttl = 0 // written by SET where SETEX was meant
	}
	f.set(prefix, i, 150, 450, ttl)
}

func (f *filler) session(i uint64) {
	f.contents.Sessions++
	var ttl time.Duration
	switch share := mix(i^1) % 1000; {
	case share < 5: // without TTL: kept by every way
	case share < 500:
		f.contents.OldSessions++
		ttl = f.within(i, 4*time.Hour, sessionLifetime-sessionAge-2*time.Hour)
	default:
		ttl = f.within(i, sessionLifetime-sessionAge+2*time.Hour, sessionLifetime)
	}
	f.set(sessionPrefix, i, 150, 350, ttl)
}

// set writes a string; a TTL of 0 is none.
func (f *filler) set(prefix string, i uint64, low, high int, ttl time.Duration) {
	words := 3
	if ttl > 0 {
		words = 5
	}
	f.begin(words, "SET", keyName(prefix, i))
	f.word(f.value(i, low, high))
	if ttl > 0 {
		f.text("PX")
		f.number(ttl.Milliseconds())
	}
}

// keyName has 32 hex digits, as an MD5 has.
func keyName(prefix string, i uint64) string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:], mix(i))
	binary.BigEndian.PutUint64(raw[8:], mix(i^0xabcdef))
	var digits [32]byte
	hex.Encode(digits[:], raw[:])
	return prefix + string(digits[:])
}

func (f *filler) value(i uint64, low, high int) []byte {
	h := mix(i ^ 0x5eed)
	length := low + int(h%uint64(high-low+1))
	at := int(h>>32) % (len(f.noise) - length)
	return f.noise[at : at+length]
}

func (f *filler) within(i uint64, low, high time.Duration) time.Duration {
	return low + time.Duration(mix(i^0x77)%uint64((high-low)/time.Millisecond))*time.Millisecond
}
