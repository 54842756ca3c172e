#!/bin/bash
# Runs inside the container that check.ts boots: `service install` under OpenRC.
set -u
fail() {
  echo "not so: $1"
  rc-status --all
  tail -n 30 /var/log/sallyport-*.log
  exit 1
}
. /checks.sh
# Debian's own scripts are for machines, not containers.
rm -f /etc/init.d/hwclock.sh /etc/init.d/procps /etc/runlevels/*/*
mkdir -p /run/openrc
for level in sysinit boot default; do openrc "$level"; done
health="curl -sf --max-time 30 http://127.0.0.1:8080/healthz"
program() { pgrep -u sallyport -f "^/usr/local/bin/sallyport $1"; }

sallyport service install serve -- --listen 127.0.0.1:8443 || fail "serve is installed"
rc-service sallyport-serve status || fail "serve runs"
soon 60 "$health" || fail "serve answers"
pid=$(program serve) || fail "serve runs as its own user"
grep -q "^NoNewPrivs:.*1$" "/proc/$pid/status" || fail "serve can't gain privileges"
grep -q "^CapEff:.*0000000000000[04]00$" "/proc/$pid/status" || fail "serve may at most bind low ports"
grep -q "^Max core file size *0 " "/proc/$pid/limits" || fail "serve leaves no core file"
rc-update show default | grep -q sallyport-serve || fail "serve starts at boot"
ok "serve starts as its own user, without privileges, and is in the default runlevel"

link=$(join_link)
mkdir -p /etc/sallyport
printf "SALLYPORT_JOIN='%s'\nSALLYPORT_TO=http://127.0.0.1:8080\n" "$link" > /etc/sallyport/agent.env
sallyport service install agent || fail "the agent is installed"
soon 60 "curl -skf --max-time 30 https://demo.localhost:8443/healthz" || fail "a page comes through edge and agent"
ok "the agent, with its settings in /etc/sallyport/agent.env, serves a page through the tunnel"

rc-service sallyport-serve reload || fail "serve reloads"
soon 30 "grep 'keys reloaded' /var/log/sallyport-serve.log" || fail "a reload reads the keys"
ok "rc-service reload"

kill -KILL "$pid"
soon 60 "[ \"\$(program serve)\" != $pid ] && $health" || fail "a crash restarts it"
ok "a killed serve is started again"

for command in agent serve; do
  sallyport service uninstall "$command" || fail "$command is uninstalled"
  ! program "$command" || fail "$command has stopped"
  [ ! -e "/etc/init.d/sallyport-$command" ] || fail "no script of $command stays"
done
grep -q "^Stopping;" /var/log/sallyport-serve.log || fail "serve stops in order"
ok "agent and serve stop in order and are removed"
