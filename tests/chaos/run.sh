#!/usr/bin/env bash
# Kills, stops and restarts three back ends at random while corewire's clients and a pool send to
# them, and compares what was told of each message with what the back ends have logged: npm's ws,
# PyPI's websockets, and corewire.
#
#   tests/chaos/run.sh DIR OUTDIR [SECONDS [SEED]]
#
# DIR keeps the foreign packages, which are installed on the first run; OUTDIR takes the logs. Without
# a number it takes 60 seconds, and a new seed. Needs python3 with its venv module, node and npm. Exit
# status: 0 all is well; 1 something disagrees, or was not back in time; 2 something is missing.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
die() { echo "chaos: $*" >&2; exit 2; }
# shellcheck source=tests/support/node_clients.sh
. "$root/tests/support/node_clients.sh"
# shellcheck source=tests/support/python_clients.sh
. "$root/tests/support/python_clients.sh"
[ $# -ge 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1" "$2"
dir=$(cd "$1" && pwd) out=$(cd "$2" && pwd)
seconds=${3:-60} seed=${4:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}

install_python "$dir"
install_node "$dir"
# With what the engine asserts of itself, which a release build leaves out.
(cd "$root" && cargo build -q -p corewire --example chaos) || die "the driver did not build"
rm -f "$out"/{ws,websockets,corewire}.log # To which the back ends append.
export NODE_PATH=$dir/node_modules
driver=${CARGO_TARGET_DIR:-$root/target}/debug/examples/chaos
# The driver ends well before. The back ends end with it, whatever ends it.
timeout "$((seconds + 60))" "$driver" "$seed" "$seconds" "$out" \
  -- ws node "$here/back_end.mjs" \
  -- websockets "$dir/venv/bin/python" -B "$here/back_end.py" \
  -- corewire "$driver" back-end || exit 1
