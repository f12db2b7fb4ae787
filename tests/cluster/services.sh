# Postgres and Redis to test with, on free ports and with data that is thrown away. To be sourced, by bash:
#
#     services_start     sets POSTGRES_URL (postgres://user@host:port, without a database), REDIS_URL, services_dir
#     services_stop      ends both and removes what they left
#
# Postgres will not run as root: started by root, both run as `postgres` or `nobody`.

services_dir=''
services_redis_port=''

services_as_user() {
  local user=nobody
  if [ "$(id -u)" -ne 0 ]; then
    "$@"
    return
  fi
  if id -u postgres >/dev/null 2>&1; then user=postgres; fi
  # Unlike su and runuser it becomes the program, so that its process id is the program's.
  setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups -- "$@"
}

# The programs of the newest Postgres, which Debian keeps off the PATH.
services_postgres() {
  local program=$1 found
  found=$(find /usr/lib/postgresql/*/bin -name "$program" 2>/dev/null | sort -V | tail -n 1)
  found=${found:-$(command -v "$program" || true)}
  if [ -z "$found" ]; then
    echo "\`$program\` is not installed; on Debian: apt-get install postgresql" >&2
    return 1
  fi
  echo "$found"
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

services_start() {
  local initdb pg_ctl port
  initdb=$(services_postgres initdb)
  pg_ctl=$(services_postgres pg_ctl)
  if ! command -v redis-server >/dev/null; then
    echo '`redis-server` is not installed; on Debian: apt-get install redis-server' >&2
    return 1
  fi
  services_dir=$(mktemp -d "${TMPDIR:-/tmp}/keystile-services.XXXXXX")
  if [ "$(id -u)" -eq 0 ]; then
    chown "$(services_as_user id -u)" "$services_dir"
  fi
  # Whatever directory we are in may not be for that user.
  pushd "$services_dir" >/dev/null
  services_as_user "$initdb" -D "$services_dir/postgres" -U keystile -A trust -E UTF8 --locale=C --no-sync >initdb.log
  port=$(free_port)
  # The data is thrown away: what survives a crash of the machine does not matter.
  local settings="-p $port -k $services_dir -c listen_addresses=127.0.0.1 -c max_connections=300"
  settings+=' -c fsync=off -c synchronous_commit=off -c full_page_writes=off'
  settings+=' -c wal_level=minimal -c max_wal_senders=0 -c max_wal_size=128MB'
  if ! services_as_user "$pg_ctl" -D "$services_dir/postgres" -l "$services_dir/postgres.log" -w -t 60 \
    -o "$settings" start >/dev/null; then
    cat "$services_dir/postgres.log" >&2
    return 1
  fi
  POSTGRES_URL=postgres://keystile@127.0.0.1:$port

  port=$(free_port)
  services_as_user redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no --dir "$services_dir" \
    >redis.log 2>&1 </dev/null &
  services_redis_port=$port
  for _ in $(seq 100); do
    if redis-cli -p "$port" ping >/dev/null 2>&1; then
      REDIS_URL=redis://127.0.0.1:$port
      break
    fi
    sleep 0.1
  done
  if [ -z "${REDIS_URL:-}" ]; then
    cat redis.log >&2
    return 1
  fi
  popd >/dev/null
}

services_stop() {
  if [ -n "$services_redis_port" ]; then
    # The process id that the shell knows is that of its own copy, which waits for Redis and would leave it behind.
    redis-cli -p "$services_redis_port" shutdown nosave >/dev/null 2>&1 || true
    services_redis_port=''
  fi
  if [ -n "$services_dir" ]; then
    if [ -f "$services_dir/postgres/postmaster.pid" ]; then
      (cd / && services_as_user "$(services_postgres pg_ctl)" -D "$services_dir/postgres" -m immediate -w stop) \
        >/dev/null 2>&1 || true
    fi
    rm -rf "$services_dir"
    services_dir=''
  fi
}
