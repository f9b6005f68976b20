#!/usr/bin/env bash
# Lets other people's clients talk to the release build of corewire: PyPI's websockets and aiohttp,
# npm's ws, and Chromium; and a client of ours to other people's servers.
#
#   tests/interop/run.sh DIR OUTDIR [python | node | browser | topics | chat | tls | deflate | bomb |
#       servers | connect | blocking]...
#
# `topics` has them publish and subscribe, and `chat` has two windows of Chromium meet in the example of
# that name. `tls` has them come over TLS, and OpenSSL's s_client and curl besides; `deflate` has all of them offer
# compression, `bomb` attacks with it. `servers` has a client of ours ($CALLER, or the release build of
# tests/interop/caller.rs) call websockets and ws, over TLS and at Unix sockets too, through nginx and
# the proxies of PyPI's pproxy, and OpenSSL's s_server; `connect` has `corewire connect` and
# `corewire bench` talk to a server of websockets; `blocking` has the blocking client, by the example
# `script`, talk to servers of websockets and ws, which are stopped and started again meanwhile.
#
# DIR keeps the others' packages, which are installed on the first run; OUTDIR takes the servers' logs,
# their certificates and the browser's screenshots. Without a further word all are run. Needs python3
# with its venv module, node, npm, nginx, openssl, curl and Chromium ($CHROMIUM or /usr/bin/chromium).
# Exit status: 0 all is well; 1 somebody met something else than is expected; 2 something is missing.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tests/support/listening.sh
. "$root/tests/support/listening.sh"
# shellcheck source=tests/support/node_clients.sh
. "$root/tests/support/node_clients.sh"
# shellcheck source=tests/support/python_clients.sh
. "$root/tests/support/python_clients.sh"
die() { echo "interop: $*" >&2; exit 2; }
[ $# -ge 2 ] || { sed -n '2,20s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1" "$2"
dir=$(cd "$1" && pwd) out=$(cd "$2" && pwd)
shift 2
[ $# -gt 0 ] || set -- python node browser topics chat tls deflate bomb servers connect blocking
export CHROMIUM=${CHROMIUM:-/usr/bin/chromium}
export NODE_PATH=$dir/node_modules

server='' servers=()
start_server() { # [ARGUMENT]...: leaves $server and $port
  local log="$out/server${#servers[@]}.log"
  port=$(python3 -c 'import socket as s; p = s.socket(); p.bind(("127.0.0.1", 0)); print(p.getsockname()[1])')
  "$program" serve --listen "127.0.0.1:$port" --drain-window 0s "$@" > "$log" 2>&1 &
  server=$!
  servers+=("$server")
  await_listening "$port" "$server" || { cat "$log" >&2; die "corewire did not start"; }
}
trap '[ ${#servers[@]} = 0 ] || kill "${servers[@]}" 2> /dev/null || true' EXIT

stop_servers() {
  local pid status=0
  for pid in "${servers[@]}"; do
    kill "$pid" 2> /dev/null || { echo "interop: corewire ended by itself" >&2; status=1; }
    wait "$pid" || { echo "interop: corewire exited with $? on SIGTERM" >&2; status=1; }
  done
  servers=()
  return "$status"
}

# A server that is told to drain says 1012. The client is told by a line on its standard
# output that the time has come, and ends well if that code arrives.
go_away() { # CLIENT COMMAND...
  local line status=0
  coproc client { "$@" "$scheme://127.0.0.1:$port/" going-away; }
  # shellcheck disable=SC2154 # coproc sets it
  local pid=$client_PID
  read -r -t 20 line <&"${client[0]}" || die "$1 did not connect"
  [ "$line" = connected ] || die "$1 said: $line"
  kill "$server"
  wait "$pid" || status=1
  wait "$server" || { echo "interop: corewire exited with $? on SIGTERM" >&2; status=1; }
  servers=()
  return "$status"
}

# How the next clients come, and with what the servers for them are started.
scheme=ws arguments=()
client() { # NAME COMMAND...
  echo "interop: $1"
  shift
  start_server ${arguments[@]+"${arguments[@]}"}
  "$@" "$scheme://127.0.0.1:$port/"
  kill -0 "$server" 2> /dev/null || { echo "interop: corewire ended by itself" >&2; exit 1; }
  go_away "$@"
}

# A server of each kind, and every client to all of them.
COMPRESSIONS=(disabled shared dedicated dedicated:9:1 dedicated:12:5)
deflate() {
  local compression urls=()
  for compression in "${COMPRESSIONS[@]}"; do
    start_server --threads 1 --compression "$compression"
    urls+=("$compression=ws://127.0.0.1:$port/")
  done
  local judge=(python3 "$here/deflate.py") python=("$dir/venv/bin/python" "$here/deflate_client.py")
  local name
  for name in websockets aiohttp; do
    "${judge[@]}" "$name" "${urls[@]}" -- "${python[@]}" "$name"
  done
  for name in ws chromium; do
    "${judge[@]}" "$name" "${urls[@]}" -- node "$here/deflate_client.mjs" "$name"
  done
  stop_servers
}

bomb() { # [ARGUMENT]...
  echo "interop: bombs, $*"
  start_server --threads 1 --max-message 1MiB "$@"
  "$dir/venv/bin/python" "$here/deflate_bomb.py" "127.0.0.1:$port" "$server"
  stop_servers
}

chain=$out/chain.pem key=$out/key.pem
make_certificate() { # [OPTION]...
  command -v openssl > /dev/null || die "openssl is missing"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$key" -out "$chain" \
    -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 "$@" 2> /dev/null
}

# Everything comes back from a server of somebody else's, over TLS and compressed.
connect() {
  local said=$out/connect.in heard=$out/connect.out status=0
  # rustls takes no authority's certificate for a server's own.
  make_certificate -addext basicConstraints=critical,CA:FALSE
  port=$(python3 -c 'import socket as s; p = s.socket(); p.bind(("127.0.0.1", 0)); print(p.getsockname()[1])')
  "$dir/venv/bin/python" "$here/server.py" "$port" "$chain" "$key" me:secret > "$out/connect.log" 2>&1 &
  server=$!
  servers+=("$server")
  await_listening "$port" "$server" || { cat "$out/connect.log" >&2; die "websockets did not start"; }
  local arguments=("wss://localhost:$port/" --ca "$chain" --user me:secret)
  { seq 5000; head -c 3000000 /dev/zero | tr '\0' x; echo; } > "$said"
  local bytes compression
  bytes=$(wc -c < "$said")
  for compression in off shared dedicated dedicated:9:1; do
    : > "$heard"
    # This server sends nothing any more once it has read a Close.
    { cat "$said"; until [ "$(wc -c < "$heard")" = "$bytes" ]; do sleep 0.1; done; } |
      timeout 60 "$program" connect "${arguments[@]}" --compression "$compression" > "$heard"
    cmp "$said" "$heard"
    "$program" bench "${arguments[@]}" --compression "$compression" --connections 5 --bytes 1KiB \
      --duration 500ms --warm-up 0s > /dev/null
  done
  "$program" connect "${arguments[@]:0:3}" < "$said" 2> "$heard" || status=$?
  [ "$status" = 2 ] && grep -q "401 instead of 101" "$heard" || die "a 401 was not told"
  kill "$server"
  wait "$server" 2> /dev/null || true
  servers=()
}

tls() {
  command -v curl > /dev/null || die "curl is missing"
  make_certificate
  arguments=(--tls-cert "$chain" --tls-key "$key") scheme=wss
  echo "interop: $(openssl version), $(curl --version | head -1 | cut -d' ' -f1,2)"
  start_server "${arguments[@]}"
  "$here/tls.sh" "$port" "$chain"
  echo "interop: $("$CHROMIUM" --version --no-sandbox 2> /dev/null), https"
  timeout 120 node "$here/browser.mjs" "https://127.0.0.1:$port/" "$out/page-tls.png"
  echo "interop: reload"
  "$dir/venv/bin/python" "$here/reload.py" "wss://127.0.0.1:$port/" "$server" "$chain" "$key"
  stop_servers
  # Both trust what these name.
  export SSL_CERT_FILE=$chain NODE_EXTRA_CA_CERTS=$chain
  client "websockets $WEBSOCKETS, wss" "$dir/venv/bin/python" "$here/client.py"
  client "ws $WS, wss" node "$here/client.mjs"
  arguments+=(--compression dedicated)
  client "websockets $WEBSOCKETS, wss, compressed" "$dir/venv/bin/python" "$here/client.py"
  unset SSL_CERT_FILE NODE_EXTRA_CA_CERTS
  arguments=() scheme=ws
}

servers() {
  local chain=$out/servers-chain.pem key=$out/servers-key.pem
  # nginx may be where not every PATH leads.
  PATH=$PATH:/usr/sbin:/sbin
  command -v nginx > /dev/null || die "nginx is missing"
  command -v openssl > /dev/null || die "openssl is missing"
  if [ -z "${CALLER:-}" ]; then
    (cd "$root" && cargo build -q --release --all-features --example interop_caller) ||
      die "the caller did not build"
  fi
  # What calls itself an authority is no server's certificate.
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$key" -out "$chain" \
    -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -addext basicConstraints=critical,CA:FALSE 2> /dev/null
  "$dir/venv/bin/python" "$here/call.py" "$out" \
    "${CALLER:-${CARGO_TARGET_DIR:-$root/target}/release/examples/interop_caller}" "$chain" "$key"
}

# The server of somebody else, at $port.
start_foreign() { # COMMAND...
  "$@" "$port" >> "$out/foreign.log" 2>&1 &
  server=$!
  servers+=("$server")
  await_listening "$port" "$server" || { cat "$out/foreign.log" >&2; die "$1 did not start"; }
}

stop_foreign() {
  kill "$server"
  wait "$server" || true
  servers=()
}

# Each kind of server with every client.
topics() {
  local arguments
  for arguments in "--threads 1" "--threads 2" "--threads 2 --compression shared" \
    "--threads 1 --compression dedicated:9:1"; do
    echo "interop: topics, $arguments"
    # shellcheck disable=SC2086 # several words
    start_server --topics --topic-backlog 64MiB --max-backpressure 64MiB $arguments
    "$dir/venv/bin/python" "$here/topics.py" "ws://127.0.0.1:$port/"
    node "$here/topics.mjs" "ws://127.0.0.1:$port/"
    stop_servers
  done
}

chat() {
  local example=${CARGO_TARGET_DIR:-$root/target}/debug/examples/chat
  port=$(python3 -c 'import socket as s; p = s.socket(); p.bind(("127.0.0.1", 0)); print(p.getsockname()[1])')
  "$example" "127.0.0.1:$port" > "$out/chat.log" 2>&1 &
  server=$!
  servers+=("$server")
  await_listening "$port" "$server" || { cat "$out/chat.log" >&2; die "the example did not start"; }
  timeout 120 node "$here/chat.mjs" "http://127.0.0.1:$port/" "$out/chat"
  kill "$server"
  wait "$server" || true
  servers=()
}

must_be() { # WANTED FOUND
  [ "$1" = "$2" ] || { diff <(echo "$1") <(echo "$2") | head -5 >&2; exit 1; }
}

# Asks by turns, all at once, and across a restart of the server.
blocking() { # NAME COMMAND...
  local script=${CARGO_TARGET_DIR:-$root/target}/debug/examples/script line n
  echo "interop: blocking client, $1"
  shift
  : > "$out/foreign.log"
  port=$(python3 -c 'import socket as s; p = s.socket(); p.bind(("127.0.0.1", 0)); print(p.getsockname()[1])')
  start_foreign "$@"
  local url=ws://127.0.0.1:$port/
  must_be "$(printf 'Hello\nGrüße\n\nclosed with 1000')" "$("$script" "$url" Hello Grüße '')"
  must_be "$(seq 20000; echo "closed with 1000")" "$(seq 20000 | "$script" "$url")"
  must_be 2 "$(grep -c 'closed 1000 that was all' "$out/foreign.log")"
  coproc asking { "$script" "$url"; }
  # shellcheck disable=SC2154 # coproc sets them
  local pid=$asking_PID answers=${asking[0]} questions=${asking[1]}
  echo before >&"$questions"
  read -r -t 20 line <&"$answers" || die "there is no answer"
  must_be before "$line"
  stop_foreign
  for n in $(seq 500); do echo "offline $n" >&"$questions"; done
  start_foreign "$@"
  for n in $(seq 500); do
    read -r -t 60 line <&"$answers" || die "there is no answer after the restart"
    must_be "offline $n" "$line"
  done
  exec {questions}>&-
  read -r -t 20 line <&"$answers" || die "it does not leave"
  must_be "closed with 1000" "$line"
  wait "$pid"
  stop_foreign
}

need_chromium() {
  [ -x "$CHROMIUM" ] || die "Chromium is missing: apt-get install chromium, or set CHROMIUM"
}

if [ -z "${COREWIRE:-}" ]; then
  (cd "$root" && cargo build -q --release -p corewire-cli) || die "corewire did not build"
fi
program=${COREWIRE:-${CARGO_TARGET_DIR:-$root/target}/release/corewire}
for name in "$@"; do
  case $name in
    python)
      install_python "$dir"
      client "websockets $WEBSOCKETS" "$dir/venv/bin/python" "$here/client.py"
      ;;
    node)
      install_node "$dir"
      client "ws $WS" node "$here/client.mjs"
      ;;
    browser)
      install_node "$dir"
      need_chromium
      echo "interop: $("$CHROMIUM" --version --no-sandbox 2> /dev/null)"
      start_server
      timeout 120 node "$here/browser.mjs" "http://127.0.0.1:$port/" "$out/page.png"
      stop_servers
      ;;
    topics)
      install_python "$dir"
      install_node "$dir"
      topics
      ;;
    chat)
      install_node "$dir"
      need_chromium
      (cd "$root" && cargo build -q --example chat) || die "the example did not build"
      echo "interop: chat, $("$CHROMIUM" --version --no-sandbox 2> /dev/null)"
      chat
      ;;
    tls)
      install_python "$dir"
      install_node "$dir"
      need_chromium
      tls
      ;;
    deflate)
      install_python "$dir"
      install_node "$dir"
      need_chromium
      echo "interop: permessage-deflate"
      deflate
      ;;
    bomb)
      install_python "$dir"
      for compression in shared dedicated; do
        bomb --compression "$compression"
        bomb --compression "$compression" --echo-streaming
      done
      ;;
    servers)
      install_python "$dir"
      install_node "$dir"
      echo "interop: servers of websockets $WEBSOCKETS and ws $WS, nginx, pproxy $PPROXY, OpenSSL"
      servers
      ;;
    connect)
      install_python "$dir"
      echo "interop: connect, websockets $WEBSOCKETS serves"
      connect
      ;;
    blocking)
      install_python "$dir"
      install_node "$dir"
      (cd "$root" && cargo build -q --example script) || die "the example did not build"
      blocking "websockets $WEBSOCKETS" "$dir/venv/bin/python" "$here/echo_server.py"
      blocking "ws $WS" node "$here/echo_server.mjs"
      ;;
    *) die "no such client: $name" ;;
  esac
done
echo "interop: all is well"
