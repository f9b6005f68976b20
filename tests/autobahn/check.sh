#!/usr/bin/env bash
# Holds the release build of corewire against sections 1 to 10 of the Autobahn|Testsuite.
#
#   check.sh DIR OUTDIR [plain | torn | streaming]...
#
# DIR holds the suite (run.sh installs it there), OUTDIR takes the reports. Without a further word
# all three are run: `plain`; `torn`, where no read returns more than three bytes; and `streaming`,
# where the echo is made piece by piece. Exit status as run.sh.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tests/support/listening.sh
. "$root/tests/support/listening.sh"
die() { echo "autobahn check: $*" >&2; exit 2; }
[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
dir=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- plain torn streaming

"$here/run.sh" install "$dir"
(cd "$root" && cargo build -q --release -p corewire-cli) || die "corewire did not build"
program=${CARGO_TARGET_DIR:-$root/target}/release/corewire

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

server=''
stop_server() {
  [ -z "$server" ] || kill "$server" 2> /dev/null || true
  [ -z "$server" ] || wait "$server" || true
  server=''
}
trap stop_server EXIT

start_server() { # NAME [ARGUMENT...]: leaves $server and $port
  local name=$1
  shift
  port=$(free_port)
  mkdir -p "$out/$name"
  "$program" serve --listen "127.0.0.1:$port" "$@" > "$out/$name/server.log" 2>&1 &
  server=$!
  await_listening "$port" "$server" ||
    { cat "$out/$name/server.log" >&2; die "corewire did not start"; }
}

run_cases() { # NAME [OPTION...]
  local name=$1
  shift
  echo "autobahn: $name"
  "$here/run.sh" server "$dir" "$port" "$out/$name" -j 2 -x '12.*' -x '13.*' "$@"
  kill -0 "$server" 2> /dev/null || die "corewire ended by itself ($out/$name/server.log)"
  stop_server
}

for run in "$@"; do
  case $run in
    plain)
      start_server plain
      run_cases plain
      ;;
    torn)
      COREWIRE_TEST_READ_BYTES=3 start_server torn
      run_cases torn
      ;;
    streaming)
      start_server streaming --echo-streaming
      run_cases streaming
      ;;
    *) die "no such run: $run" ;;
  esac
done
