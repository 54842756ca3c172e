#!/bin/sh
# Installs, upgrades, removes and purges the package on this machine, as root on Debian:
#   packaging/deb/test.sh OLDER.deb [NEWER.deb]
set -eu
older=$1
newer=${2:-$1}
expect() { if ! eval "$1"; then echo "packaging/deb/test.sh: not so: $1" >&2; exit 1; fi; }
version() { dpkg-deb --field "$1" Version; }
# What the package depends on is there already, in a minimal Debian too.
dpkg -i "$older"
expect '[ "$(sallyport --version)" = "sallyport $(version "$older")" ]'
expect 'getent passwd sallyport | grep -q /usr/sbin/nologin'
expect 'dpkg-deb --contents "$older" | grep -q /usr/share/doc/sallyport/THIRD_PARTY_NOTICES.txt'
expect '[ "$(stat -c "%U %a" /var/lib/sallyport)" = "sallyport 700" ]'
for command in serve edge master agent; do
  expect "grep -q '^ExecStart=/usr/bin/sallyport $command' /usr/lib/systemd/system/sallyport-$command.service"
done
if command -v systemd-analyze > /dev/null; then
  expect 'systemd-analyze verify /usr/lib/systemd/system/sallyport-*.service'
fi
echo "SALLYPORT_LOG_LEVEL=warn" > /etc/sallyport/agent.env
touch /var/lib/sallyport/kept
dpkg -i "$newer"
expect '[ "$(sallyport --version)" = "sallyport $(version "$newer")" ]'
expect 'grep -q "LEVEL=warn" /etc/sallyport/agent.env'
# The service's own user starts it.
expect 'setpriv --reuid sallyport --regid sallyport --clear-groups --no-new-privs /usr/bin/sallyport keygen | grep -q "^[A-Za-z0-9_-]\{43\}=$"'
dpkg -r sallyport
expect '! [ -e /usr/bin/sallyport ]'
expect '[ -e /var/lib/sallyport/kept ] && [ -e /etc/sallyport/agent.env ]'
dpkg --purge sallyport
expect '! [ -e /var/lib/sallyport ] && ! [ -e /etc/sallyport ]'
expect '! getent passwd sallyport'
echo "installed $(version "$older"), upgraded to $(version "$newer"), removed and purged"
