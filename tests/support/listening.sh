# For scripts to source that start a server on 127.0.0.1.

listening() { # PORT
  (: <> "/dev/tcp/127.0.0.1/$1") 2> /dev/null
}

# Fails if the process has ended, or does not listen within ten seconds.
await_listening() { # PORT PID
  for _ in $(seq 200); do
    ! listening "$1" || return 0
    kill -0 "$2" 2> /dev/null || return 1
    sleep 0.05
  done
  return 1
}
