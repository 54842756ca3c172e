#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  for command in serve edge master agent; do
    systemctl disable --now "sallyport-$command.service" || true
  done
fi
