#!/usr/bin/env bash
# Makes a virtual machine of Debian's packages: build-machine.sh DIRECTORY. Leaves there
#   kernel   of linux-image-ARCH, the oldest kernel we serve on Debian 12
#   initrd   busybox, and the modules that lead to the disk
#   disk     a minimal Debian under systemd
# Needs root, mmdebstrap, cpio and mke2fs. What is there already is kept: remove the directory to make it anew.
set -euo pipefail

directory=$1
suite=bookworm
architecture=$(dpkg --print-architecture)
packages=(systemd systemd-sysv udev dbus kmod busybox-static procps iproute2 ethtool nftables libbpf1 libstdc++6
	init-system-helpers libnl-3-200 libnl-genl-3-200 libpopt0)
# Modules by folder: the disk and its file system, links, filters, packet sockets, IPVS to come from.
modules=(drivers/virtio drivers/block/virtio_blk.ko drivers/net/veth.ko drivers/net/dummy.ko drivers/net/bonding drivers/net/macvlan.ko fs/ext4 fs/jbd2 fs/mbcache.ko
	lib crypto arch/x86/crypto net/netfilter net/ipv4 net/ipv6 net/core net/sched net/packet net/xdp net/802 net/8021q net/llc net/bridge net/tls)

mkdir -p "$directory"
cd "$directory"
[ -e disk ] && [ -e initrd ] && [ -e kernel ] && exit 0

# The machine's own source of packages.
mirror=$(apt-get indextargets --format '$(REPO_URI)|$(CODENAME)' | awk -F'|' -v suite=$suite '$2 == suite { print $1; exit }')

if [ ! -e root/etc/fstab ]; then
	rm -rf root
	list=$(IFS=,; echo "${packages[*]}")
	mmdebstrap --quiet --variant=minbase --include="$list" $suite root ${mirror:+"$mirror"}
	echo '/dev/vda / ext4 defaults 0 1' >root/etc/fstab
fi

image=$(apt-cache depends "linux-image-$architecture" | awk '/Depends: linux-image-/ { print $2; exit }')
release=${image#linux-image-}
if [ ! -e "unpacked/boot/vmlinuz-$release" ]; then
	rm -rf unpacked
	apt-get download -q "$image" >/dev/null
	dpkg -x "$image"_*.deb unpacked
	rm -f "$image"_*.deb
fi
cp "unpacked/boot/vmlinuz-$release" kernel

rm -rf root/lib/modules
mkdir -p "root/lib/modules/$release"
cp "unpacked/lib/modules/$release"/modules.{builtin,builtin.modinfo,order} "root/lib/modules/$release/"
# What one kernel has as a module, another has built in: a path that is not there is no fault.
(cd "unpacked/lib/modules/$release" && { find "${modules[@]/#/kernel/}" -name '*.ko' 2>/dev/null || true; } |
	cpio --quiet -pdm "$OLDPWD/root/lib/modules/$release")
chroot root depmod "$release"

# A machine that nobody logs in to: it runs what the second disk holds, says how it went, and powers off.
echo director >root/etc/hostname
rm -f root/etc/resolv.conf
cat >root/etc/systemd/system/acceptance.service <<'UNIT'
[Unit]
Description=what the second disk holds
After=multi-user.target dbus.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'mkdir -p /job && mount -o ro /dev/vdb /job && exec sh /job/run'
ExecStopPost=/bin/systemctl --no-block poweroff
TimeoutStartSec=infinity
StandardOutput=journal+console
[Install]
WantedBy=default.target
UNIT
chroot root systemctl --quiet enable acceptance.service
chroot root systemctl --quiet mask serial-getty@ttyS0.service serial-getty@ttyS1.service getty@tty1.service \
	systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer
rm -f disk
mke2fs -q -t ext4 -O ^has_journal -d root disk "$(($(du -sm root | cut -f1) + 700))M"

rm -rf boot
mkdir -p boot/{bin,proc,dev,root,modules}
cp root/bin/busybox boot/bin/
loads=
for wanted in virtio_pci virtio_blk ext4; do
	for path in $(chroot root modprobe --set-version "$release" --show-depends "$wanted" | awk '$1 == "insmod" { print $2 }'); do
		name=${path##*/}
		[ -e "boot/modules/$name" ] && continue
		cp "root$path" "boot/modules/$name"
		loads="$loads $name"
	done
done
cat >boot/init <<INIT
#!/bin/busybox sh
b=/bin/busybox
\$b mount -t devtmpfs dev /dev
\$b mount -t proc proc /proc
for module in $loads; do \$b insmod /modules/\$module; done
until [ -b /dev/vda ]; do \$b sleep 0.1; done
\$b mount -t ext4 /dev/vda /root
\$b umount /proc
\$b mount --move /dev /root/dev
exec \$b switch_root /root /sbin/init
INIT
chmod 755 boot/init
(cd boot && find . | cpio --quiet -o -H newc | gzip -1) >initrd
rm -rf boot
