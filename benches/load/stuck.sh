#!/usr/bin/env bash
# What subscribers that never read cost those that do: one publisher, so many subscribers of one topic,
# with and without stuck ones beside them by turns, for each policy that keeps these.
#
#   benches/load/stuck.sh [-n SUBSCRIBERS] [-x STUCK] [-b BYTES] [-r ROUNDS] [-d SECONDS] [-p PORT]
#
# The server runs on core 0 and the load on core 1. Printed are ratios of the server's CPU time for each
# copy that arrives: beside stuck ones, once what kernel and server take for them is full, of the mean
# before they came and after they went. Wanted: 1, but for what it takes to pass each of them over.
# Exit status: 0 measured, 2 not possible.
set -euo pipefail

die() { echo "stuck: $*" >&2; exit 2; }
usage() { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }

subscribers=1000 stuck=10 bytes=1024 rounds=9 seconds=0.5 port=9401
while getopts n:x:b:r:d:p: option; do
  case $option in
    n) subscribers=$OPTARG ;; x) stuck=$OPTARG ;; b) bytes=$OPTARG ;; r) rounds=$OPTARG ;;
    d) seconds=$OPTARG ;; p) port=$OPTARG ;; *) usage ;;
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
cargo build -q --release --manifest-path "$here/Cargo.toml" || die "the load generator did not build"
(cd "$root" && cargo build -q --release -p corewire-cli) || die "corewire did not build"
corewire=${CARGO_TARGET_DIR:-$root/target}/release/corewire

work=$(mktemp -d)
server=''
trap 'stop_server; rm -rf "$work"' EXIT
field() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p"; }

echo "shape: $subscribers subscribers and $stuck that are stuck, $bytes bytes"
echo "machine: $(uname -sr), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)"
for policy in skip-new drop-oldest conflate; do
  ! listening "$port" || die "port $port is taken"
  taskset -c 0 "$corewire" serve --threads 1 --listen "$address" --topics --topic-policy "$policy" \
    --drain-window 0s > "$work/log" 2>&1 &
  server=$!
  await_listening "$port" "$server" || { cat "$work/log" >&2; die "the server did not start"; }
  result=$("$bin/load" --json --pin 1 --url "$address" --topic news --fan-out "$subscribers" --stuck "$stuck" \
    --rounds "$rounds" --bytes "$bytes" --in-flight 1 --warm-up 0.5 --duration "$seconds" --pid "$server") ||
    die "the load did not run through"
  stop_server
  echo "$policy: CPU of a copy, beside stuck ones of calm: median $(field ratio_median <<< "$result")," \
    "quartiles $(field ratio_lower <<< "$result") and $(field ratio_upper <<< "$result")"
done
