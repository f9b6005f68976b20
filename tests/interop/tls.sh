#!/usr/bin/env bash
# What OpenSSL's s_client and curl see of a server over TLS.
#
#   tls.sh PORT CHAIN
#
# CHAIN is the certificate of localhost that the server shows. Exit status: 0 all is well; 1 something
# was not as expected.
set -euo pipefail

port=$1 chain=$2
session=$(mktemp)
trap 'rm -f "$session"' EXIT

# $answer is what s_client prints while it has a line of input for SECONDS; it may end badly.
s_client() { # SECONDS LINE OPTION...
  local seconds=$1 line=$2
  shift 2
  answer=$({ printf '%b' "$line"; sleep "$seconds"; } |
    timeout 20 openssl s_client -connect "127.0.0.1:$port" -servername localhost -CAfile "$chain" \
      "$@" 2>&1 | tr -d '\0') || true
}

expect() { # STEP PATTERN
  grep -aqiE "$2" <<< "$answer" || { printf '%s: no "%s" in\n%s\n' "$1" "$2" "$answer" >&2; exit 1; }
}

fetch() { # PATH OPTION...: status and body
  local path=$1
  shift
  curl -sS --cacert "$chain" "$@" -w '\n%{http_code} %{http_version}' "https://localhost:$port$path"
}

page='GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
for version in 1_2 1_3; do
  options=("-tls$version" -alpn http/1.1)
  name="TLS ${version/_/.}"
  rm -f "$session"
  s_client 0.5 '' "${options[@]}" -verify_return_error -sess_out "$session"
  expect "$name" "^New, TLSv${version/_/.}, "
  expect "$name" 'ALPN protocol: http/1.1'
  expect "$name" 'Verify return code: 0 '
  s_client 0.5 '' "${options[@]}" -sess_in "$session"
  expect "$name, resumed" "^Reused, TLSv${version/_/.}, "
  s_client 0 '' "-tls$version" -alpn h2
  expect "$name, h2 alone" 'alert no application protocol'
  # The server closes behind its answer, and says so first: close_notify is an alert, warning, 0.
  s_client 2 "$page" "${options[@]}" -ign_eof -msg
  expect "$name, plain answer" '^HTTP/1.1 200 '
  expect "$name, close_notify" '<<<.*Alert.*close_notify'
  # Our side is shut behind the request, which is still answered.
  s_client 0 "$page" "${options[@]}" -no_ign_eof -msg -quiet
  expect "$name, half closed" '>>>.*Alert.*close_notify'
  for path in / /healthz; do
    answer=$(fetch "$path" "--tlsv${version/_/.}" --tls-max "${version/_/.}")
    expect "$name, curl $path" '^200 1.1$'
  done
  echo "  $name: ok"
done

answer=$(printf 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n' |
  timeout 5 bash -c "exec 3<> /dev/tcp/127.0.0.1/$port; cat >&3; cat <&3" | od -An -tx1 | head -1)
expect 'plain HTTP' '^ 15 03 0. 00 02 02 '
echo '  plain HTTP is answered by an alert: ok'
