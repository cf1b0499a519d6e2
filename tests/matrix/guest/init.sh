#!/bin/sh
# Process 1 in the initramfs: builds the guest's root, then hands over to job.sh in it.
# A failing line ends this shell, the kernel panics, qemu exits, and the host shows the console.
set -eu
/bin/busybox --install -s /bin
. /job/settings.sh

mkdir -p /proc /sys /dev /lower /writable /bare /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do
    insmod "$module"
done

# The host's files, read-only, under a layer that takes the writes and dies with the guest.
p9=trans=virtio,version=9p2000.L,msize=512000
mount -t 9p -o "$p9,cache=loose,ro" root /lower
mount -t tmpfs -o mode=755 tmpfs /writable
mkdir /writable/upper /writable/work
mount -t overlay -o lowerdir=/lower,upperdir=/writable/upper,workdir=/writable/work overlay /bare
mount --bind /bare /root

for place in proc sys dev; do
    mkdir -p "/root/$place"
    mount --move "/$place" "/root/$place"
done
for place in tmp run dev/shm; do
    mkdir -p "/root/$place"
    mount -t tmpfs -o mode=1777 tmpfs "/root/$place"
done
chmod 755 /root/run
mkdir -p /root/run/lock /root/dev/pts
mount -t devpts -o mode=620,gid=5,ptmxmode=666 devpts /root/dev/pts
ln -sf pts/ptmx /root/dev/ptmx
ln -sf /proc/self/fd /root/dev/fd
ln -sf fd/0 /root/dev/stdin
ln -sf fd/1 /root/dev/stdout
ln -sf fd/2 /root/dev/stderr

# A checkout or an interpreter below /tmp or /run would now be hidden by the tmpfs.
for path in "$directory" "$prefix"; do
    if [ ! -e "/root$path" ]; then
        mkdir -p "/root$path"
        mount --bind "/bare$path" "/root$path"
    fi
done
mkdir -p "/root/lib/modules/$(uname -r)"
mount --bind "/lower$modules" "/root/lib/modules/$(uname -r)"
if [ -n "$results" ]; then
    mkdir -p "/root$results"
    mount -t 9p -o "$p9,cache=mmap" results "/root$results"
fi

# What a kernel lacks is the tests' business, so these may fail.
mount -t tracefs tracefs /root/sys/kernel/tracing || :
mount -t debugfs debugfs /root/sys/kernel/debug || :
mount -t bpf bpf /root/sys/fs/bpf || :
mount -t securityfs securityfs /root/sys/kernel/security || :

enable_controllers() {
    for name in $(cat "$1/cgroup.controllers"); do
        echo "+$name" > "$1/cgroup.subtree_control" || :
    done
}

groups=/root/sys/fs/cgroup
if [ "$cgroup" = v2 ]; then
    mount -t cgroup2 -o nsdelegate cgroup2 $groups
    enable_controllers $groups
else
    mount -t tmpfs -o mode=755 tmpfs $groups
    enabled=$(awk '$4 == 1 { print $1 }' /root/proc/cgroups)
    for name in $enabled; do
        case $name in
        cpu) name=cpu,cpuacct ;;
        net_cls) name=net_cls,net_prio ;;
        cpuacct | net_prio) continue ;;
        esac
        mkdir "$groups/$name"
        mount -t cgroup -o "$name" cgroup "$groups/$name" || rmdir "$groups/$name"
        case $name in
        *,*) ln -s "$name" "$groups/${name%,*}" && ln -s "$name" "$groups/${name#*,}" ;;
        esac
    done
    mkdir $groups/systemd
    mount -t cgroup -o none,name=systemd cgroup $groups/systemd
    if [ "$cgroup" = hybrid ]; then
        mkdir $groups/unified
        mount -t cgroup2 -o nsdelegate cgroup2 $groups/unified
        enable_controllers $groups/unified
    fi
fi

ip link set lo up
hostname "$host"
mkdir /root/run/matrix
cp /job/job.sh /root/run/matrix/job.sh
exec switch_root /root /bin/sh /run/matrix/job.sh
