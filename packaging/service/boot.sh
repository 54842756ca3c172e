#!/bin/sh
# Becomes the first process of a system, in the namespaces that check.ts makes:
#   boot.sh ROOT systemd|openrc
set -eu
root=$1
manager=$2
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs dev
for name in null zero full random urandom tty; do
  touch "dev/$name"
  mount --bind "/dev/$name" "dev/$name"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs tmpfs tmp
ip link set lo up
mkdir -p old
pivot_root . old
umount -l /old
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ "$manager" = systemd ]; then
  exec env -i container=other PATH="$PATH" /lib/systemd/systemd --system --unit=check.service
fi
exec env -i PATH="$PATH" HOME=/root bash /check.sh 2>&1
