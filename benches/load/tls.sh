#!/usr/bin/env bash
# What TLS costs: memory of an idle connection, and the server's CPU time for a message against that
# without TLS.
#
#   benches/load/tls.sh [-n CONNECTIONS] [-r ROUNDS] [-d SECONDS] [-p PORT]
#                       [-s COMMAND -t COMMAND]
#
# -n connections are held idle, 5,000 by default. Then each round starts a fresh server of either kind
# on core 0, in turn, and loads it from core 1: 50 connections with 16 messages under way on each. Only ratios
# within a round are compared; the median and the quartiles are over the rounds' ratios. -s and -t give
# other servers without and with TLS than this tree's: {} stands for the address, CHAIN and KEY for the
# files of the certificate. Exit status: 0 measured, 2 not possible.
set -euo pipefail

die() { echo "tls: $*" >&2; exit 2; }
usage() { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }

connections=5000 rounds=5 seconds=1 port=9401 plain='' secured=''
while getopts n:r:d:p:s:t: option; do
  case $option in
    n) connections=$OPTARG ;; r) rounds=$OPTARG ;; d) seconds=$OPTARG ;; p) port=$OPTARG ;;
    s) plain=$OPTARG ;; t) secured=$OPTARG ;; *) usage ;;
  esac
done
shift $((OPTIND - 1))
[ $# = 0 ] || usage

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tests/support/listening.sh
. "$root/tests/support/listening.sh"
# shellcheck source=benches/load/measuring.sh
. "$here/measuring.sh"
load=${LOAD:-${CARGO_TARGET_DIR:-$here/target}/release/load}
address=127.0.0.1:$port
[ "$(nproc)" -ge 2 ] || die "one core for the server and one for the load are needed"
command -v openssl > /dev/null || die "openssl is missing"
[ -n "${LOAD:-}" ] || cargo build -q --release --manifest-path "$here/Cargo.toml" ||
  die "the load generator did not build"
if [ -z "$plain" ] || [ -z "$secured" ]; then
  (cd "$root" && cargo build -q --release -p corewire-cli) || die "corewire did not build"
  plain="${CARGO_TARGET_DIR:-$root/target}/release/corewire serve --threads 1 --listen {}"
  secured="$plain --tls-cert CHAIN --tls-key KEY"
fi

work=$(mktemp -d)
server=''
trap 'stop_server; rm -rf "$work"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/key" \
  -out "$work/chain" -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
  -addext basicConstraints=critical,CA:FALSE 2> /dev/null

start_server() { # COMMAND
  local words command=${1//\{\}/$address}
  command=${command//CHAIN/$work/chain}
  read -ra words <<< "${command//KEY/$work/key}"
  ! listening "$port" || die "port $port is taken"
  taskset -c 0 "${words[@]}" > "$work/log" 2>&1 < /dev/null &
  server=$!
  await_listening "$port" "$server" || { cat "$work/log" >&2; die "it did not start: ${words[*]}"; }
}

cost() { # BYTES COMMAND [OPTION...]: nanoseconds for each message
  local bytes=$1 command=$2 report
  shift 2
  start_server "$command"
  report=$("$load" --json --pin 1 --url "$address" --pid "$server" --connections 50 --in-flight 16 \
    --bytes "$bytes" --warm-up 0.5 --duration "$seconds" "$@") || die "the load failed"
  stop_server
  sed -n 's/.*"server_cpu_ns_per_message": \([0-9.]*\).*/\1/p' <<< "$report"
}

start_server "$secured"
"$load" --url "$address" --idle "$connections" --one-message 4096 --pid "$server" \
  --tls "$work/chain" || die "the connections did not stay"
stop_server
for bytes in 20 1024 65536; do
  for ((round = 0; round < rounds; round++)); do
    without=$(cost "$bytes" "$plain")
    echo "$without $(cost "$bytes" "$secured" --tls "$work/chain")"
  done > "$work/rounds"
  for column in '$1' '$2' '$2 / $1'; do
    awk "{ print $column }" "$work/rounds" > "$work/column"
    quantiles 3 "$work/column"
  done > "$work/quantiles"
  { read -r _ without _; read -r _ secured_ns _; read -r lower ratio upper; } < "$work/quantiles"
  printf '%6d bytes: %.0f ns without TLS, %.0f with; ratio %.2f, quartiles %.2f and %.2f of %d rounds\n' \
    "$bytes" "$without" "$secured_ns" "$ratio" "$lower" "$upper" "$rounds"
done
