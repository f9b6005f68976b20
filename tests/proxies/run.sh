#!/usr/bin/env bash
# Lets other people's clients talk to corewire through nginx and HAProxy, with the configurations
# of docs/deployment.md, and lets attackers try to get requests past them.
#
#   tests/proxies/run.sh DIR OUTDIR [SCENARIO]...
#
# DIR keeps the clients' packages, which are installed on the first run; OUTDIR takes configurations
# and logs. Without a further word all scenarios are run; `list` names them. $COREWIRE is the program
# to test, else the release build. Needs python3 with its venv module, curl, openssl, strace, nginx with
# its stream module, haproxy and systemd-analyze. Exit status: 0 all is well; 1 something else came out
# than was to be expected; 2 something is missing.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
die() { echo "proxies: $*" >&2; exit 2; }
# shellcheck source=tests/support/python_clients.sh
. "$root/tests/support/python_clients.sh"
[ $# -ge 2 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1" "$2"
dir=$(cd "$1" && pwd) out=$(cd "$2" && pwd)
shift 2

# Debian keeps daemons where not every PATH leads.
PATH=$PATH:/usr/sbin:/sbin
for tool in curl openssl nginx haproxy strace systemd-analyze; do
  command -v "$tool" > /dev/null || die "$tool is missing"
done
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || die "libnginx-mod-stream is missing"
install_python "$dir"

if [ -z "${COREWIRE:-}" ]; then
  (cd "$root" && cargo build -q --release -p corewire-cli) || die "corewire did not build"
  COREWIRE=${CARGO_TARGET_DIR:-$root/target}/release/corewire
fi
export COREWIRE
exec "$dir/venv/bin/python" -B "$here/scenarios.py" "$out" "$@"
