#!/usr/bin/env bash
# What a message costs above the floor: corewire against a TCP echo without a protocol.
#
#   benches/load/compare.sh [-c CONNECTIONS] [-k IN_FLIGHT] [-b BYTES] [-o binary|text]
#                           [-r ROUNDS] [-d SECONDS] [-p PORT] [-s COMMAND]
#   benches/load/compare.sh --strace [the same options]
#
# Each round starts a fresh server of either kind on core 0, in turn, and loads it from core 1.
# Whole runs drift on a virtual machine, so only ratios within a round are compared; the median and
# the quartiles are over the rounds' ratios. -s gives another server than this tree's: a command
# that listens on 127.0.0.1:PORT, {} standing for that address, e.g. -s './other --listen {}'; those
# of benches/peers do.
# With --strace both servers run once more slowly under strace, which counts system calls for each
# message; time means nothing there. Exit status: 0 measured, 2 not possible.
set -euo pipefail

die() { echo "compare: $*" >&2; exit 2; }
usage() { sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }

connections=200 in_flight=1 bytes=20 opcode=binary rounds=5 seconds=3 port=9401 strace='' command=''
if [ "${1:-}" = --strace ]; then strace=1; shift; fi
while getopts c:k:b:o:r:d:p:s: option; do
  case $option in
    c) connections=$OPTARG ;; k) in_flight=$OPTARG ;; b) bytes=$OPTARG ;; o) opcode=$OPTARG ;;
    r) rounds=$OPTARG ;; d) seconds=$OPTARG ;; p) port=$OPTARG ;; s) command=$OPTARG ;; *) usage ;;
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
bin=${CARGO_TARGET_DIR:-$here/target}/release
address=127.0.0.1:$port
[ "$(nproc)" -ge 2 ] || die "one core for the server and one for the load are needed"
command -v taskset > /dev/null || die "taskset (util-linux) is missing"
[ -z "$strace" ] || command -v strace > /dev/null || die "strace is missing: apt-get install strace"

cargo build -q --release --manifest-path "$here/Cargo.toml" || die "the load generator did not build"
peers=$root/benches/peers
# Started there, cargo reads that crate's flags.
(cd "$peers" && cargo build -q --release --bin raw-epoll --features raw-epoll) ||
  die "the raw echo did not build"
if [ -z "$command" ]; then
  (cd "$root" && cargo build -q --release -p corewire-cli) || die "corewire did not build"
  command="${CARGO_TARGET_DIR:-$root/target}/release/corewire serve --threads 1 --listen {}"
fi
raw_command="${CARGO_TARGET_DIR:-$peers/target}/release/raw-epoll --listen {}"

work=$(mktemp -d)
server='' traced='' measured=''
stop_traced() { # The server's own process, where strace stands in front of it.
  [ -z "$traced" ] || kill "$traced" 2> /dev/null || true
  traced=''
  stop_server
}
trap 'stop_traced; rm -rf "$work"' EXIT

start_server() { # COMMAND [WRAPPER...]: leaves its process id in $server
  local line=${1//\{\}/$address} words
  shift
  ! listening "$port" || die "port $port is taken"
  read -ra words <<< "$line"
  "$@" "${words[@]}" > "$work/server.log" 2>&1 &
  server=$!
  await_listening "$port" "$server" ||
    { cat "$work/server.log" >&2; die "the server did not start: $line"; }
}

load() { # PROTOCOL PID: prints one line of JSON
  "$bin/load" --json --pin 1 --url "$address" --protocol "$1" --pid "$2" \
    --connections "$connections" --in-flight "$in_flight" --bytes "$bytes" --opcode "$opcode" \
    --warm-up 1 --duration "$seconds" || die "the load did not run through"
}
field() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p"; }

measure() { # PROTOCOL COMMAND: leaves messages a second and CPU nanoseconds of one in $measured
  local result
  start_server "$2" taskset -c 0
  result=$(load "$1" "$server") || exit 2
  stop_server
  measured="$(field messages_per_second <<< "$result") $(field server_cpu_ns_per_message <<< "$result")"
}

count_calls() { # PROTOCOL COMMAND: prints the calls of the loaded time, each per message
  local result messages
  start_server "$2" taskset -c 0
  # Attached only once the server listens, so that its start is not in the count.
  strace -c -f -p "$server" -o "$work/calls" 2> "$work/strace.log" &
  traced=$!
  sleep 0.5
  # No warm-up: strace counts from the first message on, and so must we. The handshakes are in the
  # count too, which is why a run must be long against them.
  result=$("$bin/load" --json --pin 1 --url "$address" --protocol "$1" --connections "$connections" \
    --in-flight "$in_flight" --bytes "$bytes" --opcode "$opcode" --warm-up 0 --duration "$seconds") ||
    die "the load did not run through"
  kill -INT "$traced" && wait "$traced" 2> /dev/null || true
  traced=''
  stop_server
  [ -s "$work/calls" ] || { cat "$work/strace.log" >&2; die "strace counted nothing"; }
  messages=$(field messages <<< "$result")
  awk -v messages="$messages" '
    $4 ~ /^[0-9]+$/ && $NF != "total" { calls[$NF] = $4; all += $4 }
    END {
      printf "  %-14s %10d messages, %.3f system calls each\n", "'"$1"'", messages, all / messages
      for (name in calls) if (calls[name] / messages >= 0.001)
        printf "    %-12s %.3f\n", name, calls[name] / messages | "sort -k2 -nr"
    }' "$work/calls"
}

echo "shape: $connections connections, $in_flight in flight, $bytes bytes $opcode"
if [ -n "$strace" ]; then
  count_calls raw "$raw_command"
  count_calls websocket "$command"
  exit 0
fi
echo "machine: $(uname -sr), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)"
printf '%-6s %14s %14s %12s %12s %8s\n' round 'raw msg/s' 'corewire msg/s' 'raw ns' 'corewire ns' ratio
for ((round = 1; round <= rounds; round++)); do
  # The order alternates, so that a drift favours neither.
  if ((round % 2)); then
    measure raw "$raw_command" && raw=$measured
    measure websocket "$command" && own=$measured
  else
    measure websocket "$command" && own=$measured
    measure raw "$raw_command" && raw=$measured
  fi
  awk -v round="$round" -v raw="$raw" -v own="$own" 'BEGIN {
    split(raw, r); split(own, o)
    printf "%-6d %14d %14d %12.1f %12.1f %8.3f\n", round, r[1], o[1], r[2], o[2], o[2] / r[2] }' |
    tee -a "$work/rounds"
done
awk '{ print $6 }' "$work/rounds" > "$work/ratios"
read -r lower median upper < <(quantiles 3 "$work/ratios")
echo "CPU per message, corewire / raw: median $median, quartiles $lower and $upper"
