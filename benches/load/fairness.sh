#!/usr/bin/env bash
# What a flood of tiny messages on one connection costs 10,000 quiet ones beside it: the round trips
# of the quiet ones, which play one after the other, calm and flooded by turns, and how long the
# server is at one budget of a flooder, 1,024 messages. Wanted: the flooded p99 is below the bound,
# the calm p99 and two budgets.
#
#   benches/load/fairness.sh [-n QUIET] [-b BYTES] [-r ROUNDS] [-d SECONDS] [-p PORT] [-s COMMAND]
#
# The server runs on core 0 and the load on core 1; each round is one calm and one flooded phase of
# so many seconds. -s as in compare.sh. Whether the bound holds is printed and no more than that:
# a busy machine breaks it too. Exit status: 0 measured, 2 not possible.
set -euo pipefail

die() { echo "fairness: $*" >&2; exit 2; }
usage() { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }

quiet=10000 bytes=20 rounds=5 seconds=1 port=9401 command=''
while getopts n:b:r:d:p:s: option; do
  case $option in
    n) quiet=$OPTARG ;;
    b) bytes=$OPTARG ;; r) rounds=$OPTARG ;; d) seconds=$OPTARG ;; p) port=$OPTARG ;;
    s) command=$OPTARG ;; *) usage ;;
  esac
done
shift $((OPTIND - 1))
[ $# = 0 ] || usage

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tests/support/listening.sh
. "$root/tests/support/listening.sh"
bin=${CARGO_TARGET_DIR:-$here/target}/release
address=127.0.0.1:$port

[ "$(nproc)" -ge 2 ] || die "one core for the server and one for the load are needed"
command -v taskset > /dev/null || die "taskset (util-linux) is missing"
cargo build -q --release --manifest-path "$here/Cargo.toml" || die "the load generator did not build"
if [ -z "$command" ]; then
  (cd "$root" && cargo build -q --release -p corewire-cli) || die "corewire did not build"
  command="${CARGO_TARGET_DIR:-$root/target}/release/corewire serve --threads 1 --listen {}"
fi

limit=$(ulimit -Hn)
[ "$limit" = unlimited ] || [ "$limit" -gt $((quiet + 32)) ] ||
  die "$quiet connections need more than the hard limit of $limit descriptors"
! listening "$port" || die "port $port is taken"
read -ra words <<< "${command//\{\}/$address}"
log=$(mktemp)
taskset -c 0 "${words[@]}" > "$log" 2>&1 &
server=$!
trap 'kill "$server" 2> /dev/null || true; rm -f "$log"' EXIT
await_listening "$port" "$server" ||
  { cat "$log" >&2; die "the server did not start: ${words[*]}"; }
"$bin/load" --url "$address" --fairness "$rounds" --quiet "$quiet" --duration "$seconds" \
  --bytes "$bytes" --pin 1 --pid "$server" || die "the connections did not stay"
