#!/usr/bin/env bash
# What an idle connection takes: resident memory of a fresh server before and behind N handshakes,
# and once more after each connection has echoed one message.
#
#   benches/load/idle.sh [-n CONNECTIONS] [-b MESSAGE_BYTES] [-p PORT] [-s COMMAND]
#
# 19,000 connections by default, which fit under a limit of 20,000 descriptors for each process.
# -s as in compare.sh. Exit status: 0 measured, 2 not possible.
set -euo pipefail

die() { echo "idle: $*" >&2; exit 2; }
usage() { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }

connections=19000 message_bytes=4096 port=9401 command=''
while getopts n:b:p:s: option; do
  case $option in
    n) connections=$OPTARG ;; b) message_bytes=$OPTARG ;; p) port=$OPTARG ;; s) command=$OPTARG ;;
    *) usage ;;
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

limit=$(ulimit -Hn)
[ "$limit" = unlimited ] || [ "$limit" -gt $((connections + 32)) ] ||
  die "$connections connections need more than the hard limit of $limit descriptors"
cargo build -q --release --manifest-path "$here/Cargo.toml" || die "the load generator did not build"
if [ -z "$command" ]; then
  (cd "$root" && cargo build -q --release -p corewire-cli) || die "corewire did not build"
  command="${CARGO_TARGET_DIR:-$root/target}/release/corewire serve --threads 1 --listen {}"
fi

! listening "$port" || die "port $port is taken"
read -ra words <<< "${command//\{\}/$address}"
log=$(mktemp)
"${words[@]}" > "$log" 2>&1 &
server=$!
trap 'kill "$server" 2> /dev/null || true; rm -f "$log"' EXIT
await_listening "$port" "$server" ||
  { cat "$log" >&2; die "the server did not start: ${words[*]}"; }
"$bin/load" --url "$address" --idle "$connections" --one-message "$message_bytes" --pid "$server" ||
  die "the connections did not stay"
