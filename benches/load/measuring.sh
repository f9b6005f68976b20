# For scripts to source that measure a server: those in this folder, and no others.

# Ends $server, if there is one.
stop_server() {
  [ -z "$server" ] || kill "$server" 2> /dev/null || true
  [ -z "$server" ] || wait "$server" 2> /dev/null || true
  server=''
}

# The lower quartile, the median and the upper quartile of a column of numbers.
quantiles() { # DECIMALS FILE
  sort -n "$2" | awk -v format="%.$1f %.$1f %.$1f\n" '
    { value[NR] = $1 }
    function quantile(q,  at, below) {
      at = 1 + (NR - 1) * q; below = int(at)
      return value[below] + (at - below) * (value[below < NR ? below + 1 : NR] - value[below])
    }
    END { printf format, quantile(0.25), quantile(0.5), quantile(0.75) }'
}
