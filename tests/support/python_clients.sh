# For scripts to source that let Python's clients, servers and proxies talk to corewire. They define
# `die`.

WEBSOCKETS=16.1.1
AIOHTTP=3.14.5
PPROXY=2.7.9

install_python() { # DIR: leaves them in DIR/venv
  local dir=$1 wanted="websockets==$WEBSOCKETS aiohttp==$AIOHTTP pproxy==$PPROXY"
  [ "$(cat "$dir/venv/version" 2> /dev/null || true)" != "$wanted" ] || return 0
  python3 -c 'import ensurepip, venv' 2> /dev/null || die "python3 with its venv module is missing"
  rm -rf "$dir/venv"
  python3 -m venv "$dir/venv"
  # shellcheck disable=SC2086 # three words
  "$dir/venv/bin/pip" install -q --disable-pip-version-check $wanted
  echo "$wanted" > "$dir/venv/version"
}
