# gunicorn --config gunicorn.conf.py combot.wsgi
# Before the first worker boots, what a former version left goes, and nothing that anybody may still need: this is the
# same eviction as cron's, memory and gates decide. Whatever it says, the server starts.
import subprocess

REDIS_JANITOR = ["redis-janitor", "execute", "--yes", "--no-progress", "--deadline", "30s", "--policy", "/etc/redis-janitor/policy.yaml"]


def on_starting(server):
    try:
        # REDIS_URL and REDISCLI_AUTH come from the environment of gunicorn itself.
        done = subprocess.run(REDIS_JANITOR, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        server.log.warning("redis-janitor: %s", error)
        return
    say = server.log.info if done.returncode == 0 else server.log.warning
    say("redis-janitor: exit %d: %s", done.returncode, (done.stdout or done.stderr).strip().split("\n")[0])
