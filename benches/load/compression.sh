#!/usr/bin/env bash
# What compression takes and gives, as a table in Markdown: memory for each connection, idle and once
# it has filled its windows; JSON that one core echoes; and what that weighs on the wire. For corewire
# and uWebSockets in each of their settings.
#
#   benches/load/compression.sh [-n CONNECTIONS] [-c CONNECTIONS] [-b BYTES] [-r ROUNDS]
#                               [-d SECONDS] [-p PORT] [-f FILTER]
#
# Memory is that of -n connections, read once. In each round every setting gets a fresh server on core
# 0 and -c connections with one message in flight from core 1, every second round in the opposite
# order; the table has medians and, for the spread, quartiles. MB/s are of payload in each direction,
# for a second of the server's CPU time. -f takes only the settings with this text in their line.
# Exit status: 0 measured, 2 not possible.
set -euo pipefail

die() { echo "compression: $*" >&2; exit 2; }
usage() { sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }

idle=1000 connections=50 bytes=1024 rounds=5 seconds=2 port=9401 filter=''
while getopts n:c:b:r:d:p:f: option; do
  case $option in
    n) idle=$OPTARG ;; c) connections=$OPTARG ;; b) bytes=$OPTARG ;; r) rounds=$OPTARG ;;
    d) seconds=$OPTARG ;; p) port=$OPTARG ;; f) filter=$OPTARG ;; *) usage ;;
  esac
done
shift $((OPTIND - 1))
[ $# = 0 ] || usage

# The server, and its arguments: `dedicated:BITS:MEM` is a window of 2^BITS bytes.
settings=()
while read -r line; do
  [[ $line != *"$filter"* ]] || settings+=("$line")
done << 'SETTINGS'
corewire disabled
corewire shared
corewire shared --level 6
corewire dedicated:15:8
corewire dedicated:15:8 --level 6
corewire dedicated:12:5
corewire dedicated:12:5 --level 6
corewire dedicated:9:1
corewire dedicated:9:1 --level 6
uwebsockets disabled
uwebsockets shared
uwebsockets dedicated:15:8
uwebsockets dedicated:12:5
uwebsockets dedicated:9:2
uwebsockets dedicated:9:1
SETTINGS

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tests/support/listening.sh
. "$root/tests/support/listening.sh"
# shellcheck source=benches/load/measuring.sh
. "$here/measuring.sh"
peers=$root/benches/peers
load=${CARGO_TARGET_DIR:-$here/target}/release/load
servers=${CARGO_TARGET_DIR:-$peers/target}/release
address=127.0.0.1:$port
[ "${#settings[@]}" -gt 0 ] || die "no setting has \"$filter\" in its line"
[ "$(nproc)" -ge 2 ] || die "one core for the server and one for the load are needed"
command -v taskset > /dev/null || die "taskset (util-linux) is missing"
limit=$(ulimit -Hn)
[ "$limit" = unlimited ] || [ "$limit" -gt $((idle + 32)) ] ||
  die "$idle connections need more than the hard limit of $limit descriptors"
cargo build -q --release --manifest-path "$here/Cargo.toml" || die "the load generator did not build"
# Started there, cargo reads that crate's flags.
(cd "$peers" && cargo build -q --release --bin corewire --bin uwebsockets \
  --features corewire,uwebsockets) || die "the servers did not build"

work=$(mktemp -d)
server=''
trap 'stop_server; rm -rf "$work"' EXIT

measure() { # SETTING [OPTION...]: one line of JSON from the generator, for a fresh server
  local words offer
  read -ra words <<< "$1"
  shift
  case ${words[1]} in
    disabled) offer=() ;;
    *) offer=(--compression "${words[1]%%:*}") ;;
  esac
  ! listening "$port" || die "port $port is taken"
  taskset -c 0 "$servers/${words[0]}" --listen "$address" --compression "${words[@]:1}" \
    > "$work/server.log" 2>&1 &
  server=$!
  await_listening "$port" "$server" ||
    { cat "$work/server.log" >&2; die "the server did not start: ${words[*]}"; }
  "$load" --json --pin 1 --url "$address" --pid "$server" --bytes "$bytes" "${offer[@]}" "$@" \
    > "$work/result" || die "the load did not run through: ${words[*]}"
  stop_server
}
field() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p" "$work/result"; }

memory() { # INDEX: leaves KiB for each connection, idle and active
  local active=() setting=${settings[$1]}
  [[ $setting != *disabled* ]] || active=(--one-message "$bytes")
  measure "$setting" --idle "$idle" "${active[@]}"
  echo "$(field rss_per_connection_bytes) $(field rss_per_connection_after_message_bytes)" |
    awk '{ printf "%.1f %.1f\n", $1 / 1024, $2 / 1024 }' > "$work/memory.$1"
}

speed() { # INDEX: adds MB for each second of CPU time, and leaves bytes on the wire
  local text=() setting=${settings[$1]}
  [[ $setting != *disabled* ]] || text=(--opcode text)
  measure "$setting" --connections "$connections" --duration "$seconds" "${text[@]}"
  awk -v bytes="$bytes" -v cpu="$(field server_cpu_ns_per_message)" \
    'BEGIN { printf "%.3f\n", bytes / cpu * 1000 }' >> "$work/speed.$1"
  field answer_bytes_per_message > "$work/wire.$1"
  # Uncompressed it is the payload and the shortest header for it.
  [ -s "$work/wire.$1" ] ||
    echo $((bytes + (bytes < 126 ? 2 : bytes < 65536 ? 4 : 10))) > "$work/wire.$1"
}

last=$((${#settings[@]} - 1))
for index in $(seq 0 "$last"); do memory "$index"; done
for ((round = 1; round <= rounds; round++)); do
  order=$(seq 0 "$last")
  ((round % 2)) || order=$(seq "$last" -1 0)
  for index in $order; do speed "$index"; done
done

echo "machine: $(uname -sr), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)"
echo "$idle connections for memory; $connections, 1 in flight, JSON of $bytes bytes for the rest;" \
  "$rounds rounds of $seconds s"
echo
printf '| %-33s | %8s | %10s | %21s | %14s |\n' \
  setting 'KiB idle' 'KiB active' 'MB/s of one core' 'B on the wire' \
  --------------------------------- -------: ---------: --------------------: -------------:
for index in $(seq 0 "$last"); do
  read -r idle_kib active_kib < "$work/memory.$index"
  read -r lower median upper < <(quantiles 1 "$work/speed.$index")
  printf '| %-33s | %8s | %10s | %21s | %14s |\n' "${settings[$index]}" "$idle_kib" "$active_kib" \
    "$median [$lower, $upper]" "$(cat "$work/wire.$index")"
done
