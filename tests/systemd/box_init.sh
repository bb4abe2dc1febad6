#!/bin/bash
# The first process of the box: makes a root of its own over this machine's root, moves in and becomes systemd.
# Runs inside fresh namespaces, see box.py. Arguments: the box's folder, v1 or v2.
# In the folder: "cgroups" (mount point and group, a line each), "binds" (folders to show read-only at their own path).
set -euo pipefail
box=$1 cgroup=$2

top=$box/m
mkdir -p "$top"
mount -t tmpfs -o size=8g,mode=755 box "$top"
mkdir "$top/upper" "$top/work" "$top/root"
mount -t overlay -o lowerdir=/,upperdir="$top/upper",workdir="$top/work" overlay "$top/root"
root=$top/root

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
for path in sys sysrq-trigger; do
  [ -e "$root/proc/$path" ] || continue
  mount --bind "$root/proc/$path" "$root/proc/$path"
  mount -o remount,bind,ro "$root/proc/$path"
done
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"

mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
while read -r name major minor; do mknod -m 666 "$root/dev/$name" c "$major" "$minor"; done <<'DEVICES'
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
DEVICES
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0 1 2; do
  names=(stdin stdout stderr)
  ln -s "/proc/self/fd/$number" "$root/dev/${names[number]}"
done
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
mount -t mqueue mqueue "$root/dev/mqueue"
touch "$root/dev/console"
mount --bind "$box/console" "$root/dev/console"

mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"

if [ "$cgroup" = v1 ]; then
  mount -t tmpfs -o mode=755,nosuid,nodev,noexec tmpfs "$root/sys/fs/cgroup"
  while read -r mount_point _; do
    name=$(basename "$mount_point")
    mkdir "$root/sys/fs/cgroup/$name"
    if [ "$(stat -f -c %T "$mount_point")" = cgroup2fs ]; then
      mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup/$name"
    else
      options=$name
      [ "$name" = systemd ] && options=none,name=systemd
      mount -t cgroup -o "nosuid,nodev,noexec,$options" cgroup "$root/sys/fs/cgroup/$name"
    fi
  done < "$box/cgroups"
else
  mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
fi

# None of this machine's own services: only systemd's core, the bus and the journal.
rm -rf "$root/etc/systemd/system" "$root/etc/steadyocr" "$root/var/lib/steadyocr" "$root/var/lib/private/steadyocr"
mkdir -p "$root/etc/systemd/system"
units=(systemd-{resolved,networkd,timesyncd,udevd,udev-trigger,logind,firstboot,machine-id-commit}.service
  dbus-org.freedesktop.timesync1.service {getty@,serial-getty@,console-getty,e2scrub_reap}.service
  {apt-daily,apt-daily-upgrade,fstrim,e2scrub_all,dpkg-db-backup}.timer)
for unit in "${units[@]}"; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
: > "$root/etc/fstab"
rm -f "$root/etc/machine-id"
tr -d - < /proc/sys/kernel/random/uuid > "$root/etc/machine-id"
echo box > "$root/etc/hostname"

while read -r source; do
  mkdir -p "$root$source"
  mount --rbind "$source" "$root$source"
  mount -o remount,bind,ro "$root$source"
done < "$box/binds"

cd "$root"
mkdir -p .old
pivot_root . .old
# Capabilities that reach past the namespaces stay behind.
exec chroot . /bin/bash -c '
  umount -l /.old
  # As a container manager would: systemd puts credentials into a service by way of mounts that it shares.
  mount --make-rshared /
  exec setpriv --inh-caps=-all --bounding-set=-sys_module,-sys_rawio,-sys_time,-sys_boot,-mac_admin,-mac_override,-syslog,-wake_alarm,-block_suspend,-audit_control,-audit_read \
    env -i container=box PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    /lib/systemd/systemd --system --show-status=true --log-level=info --log-target=journal-or-kmsg'
