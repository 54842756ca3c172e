#!/bin/sh
# Keys and settings stay on removal, and go with a purge.
set -e
if [ "$1" = purge ]; then
  rm -rf /var/lib/sallyport /etc/sallyport
  if getent passwd sallyport >/dev/null; then userdel sallyport || true; fi
fi
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
