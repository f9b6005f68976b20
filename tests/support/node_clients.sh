# For scripts to source that let Node's clients and servers talk to corewire. They define `die`.

WS=8.23.0
PLAYWRIGHT=1.65.1

install_node() { # DIR: leaves them in DIR/node_modules
  local dir=$1 wanted="ws@$WS playwright-core@$PLAYWRIGHT"
  command -v node > /dev/null || die "node is missing"
  command -v npm > /dev/null || die "npm is missing"
  [ "$(cat "$dir/node_modules/.wanted" 2> /dev/null || true)" != "$wanted" ] || return 0
  # shellcheck disable=SC2086 # two words
  npm install --prefix "$dir" --no-save --no-audit --no-fund --loglevel=error $wanted
  echo "$wanted" > "$dir/node_modules/.wanted"
}
