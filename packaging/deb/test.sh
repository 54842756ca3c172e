#!/bin/sh
# Installs, upgrades, removes and purges the package on this machine, as root on Debian: packaging/deb/test.sh FILE.deb
set -eu
deb=$1
expect() { if ! eval "$1"; then echo "packaging/deb/test.sh: not so: $1" >&2; exit 1; fi; }
dpkg -i "$deb"
expect 'sallyport --version | grep -q "^sallyport "'
expect 'getent passwd sallyport | grep -q /usr/sbin/nologin'
expect '[ "$(stat -c "%U %a" /var/lib/sallyport)" = "sallyport 700" ]'
expect 'systemd-analyze verify /usr/lib/systemd/system/sallyport-*.service'
echo "SALLYPORT_LOG_LEVEL=warn" > /etc/sallyport/agent.env
touch /var/lib/sallyport/kept
dpkg -i "$deb"
expect 'grep -q "LEVEL=warn" /etc/sallyport/agent.env'
dpkg -r sallyport
expect '! [ -e /usr/bin/sallyport ]'
expect '[ -e /var/lib/sallyport/kept ] && [ -e /etc/sallyport/agent.env ]'
dpkg --purge sallyport
expect '! [ -e /var/lib/sallyport ] && ! [ -e /etc/sallyport ]'
expect '! getent passwd sallyport'
echo "installed, upgraded, removed and purged"
