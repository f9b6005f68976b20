#!/usr/bin/env bash
# Whether loops cost each other anything: one loop and its load generator share a core, alone; then
# two such pairs run, one on each core, both loops of one server.
#
#   benches/load/pairs.sh [-c CONNECTIONS] [-k IN_FLIGHT] [-b BYTES] [-r ROUNDS] [-d SECONDS] [-p PORT]
#
# Printed is user CPU for each message, of the pair and of its loop alone. Wanted: that of each pair
# is within 8 % of its own while it was alone in the same round; the order of the three alternates.
# Time is what the kernel's ticks say, so a round shorter than 5 s says little.
# Instructions, which are the same on any machine, are compared by benches/micro/check.sh.
# What is wanted is printed and no more than that: a busy machine breaks it too. PORT and the one
# behind it are taken. Exit status: 0 measured, 2 not possible.
set -euo pipefail

die() { echo "pairs: $*" >&2; exit 2; }
usage() { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }

connections=50 in_flight=16 bytes=20 rounds=7 seconds=5 port=9401
while getopts c:k:b:r:d:p: option; do
  case $option in
    c) connections=$OPTARG ;; k) in_flight=$OPTARG ;; b) bytes=$OPTARG ;; r) rounds=$OPTARG ;;
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
[ "$(nproc)" -ge 2 ] || die "two cores are needed"
command -v taskset > /dev/null || die "taskset (util-linux) is missing"

cargo build -q --release --manifest-path "$here/Cargo.toml" || die "the load generator did not build"
peers=$root/benches/peers
# Started there, cargo reads that crate's flags.
(cd "$peers" && cargo build -q --release --bin corewire-pairs --features corewire) ||
  die "the server did not build"
pairs=${CARGO_TARGET_DIR:-$peers/target}/release/corewire-pairs

work=$(mktemp -d)
server=''
trap 'stop_server; rm -rf "$work"' EXIT

start_server() { # Leaves its process id in $server and those of its loops in ${loops[@]}
  local core task deadline=$((SECONDS + 60))
  ! listening "$port" || die "port $port is taken"
  ! listening $((port + 1)) || die "port $((port + 1)) is taken"
  "$pairs" --listen "127.0.0.1:$port" --listen "127.0.0.1:$((port + 1))" > "$work/log" 2>&1 &
  server=$!
  for core in 0 1; do
    await_listening $((port + core)) "$server" ||
      { cat "$work/log" >&2; die "the server did not start"; }
  done
  # The first loop runs on the main thread, the other one on a thread with its name.
  loops=("$server" '')
  until [ -n "${loops[1]}" ]; do
    ((SECONDS < deadline)) || die "the second loop did not start"
    for task in /proc/"$server"/task/*; do
      [ "$(cat "$task/comm")" != corewire-1 ] || loops[1]=${task##*/}
    done
  done
}

field() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p"; }
user_ticks() { awk '{ print $14 }' "/proc/$server/task/$1/stat"; } # Of 10 ms, proc(5).

load() { # CORE: leaves the result in $work/CORE.json and the generator's user seconds in $work/CORE.time
  local TIMEFORMAT=%U
  { time "$bin/load" --json --pin "$1" --url "127.0.0.1:$((port + $1))" --connections "$connections" \
    --in-flight "$in_flight" --bytes "$bytes" --warm-up 0 --duration "$seconds" \
    > "$work/$1.json" 2> "$work/$1.err"; } 2> "$work/$1.time" ||
    { cat "$work/$1.err" >&2; return 1; }
}

run_pairs() { # CORE...: all of them at once
  local core waiting=()
  for core in "$@"; do
    load "$core" &
    waiting+=($!)
  done
  wait_for_all "${waiting[@]}" || die "the load did not run through"
}
wait_for_all() {
  local one
  for one in "$@"; do wait "$one" || return 1; done
}

measure() { # NAME CORE...: leaves user nanoseconds a message in $work/NAME.CORE: of the pair, of the loop
  local name=$1 core before=()
  shift
  for core in "$@"; do before[core]=$(user_ticks "${loops[core]}"); done
  run_pairs "$@"
  for core in "$@"; do
    awk -v ticks="$(($(user_ticks "${loops[core]}") - before[core]))" \
      -v generator="$(cat "$work/$core.time")" -v messages="$(field messages < "$work/$core.json")" \
      'BEGIN { loop = ticks * 1e7; printf "%.1f %.1f\n", (loop + generator * 1e9) / messages, loop / messages }' \
      > "$work/$name.$core"
  done
}

echo "shape: $connections connections for each loop, $in_flight in flight, $bytes bytes"
echo "machine: $(uname -sr), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)"
start_server
for core in 0 1; do taskset -cp "$core" "${loops[core]}" > "$work/log"; done
printf '%-6s %5s %12s %12s %8s %12s %12s %8s\n' \
  round core 'pair alone' 'of two' ratio 'loop alone' 'of two' ratio
for ((round = 1; round <= rounds; round++)); do
  if ((round % 2)); then
    measure alone 0; measure alone 1; measure both 0 1
  else
    measure both 0 1; measure alone 1; measure alone 0
  fi
  for core in 0 1; do
    paste "$work/alone.$core" "$work/both.$core" | awk -v round="$round" -v core="$core" '{
      printf "%-6d %5d %12.1f %12.1f %8.3f %12.1f %12.1f %8.3f\n",
        round, core, $1, $3, $3 / $1, $2, $4, $4 / $2 }' | tee -a "$work/rounds"
  done
done
for core in 0 1; do
  for what in pair:5 loop:8; do
    awk -v core="$core" -v column="${what#*:}" '$2 == core { print $column }' "$work/rounds" > "$work/ratios"
    read -r lower median upper < <(quantiles 3 "$work/ratios")
    verdict=''
    [ "${what%:*}" = loop ] || verdict=$(awk -v median="$median" 'BEGIN {
      print ", wanted within 8 %: " ((median < 1.08 && median > 0.92) ? "yes" : "no") }')
    echo "core $core, user CPU of a message, ${what%:*} of two / alone: median $median, quartiles $lower and $upper$verdict"
  done
done
