#!/bin/sh
# Curve against SniTun's TCP over a link of 50 Mbit/s and 60 ms of round trip with loss in both directions, in two network namespaces
# joined by link.c. As root; `bench/curve/lossy.sh [MEGABYTES] [LOSS...]`. RUN is the runtime's command, TCP the
# congestion control of TCP (the system's when absent), KINDS what is measured.
set -eu
cd "$(dirname "$0")/../.."
run=${RUN:-bun}
megabytes=${1:-20}
[ $# -gt 0 ] && shift
work=$(mktemp -d)
gcc -O2 -o "$work/link" bench/curve/link.c
ends="crv-a-$$ crv-b-$$"
a=crv-a-$$
b=crv-b-$$
link= edge=
tidy() {
  [ -z "$edge" ] || kill "$edge" 2>/dev/null || true
  [ -z "$link" ] || kill "$link" 2>/dev/null || true
  for end in $ends; do ip netns del "$end" 2>/dev/null || true; done
  rm -rf "$work"
}
trap tidy EXIT INT TERM
for end in $ends; do
  ip netns add "$end"
  ip -n "$end" link set lo up
  ip -n "$end" tuntap add dev link0 mode tun
done
for loss in ${*:-0 1 3}; do
  # A buffer of one product of rate and round trip.
  "$work/link" "$a" "$b" 50 30 "$loss" 375000 7 &
  link=$!
  sleep 0.3
  ip -n "$a" addr replace 10.9.0.1 peer 10.9.0.2 dev link0
  ip -n "$b" addr replace 10.9.0.2 peer 10.9.0.1 dev link0
  for end in $ends; do
    ip -n "$end" link set link0 up mtu 1500
  done
  # By the route: a namespace's own default may not be CUBIC where the system doesn't allow it to everybody.
  [ -z "${TCP:-}" ] || ip -n "$a" route replace 10.9.0.2 dev link0 src 10.9.0.1 congctl "$TCP"
  [ -z "${TCP:-}" ] || ip -n "$b" route replace 10.9.0.1 dev link0 src 10.9.0.2 congctl "$TCP"
  for kind in ${KINDS:-"snitun" "curve:vegas" "curve:newreno"}; do
    transport=${kind%%:*} control=${kind#*:}
    ip netns exec "$a" $run bench/curve/transfer.ts edge "$transport" 10.9.0.1 4500 "$megabytes" "$control" >"$work/edge" &
    edge=$!
    sleep 1
    printf '%s %% loss, %s: ' "$loss" "$kind"
    timeout 120 ip netns exec "$b" $run bench/curve/transfer.ts agent "$transport" 10.9.0.1 4500 "$megabytes" "$control" || echo late
    sleep 0.3
    cat "$work/edge"
    kill "$edge" 2>/dev/null || true
    wait "$edge" 2>/dev/null || true
    edge=
  done
  kill "$link"
  wait "$link" 2>/dev/null || true
  link=
done
