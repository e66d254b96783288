#!/bin/sh
# PID 1 of the guest. Loads the drivers, mounts what has a file system and starts the agent.
export PATH=/sbin:/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo 1 >/proc/sys/kernel/printk

# In this order: no modprobe, so nobody looks up what needs what.
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk \
  virtio_console evdev button; do
  insmod /lib/modules/$module.ko
done

# Disks that are here, and from now on those that come and go.
for disk in /sys/block/vd*; do
  [ -e "$disk" ] && ACTION=add SUBSYSTEM=block DEVNAME=${disk##*/} /sbin/on-uevent
done
uevent /sbin/on-uevent &

# The agent looks for its port by a name that udev would have made.
mkdir -p /dev/virtio-ports
for port in /sys/class/virtio-ports/*; do
  ln -sf "../${port##*/}" "/dev/virtio-ports/$(cat "$port/name")"
done
qemu-ga -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 -t /var/run -l /var/log/qga.log -d

acpid -f >/dev/null 2>&1 &
echo "GUEST-READY $(cut -d' ' -f1 /proc/uptime)" >/dev/console
while :; do wait; sleep 1; done
