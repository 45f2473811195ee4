package demo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"redis-janitor/janitor/demo/embedded"
)

// kind is what a key of the demo is for. The story knows it from having written the key, so that
// its checks need none of the patterns that they check.
type kind struct {
	name   string
	family string // of the policy; "" where the policy has none for it
}

var (
	results    = kind{name: "ML results", family: "ml-results"}
	pages      = kind{name: "cached pages", family: "app-cache"}
	sessions   = kind{name: "sessions", family: "sessions"}
	queue      = kind{name: "keys of Celery's queue"}
	breakdowns = kind{name: "product breakdowns"}
	profiles   = kind{name: "user profiles"}
	limits     = kind{name: "rate limits"}
)

// kinds lists them in the order in which they are told.
func kinds() []kind { return []kind{results, pages, sessions, queue, breakdowns, profiles, limits} }

// keys writes the demo's keys and remembers what each of them is.
type keys struct {
	server *embedded.Server
	random *rand.Rand
	kinds  map[string]kind
	used   int64 // by the server's own model
}

// Lifetimes as the application writes them.
const (
	resultLifetime  = 2 * time.Hour
	pageLifetime    = time.Hour
	sessionLifetime = 30 * time.Minute
)

// everyday is the keyspace on a quiet day. Values are on the large side, so that the keys are few
// enough to be counted everywhere in the story where a sample would be drawn of more.
func (k *keys) everyday() error {
	for range 160 {
		k.result("ml_results:", 1200, 3200, k.upTo(resultLifetime))
		k.result("ml_results:1:ml_classification:", 600, 1400, k.upTo(resultLifetime))
	}
	for range 12 {
		k.result("ml_results:", 1200, 3200, 0) // written by SET where SETEX was meant
	}
	for range 470 {
		k.page(k.upTo(pageLifetime))
	}
	for range 8 {
		k.page(pageLifetime + k.upTo(pageLifetime)) // written with TIMEOUT 7200
	}
	for range 14 {
		k.session(sessionLifetime - k.upTo(4*time.Minute)) // active: younger than five minutes
	}
	for range 290 {
		k.session(k.upTo(24 * time.Minute))
	}
	for range 6 {
		k.session(sessionLifetime + k.upTo(sessionLifetime)) // "remember me"
	}
	for i := range 120 {
		k.profile(i)
	}
	for range 60 {
		k.breakdown()
	}
	return errors.Join(k.celery(), k.rateLimits())
}

// celery is the broker and the result store that live in the same database.
func (k *keys) celery() error {
	mini := k.server.Miniredis()
	var errs []error
	for range 60 {
		_, err := mini.RPush("celery", fmt.Sprintf(`{"id":"%s","task":"chat.tasks.classify","body":"%s"}`, k.hex(), k.text(500, 900)))
		errs = append(errs, err)
	}
	for range 50 {
		k.set(queue, "celery-task-meta-"+k.hex(), fmt.Sprintf(`{"status":"SUCCESS","result":"%s"}`, k.text(250, 500)), 24*time.Hour)
	}
	_, err := mini.SetAdd("_kombu.binding.celery", "celery\x06\x16\x06\x16celery", "celery\x06\x16\x06\x16celery.pidbox")
	errs = append(errs, err)
	for range 3 {
		tag := k.hex()
		mini.HSet("unacked", tag, fmt.Sprintf(`{"task":"chat.tasks.answer","body":"%s"}`, k.text(400, 800)))
		_, err := mini.ZAdd("unacked_index", float64(k.server.Now().Unix()), tag)
		errs = append(errs, err)
	}
	for _, key := range []string{"celery", "_kombu.binding.celery", "unacked", "unacked_index"} {
		k.kinds[key] = queue
	}
	return errors.Join(errs...)
}

func (k *keys) rateLimits() error {
	mini := k.server.Miniredis()
	var errs []error
	for user := range 20 {
		key := fmt.Sprintf("ratelimit:user:%d", user)
		for i := range 5 {
			at := k.server.Now().Add(-time.Duration(i) * time.Second).UnixMilli()
			_, err := mini.ZAdd(key, float64(at), strconv.FormatInt(at, 10))
			errs = append(errs, err)
		}
		mini.SetTTL(key, time.Minute+k.upTo(time.Hour))
		k.kinds[key] = limits
	}
	return errors.Join(errs...)
}

// measure begins the account of what is stored with what the server says.
func (k *keys) measure() error {
	used, err := k.server.UsedMemory()
	k.used = used
	return err
}

// until writes keys of one sort until the server holds so many bytes.
func (k *keys) until(bytes int64, write func()) {
	for k.used < bytes {
		write()
	}
}

func (k *keys) result(prefix string, low, high int, ttl time.Duration) {
	k.set(results, prefix+k.hex(), fmt.Sprintf(`{"intent":"order_status","confidence":0.%02d,"answer":"%s"}`, k.random.IntN(100), k.text(low, high)), ttl)
}

// freshResult has just been written.
func (k *keys) freshResult() {
	k.result("ml_results:", 1200, 3200, resultLifetime-k.upTo(2*time.Minute))
}

func (k *keys) page(ttl time.Duration) {
	k.set(pages, "combot_cache:1:view:"+k.hex(), "<section>"+k.text(1600, 5600)+"</section>", ttl)
}

func (k *keys) session(ttl time.Duration) {
	k.set(sessions, "combot_cache:1:django.contrib.sessions.cache"+k.hex(), `{"_auth_user_id":"`+k.text(1100, 2100)+`"}`, ttl)
}

func (k *keys) breakdown() {
	k.set(breakdowns, "product_breakdown:"+k.hex()[:12], `{"parts":"`+k.text(10000, 24000)+`"}`, 0)
}

func (k *keys) profile(user int) {
	key := fmt.Sprintf("user:%d:profile", user)
	k.server.Miniredis().HSet(key, "name", "user "+strconv.Itoa(user), "about", k.text(500, 1200))
	k.kinds[key] = profiles
}

func (k *keys) set(of kind, key, value string, ttl time.Duration) {
	db := k.server.Miniredis().DB(0)
	_ = db.Set(key, value) // only a key of another type could be refused, and no name is used twice
	if ttl > 0 {
		db.SetTTL(key, ttl)
	}
	k.kinds[key] = of
	k.used += embedded.StringBytes(key, value, ttl)
}

// upTo is a duration of whole seconds, from 1 s to limit.
func (k *keys) upTo(limit time.Duration) time.Duration {
	return time.Duration(1+k.random.Int64N(int64(limit/time.Second))) * time.Second
}

// hex is 32 digits, as an MD5 or a session's name has.
func (k *keys) hex() string { return fmt.Sprintf("%016x%016x", k.random.Uint64(), k.random.Uint64()) }

// text is of low to high bytes, of which no two are alike.
func (k *keys) text(low, high int) string {
	return k.hex() + strings.Repeat(".", max(low+k.random.IntN(high-low+1)-32, 0))
}
