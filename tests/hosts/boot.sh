#!/bin/bash
# Boots the system below $1, in the namespaces that it is called in: mounts what a kernel would, then becomes its process 1.
# The folders after it are seen there too.
set -eu
root=$1
shift
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
for place in run tmp dev sys/fs/cgroup; do
    mount -t tmpfs -o mode=755 tmpfs "$root/$place"
done
chmod 1777 "$root/tmp"
mkdir "$root/sys/fs/cgroup/systemd" "$root/dev/pts" "$root/dev/shm" "$root/run/sshd"
mount -t cgroup -o none,name=systemd,xattr cgroup "$root/sys/fs/cgroup/systemd"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
# All hosts share one kernel, whose boot is none of theirs.
cat /proc/sys/kernel/random/uuid > "$root/run/boot_id"
mount --bind "$root/run/boot_id" "$root/proc/sys/kernel/random/boot_id"
for folder in "$@"; do
    mkdir -p "$root$folder"
    mount --bind -o ro "$folder" "$root$folder"
done
hostname "$(cat "$root/etc/hostname")"
ip link set lo up
exec env -i container=kvkit PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" /lib/systemd/systemd --unit=multi-user.target
