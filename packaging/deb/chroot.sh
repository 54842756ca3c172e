#!/bin/sh
# Runs test.sh in a Debian of its own, which packaging/container/check.ts has made: as root,
#   packaging/deb/chroot.sh OLDER.deb NEWER.deb
set -eu
cd "$(dirname "$0")/../.."
base=.cache/debian-bookworm
[ -e $base/etc/debian_version ] || { echo "make it first: deno task check:container" >&2; exit 1; }
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cp -a $base/. "$root"
cp "$1" "$root/older.deb"
cp "$2" "$root/newer.deb"
cp packaging/deb/test.sh "$root/test.sh"
# The mounts go with the namespace.
unshare --mount --pid --fork sh -c '
  mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" sh /test.sh /older.deb /newer.deb
' "$root"
