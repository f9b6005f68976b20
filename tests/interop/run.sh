#!/usr/bin/env bash
# Lets other people's clients talk to the release build of corewire: PyPI's websockets, npm's ws and
# Chromium.
#
#   tests/interop/run.sh DIR OUTDIR [python | node | browser]...
#
# DIR keeps the clients' packages, which are installed on the first run; OUTDIR takes the server's
# log and the browser's screenshot. Without a further word all three are run. Needs python3 with its
# venv module, node, npm, and Chromium ($CHROMIUM or /usr/bin/chromium). Exit status: 0 all is well;
# 1 a client met something else than it expects; 2 something is missing.
set -euo pipefail

WEBSOCKETS=16.1.1
WS=8.23.0
PLAYWRIGHT=1.65.1

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tests/support/listening.sh
. "$root/tests/support/listening.sh"
die() { echo "interop: $*" >&2; exit 2; }
[ $# -ge 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1" "$2"
dir=$(cd "$1" && pwd) out=$(cd "$2" && pwd)
shift 2
[ $# -gt 0 ] || set -- python node browser
export CHROMIUM=${CHROMIUM:-/usr/bin/chromium}
export NODE_PATH=$dir/node_modules

install_python() {
  [ "$(cat "$dir/venv/version" 2> /dev/null || true)" != "$WEBSOCKETS" ] || return 0
  python3 -c 'import ensurepip, venv' 2> /dev/null || die "python3 with its venv module is missing"
  rm -rf "$dir/venv"
  python3 -m venv "$dir/venv"
  "$dir/venv/bin/pip" install -q --disable-pip-version-check "websockets==$WEBSOCKETS"
  echo "$WEBSOCKETS" > "$dir/venv/version"
}

install_node() {
  command -v node > /dev/null || die "node is missing"
  command -v npm > /dev/null || die "npm is missing"
  local wanted="ws@$WS playwright-core@$PLAYWRIGHT"
  [ "$(cat "$dir/node_modules/.wanted" 2> /dev/null || true)" != "$wanted" ] || return 0
  # shellcheck disable=SC2086 # two words
  npm install --prefix "$dir" --no-save --no-audit --no-fund --loglevel=error $wanted
  echo "$wanted" > "$dir/node_modules/.wanted"
}

server=''
start_server() {
  port=$(python3 -c 'import socket as s; p = s.socket(); p.bind(("127.0.0.1", 0)); print(p.getsockname()[1])')
  "$program" serve --listen "127.0.0.1:$port" > "$out/server.log" 2>&1 &
  server=$!
  await_listening "$port" "$server" || { cat "$out/server.log" >&2; die "corewire did not start"; }
}
trap '[ -z "$server" ] || kill "$server" 2> /dev/null || true' EXIT

# RFC 6455 §7.4.1: a server that goes down says 1001. The client is told by a line on its standard
# output that the time has come, and ends well if that code arrives.
go_away() { # CLIENT COMMAND...
  local line status=0
  coproc client { "$@" "ws://127.0.0.1:$port/" going-away; }
  # shellcheck disable=SC2154 # coproc sets it
  local pid=$client_PID
  read -r -t 20 line <&"${client[0]}" || die "$1 did not connect"
  [ "$line" = connected ] || die "$1 said: $line"
  kill "$server"
  wait "$pid" || status=1
  wait "$server" || { echo "interop: corewire exited with $? on SIGTERM" >&2; status=1; }
  server=''
  return "$status"
}

client() { # NAME COMMAND...
  echo "interop: $1"
  shift
  start_server
  "$@" "ws://127.0.0.1:$port/"
  kill -0 "$server" 2> /dev/null || { echo "interop: corewire ended by itself" >&2; exit 1; }
  go_away "$@"
}

if [ -z "${COREWIRE:-}" ]; then
  (cd "$root" && cargo build -q --release -p corewire-cli) || die "corewire did not build"
fi
program=${COREWIRE:-${CARGO_TARGET_DIR:-$root/target}/release/corewire}
for name in "$@"; do
  case $name in
    python)
      install_python
      client "websockets $WEBSOCKETS" "$dir/venv/bin/python" "$here/client.py"
      ;;
    node)
      install_node
      client "ws $WS" node "$here/client.mjs"
      ;;
    browser)
      install_node
      [ -x "$CHROMIUM" ] || die "Chromium is missing: apt-get install chromium, or set CHROMIUM"
      echo "interop: $("$CHROMIUM" --version --no-sandbox 2> /dev/null)"
      start_server
      timeout 120 node "$here/browser.mjs" "http://127.0.0.1:$port/" "$out/page.png"
      kill "$server"
      wait "$server" || { echo "interop: corewire exited with $? on SIGTERM" >&2; exit 1; }
      server=''
      ;;
    *) die "no such client: $name" ;;
  esac
done
echo "interop: all is well"
