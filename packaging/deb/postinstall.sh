#!/bin/sh
# The user's files outlive a package, so the user is a real one, and the units take it in place of a dynamic one.
set -e
if ! getent passwd sallyport >/dev/null; then
  useradd --system --user-group --no-create-home --home-dir /var/lib/sallyport --shell /usr/sbin/nologin sallyport
fi
install -d -m 0700 -o sallyport -g sallyport /var/lib/sallyport
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # On an upgrade what runs is started anew; nothing is started that wasn't running.
  systemctl try-restart 'sallyport-*.service' || true
fi
