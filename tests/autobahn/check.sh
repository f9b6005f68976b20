#!/usr/bin/env bash
# Holds the release build of corewire against the Autobahn|Testsuite.
#
#   check.sh DIR OUTDIR [RUN]...
#
# DIR holds the suite (run.sh installs it there), OUTDIR takes the reports. The runs are
#
#   plain               sections 1 to 10
#   torn                the same where no read returns more than three bytes
#   streaming           the same where the echo is made piece by piece
#   tls                 sections 1 to 7 over TLS
#   deflate             36 of the 216 cases of compression (sections 12 and 13), context kept
#   deflate-shared      the same 36 where no context is kept
#   deflate-streaming   the same 36 where the echo is made piece by piece
#   deflate-torn        14 of them where no read returns more than three bytes
#   client              sections 1 to 10 of the role of a client
#   client-deflate      the same 36 cases of compression, of the role of a client
#   full                all 517 cases, with compression (10 minutes on two idle cores)
#   client-full         the same of the role of a client
#
# Without a further word all but `full` and `client-full` are run. Exit status as run.sh.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tests/support/listening.sh
. "$root/tests/support/listening.sh"
die() { echo "autobahn check: $*" >&2; exit 2; }
[ $# -ge 2 ] || { sed -n '2,21s/^# \{0,1\}//p' "$0" >&2; exit 2; }
dir=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- \
  plain torn streaming tls deflate deflate-shared deflate-streaming deflate-torn \
  client client-deflate

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

role=server
run_cases() { # NAME [OPTION...]
  local name=$1
  shift
  echo "autobahn: $name"
  "$here/run.sh" "$role" "$dir" "$port" "$out/$name" -j 2 "$@"
  kill -0 "$server" 2> /dev/null || die "corewire ended by itself ($out/$name/server.log)"
  stop_server
}

run_client_cases() { # NAME [OPTION...]
  local name=$1
  shift
  echo "autobahn: $name"
  # Each shard has a port of its own, counted up from this one.
  "$here/run.sh" client "$dir" "$(free_port)" "$out/$name" -j 2 "$@" -- \
    "$program" conformance-client
}

basic=(-x '12.*' -x '13.*')
# Messages of 256 B, 8 KiB and 8 KiB in 32 fragments, a thousand of them each: of each kind of
# content, and with each offer.
sample=(-c '12.*.3' -c '12.*.6' -c '12.*.11' -c '13.*.3' -c '13.*.6' -c '13.*.11')

for run in "$@"; do
  case $run in
    plain)
      start_server plain
      run_cases plain "${basic[@]}"
      ;;
    torn)
      COREWIRE_TEST_READ_BYTES=3 start_server torn
      run_cases torn "${basic[@]}"
      ;;
    streaming)
      start_server streaming --echo-streaming
      run_cases streaming "${basic[@]}"
      ;;
    tls)
      start_server tls --tls-self-signed
      role=tls-server run_cases tls -c '1.*' -c '2.*' -c '3.*' -c '4.*' -c '5.*' -c '6.*' -c '7.*'
      ;;
    deflate)
      start_server deflate --compression dedicated
      run_cases deflate "${sample[@]}"
      ;;
    deflate-shared)
      start_server deflate-shared --compression shared
      run_cases deflate-shared "${sample[@]}"
      ;;
    deflate-streaming)
      start_server deflate-streaming --compression dedicated --echo-streaming
      run_cases deflate-streaming "${sample[@]}"
      ;;
    deflate-torn)
      COREWIRE_TEST_READ_BYTES=3 start_server deflate-torn --compression dedicated
      run_cases deflate-torn -c '12.*.3' -c '13.*.3' -c 12.1.11 -c 13.5.11
      ;;
    full)
      start_server full --compression dedicated
      run_cases full -t 3600
      ;;
    client) run_client_cases client "${basic[@]}" ;;
    client-deflate) run_client_cases client-deflate "${sample[@]}" ;;
    client-full) run_client_cases client-full -t 3600 ;;
    *) die "no such run: $run" ;;
  esac
done
