#!/bin/sh
# All four pairings of the runtimes, over SniTun's TCP and over QUIC: pairings.sh [MEGABYTES]. Needs deno and bun on PATH.
set -eu
cd "$(dirname "$0")"
megabytes=${1:-100}
port=45100
program() { if [ "$1" = deno ]; then shift; timeout 60 deno run -A --no-check transfer.ts "$@"; else shift; timeout 60 bun transfer.ts "$@"; fi }
for transport in snitun quic; do
  for edge in deno bun; do
    for agent in deno bun; do
      port=$((port + 1))
      out=$(mktemp)
      program "$edge" edge "$transport" "$port" "$megabytes" >"$out" 2>/dev/null &
      while [ ! -s "$out" ]; do sleep 0.1; done
      echo "$transport: edge $edge, agent $agent"
      program "$agent" agent "$transport" "$port" "$megabytes" "$(head -n 1 "$out")" 2>/dev/null || echo failed
      wait || true
      tail -n +2 "$out"
      rm -f "$out"
    done
  done
done
