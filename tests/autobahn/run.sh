#!/usr/bin/env bash
# The Autobahn|Testsuite for WebSocket conformance, without a browser and on loopback only.
#
#   run.sh install DIR
#       puts the suite into DIR, unless it is there already
#   run.sh server DIR PORT OUTDIR [option]...
#       tests the server at ws://127.0.0.1:PORT
#   run.sh tls-server DIR PORT OUTDIR [option]...
#       the same at wss://127.0.0.1:PORT, whatever its certificate
#   run.sh client DIR PORT OUTDIR [option]... -- COMMAND [ARGUMENT]...
#       tests the client COMMAND, one run of it for each shard, against ws://127.0.0.1:PORT and up.
#       It reads AUTOBAHN_URL and AUTOBAHN_AGENT, asks URL/getCaseCount how many cases there are and
#       echoes on URL/runCase?case=N&agent=AGENT for each N from 1.
#
#   -c GLOB     run only these cases (repeatable), e.g. -c '1.*' -c 7.1.6
#   -x GLOB     leave these cases out (repeatable), e.g. -x '12.*'
#   -j N        run N shards side by side (default 1)
#   -A VERDICT  accept this verdict as well (repeatable), e.g. -A NON-STRICT
#   -a NAME     name in the reports (default corewire)
#   -t SECONDS  time limit of a shard (default 1200)
#
# Accepted are OK, and INFORMATIONAL for 7.1.6, 7.13.1 and 7.13.2. The reports are in
# OUTDIR/shard*/. Exit status: 0 every selected case ran and was accepted; 1 one was not; 2 the suite
# could not be run at all. Needs Python 2.7 ($PYTHON27, pyenv or PATH), python3 and gcc.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/listening.sh
. "$here/../support/listening.sh"
die() { echo "autobahn: $*" >&2; exit 2; }
usage() { sed -n '2,27s/^# \{0,1\}//p' "$0" >&2; exit 2; }

is_python27() {
  [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null)" = 2.7 ]
}

find_python27() {
  local candidate
  if [ -n "${PYTHON27:-}" ]; then
    is_python27 "$PYTHON27" || die "PYTHON27=$PYTHON27 is no Python 2.7"
    echo "$PYTHON27"
    return
  fi
  for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7.*/bin/python python2.7; do
    if is_python27 "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  die "Python 2.7 is missing, and the suite runs on nothing newer: set PYTHON27 to one"
}

install_suite() { # DIR
  local dir=$1 python27
  # The list is copied in last, so what is half installed is installed again.
  ! cmp -s "$here/requirements.txt" "$dir/requirements.txt" || return 0
  python27=$(find_python27)
  command -v gcc > /dev/null || die "gcc is missing: parts of the suite are compiled"
  python3 -c 'import ensurepip, venv' 2> /dev/null || die "python3 with its venv module is missing"
  rm -rf "$dir" "$dir.make"
  # The last virtualenv that makes environments for 2.7.
  { python3 -m venv "$dir.make" &&
    "$dir.make/bin/pip" install -q 'virtualenv==20.21.1' &&
    "$dir.make/bin/virtualenv" -q --no-download --python "$python27" "$dir" &&
    # Its own setuptools builds the parts; an isolated build would fetch one too new for 2.7.
    "$dir/bin/pip" install -q 'setuptools==44.0.0' &&
    "$dir/bin/pip" install -q --no-build-isolation -r "$here/requirements.txt"
  } > "$dir.log" 2>&1 || { tail -20 "$dir.log" >&2; die "the suite could not be installed ($dir.log)"; }
  rm -rf "$dir.make" "$dir.log"
  cp "$here/requirements.txt" "$dir/requirements.txt"
}

suite() { # MODE SHARD_DIR [ARGUMENT]...: replaces the (sub)shell
  local mode=$1 shard=$2
  shift 2
  exec timeout "$limit" "$dir/bin/python" -u "$here/wstest.py" -m "$mode" -s "$shard/spec.json" "$@" \
    > "$shard/wstest.log" 2>&1
}

test_client() { # SHARD_DIR PORT COMMAND...
  local shard=$1 port=$2 status=0
  shift 2
  suite fuzzingserver "$shard" --webport 0 &
  # Not local, because the trap outlives the function: the suite must end with its shard.
  pid=$!
  trap 'kill "$pid" 2> /dev/null || true' EXIT
  await_listening "$port" "$pid" || return 1
  AUTOBAHN_URL=ws://127.0.0.1:$port AUTOBAHN_AGENT=$name \
    timeout "$limit" "$@" < /dev/null > "$shard/client.log" 2>&1 || status=$?
  [ "$status" = 0 ] || echo "autobahn: the client exited with $status ($shard/client.log)" >&2
  # This request has the reports written, for a client that did not ask, and ends the suite.
  exec 9<> "/dev/tcp/127.0.0.1/$port"
  printf '%s\r\n' "GET /updateReports?agent=$name&shutdownOnComplete=true HTTP/1.1" \
    "Host: 127.0.0.1:$port" 'Upgrade: websocket' 'Connection: Upgrade' \
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' 'Sec-WebSocket-Version: 13' '' >&9
  wait "$pid"
  trap - EXIT
}

role=${1:-} dir=${2:-}
case $role in install | server | tls-server | client) ;; *) usage ;; esac
[ -n "$dir" ] || usage
if [ "$role" = install ]; then
  install_suite "$dir"
  exit
fi
port=${3:-} out=${4:-}
[ -n "$port" ] && [ -n "$out" ] || usage
shift 4
globs=() accepted=() shards=1 name=corewire limit=1200
while getopts c:x:j:A:a:t: option; do
  case $option in
    c) globs+=("+$OPTARG") ;; x) globs+=("-$OPTARG") ;; j) shards=$OPTARG ;;
    A) accepted+=("$OPTARG") ;; a) name=$OPTARG ;; t) limit=$OPTARG ;; *) usage ;;
  esac
done
shift $((OPTIND - 1))
if [ "$role" = client ]; then
  [ $# -gt 0 ] || usage
else
  [ $# = 0 ] || usage
  listening "$port" || die "nothing listens on 127.0.0.1:$port"
fi
install_suite "$dir"

mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -rf "$out"/shard*
shards=$("$dir/bin/python" "$here/plan.py" "$role" "$port" "$out" "$name" "$shards" \
  ${globs[@]+"${globs[@]}"}) || die "the cases could not be selected"
pids=()
for ((k = 0; k < shards; k++)); do
  if [ "$role" != client ]; then
    suite fuzzingclient "$out/shard$k" &
  else
    (test_client "$out/shard$k" $((port + k)) "$@") &
  fi
  pids+=($!)
done
trap 'kill "${pids[@]}" 2> /dev/null || true' EXIT
for k in "${!pids[@]}"; do
  # What a shard that broke off has not run is missing from its report, so the verdict is below.
  wait "${pids[$k]}" || {
    echo "autobahn: shard $k did not run to its end" >&2
    tail -5 "$out/shard$k/wstest.log" | cut -c1-300 >&2
  }
done
trap - EXIT
python3 "$here/verdicts.py" "$out" ${accepted[@]+"${accepted[@]}"}
