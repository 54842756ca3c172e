#!/bin/bash
# Runs inside the container that check.ts boots: the Debian package and `service install` under systemd.
set -u
export HOME=/root
fail() {
  echo "not so: $1"
  systemctl --no-pager status 'sallyport*'
  journalctl --no-pager -u 'sallyport*' -n 60
  exit 1
}
. /checks.sh
of() { systemctl show --property="$2" --value "sallyport-$1"; }
healthy() { curl -sf --max-time 30 http://127.0.0.1:8080/healthz > /dev/null; }

dpkg -i /older.deb || fail "the package installs"
systemctl start sallyport-serve || fail "serve starts"
healthy || fail "systemctl start returns when the ports are open"
pid=$(of serve MainPID)
grep -q "^Seccomp:.*2$" "/proc/$pid/status" || fail "serve has a filter of system calls"
grep -q "^NoNewPrivs:.*1$" "/proc/$pid/status" || fail "serve can't gain privileges"
grep -q "^CapEff:.*0000000000000400$" "/proc/$pid/status" || fail "serve may only bind low ports"
[ "$(ps -o user= -p "$pid")" = sallyport ] || fail "serve runs as its own user"
ok "package: serve starts, reports that it is ready when its ports are open, and runs as $(ps -o user= -p "$pid")"

link=$(join_link)
printf 'SALLYPORT_JOIN=%s\nSALLYPORT_TO=http://127.0.0.1:8080\n' "$link" > /etc/sallyport/agent.env
systemctl start sallyport-agent || fail "the agent starts"
page="curl -skf --max-time 30 https://demo.localhost:8443/healthz"
soon 60 "$page" || fail "a page comes through edge and agent"
ok "package: the agent, with its settings in /etc/sallyport/agent.env, serves a page through the tunnel"

systemctl reload sallyport-serve || fail "serve reloads"
soon 30 "journalctl -u sallyport-serve | grep 'keys reloaded'" || fail "a reload reads the keys"
[ "$(of serve MainPID)" = "$pid" ] || fail "a reload keeps the process"
ok "package: systemctl reload"

kill -KILL "$pid"
soon 60 '[ "$(of serve NRestarts)" = 1 ] && [ "$(of serve ActiveState)" = active ]' || fail "a crash restarts it"
soon 60 "$page" || fail "the agent is back after a crash"
ok "package: a killed serve is started again, and the agent comes back to it"

mkdir -p /etc/systemd/system/sallyport-serve.service.d
printf '[Service]\nWatchdogSec=10\n' > /etc/systemd/system/sallyport-serve.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart sallyport-serve || fail "serve restarts"
sleep 25
[ "$(of serve NRestarts)" = 0 ] || fail "the watchdog leaves a working program alone"
kill -STOP "$(of serve MainPID)"
soon 60 '[ "$(of serve NRestarts)" = 1 ] && [ "$(of serve ActiveState)" = active ]' || fail "a hang restarts it"
ok "package: the watchdog leaves a working program alone for 25 s, and restarts one that hangs"

before=$(of serve MainPID)
old=$(/usr/bin/sallyport --version)
dpkg -i /newer.deb || fail "the package upgrades"
new=$(/usr/bin/sallyport --version)
[ "$new" != "$old" ] || fail "an upgrade brings another version than $old"
soon 60 '[ "$(of serve ActiveState)" = active ]' || fail "serve runs after an upgrade"
[ "$(of serve MainPID)" != "$before" ] || fail "an upgrade restarts what runs"
[ "$(of edge ActiveState)" = inactive ] || fail "an upgrade starts nothing that didn't run"
healthy || fail "serve answers after an upgrade"
soon 60 "$page" || fail "the agent is back after an upgrade"
ok "package: an upgrade from $old to $new restarts what runs, and only that; the agent comes back with its key"

systemctl stop sallyport-agent sallyport-serve || fail "they stop"
[ "$(of serve Result) $(of agent Result)" = "success success" ] || fail "they stop in order"
for command in edge master; do
  systemctl start "sallyport-$command" || fail "$command starts"
  systemctl stop "sallyport-$command" || fail "$command stops"
  [ "$(of $command Result)" = success ] || fail "$command stops in order"
done
ok "package: serve, agent, edge and master stop in order"
dpkg --purge sallyport || fail "the package is purged"
rm -r /etc/systemd/system/sallyport-serve.service.d
systemctl daemon-reload
[ "$(of serve LoadState)" = not-found ] || fail "no unit stays"
ok "package: purged, no unit stays"

# The units that the program writes itself, with a user made by systemd for each start.
for program in sallyport "bun /opt/sallyport/mod.ts" "deno run -A /opt/sallyport/mod.ts"; do
  case $program in deno*) export DENO_DIR=/var/cache/private/sallyport ;; esac
  name=${program%% *}
  $program service install serve -- --listen 127.0.0.1:8443 || fail "$name installs the service"
  healthy || fail "$name serves"
  pid=$(of serve MainPID)
  grep -q "^Seccomp:.*2$" "/proc/$pid/status" || fail "$name has a filter of system calls"
  $program service uninstall serve || fail "$name uninstalls the service"
  [ "$(of serve LoadState)" = not-found ] || fail "no unit of $name stays"
  ok "service install with $name: ready when its ports are open, as user $(stat -c %u /var/lib/private/sallyport), and removed"
done

for program in sallyport "bun /opt/sallyport/mod.ts" "deno run -A /opt/sallyport/mod.ts"; do
  name=${program%% *}
  $program service install serve --socket-activation -- --listen 127.0.0.1:443 || fail "$name installs the sockets"
  healthy || fail "$name serves on systemd's sockets"
  grep -q "^CapEff:.*0000000000000000$" "/proc/$(of serve MainPID)/status" || fail "$name has no capability"
  : > /answers
  (while [ ! -e /enough ]; do
    curl -s --max-time 60 -o /dev/null -w '%{http_code}\n' http://127.0.0.1:8080/healthz >> /answers
  done) &
  asking=$!
  soon 30 '[ "$(wc -l < /answers)" -gt 10 ]' || fail "visitors come"
  systemctl restart sallyport-serve.service || fail "$name restarts"
  count=$(wc -l < /answers)
  soon 30 '[ "$(wc -l < /answers)" -gt $((count + 10)) ]' || fail "visitors come after the restart"
  touch /enough
  wait "$asking"
  rm /enough
  grep -qv '^200$' /answers && fail "every request is answered: $(sort /answers | uniq -c)"
  systemctl stop sallyport-serve.service 2> /dev/null
  healthy || fail "a visitor starts $name"
  $program service uninstall serve || fail "$name uninstalls the sockets"
  [ -z "$(ss -Hltn)" ] || fail "no port stays open: $(ss -Hltn)"
  ok "socket activation with $name: port 443 without a capability, all $(wc -l < /answers) requests answered across a restart, started by a visitor"
done
