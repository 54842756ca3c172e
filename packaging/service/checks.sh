# What the checks of all service managers share; copied beside them into the container.
ok() { echo "ok: $1"; }
soon() { # soon SECONDS COMMAND: until it succeeds
  local tries=$(($1 * 5))
  shift
  until eval "$@" > /dev/null 2>&1; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || return 1
    sleep 0.2
  done
}
join_link() { # adds the agent "demo" to the session master and prints its join link
  sallyport agents add demo --hostname demo.localhost --master http://127.0.0.1:8080 \
    --credential-file /var/lib/sallyport/admin.key | grep -o "'http[^']*'" | tr -d "'"
}
