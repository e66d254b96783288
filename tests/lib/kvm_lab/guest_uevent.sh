#!/bin/sh
# A disk with a file system is mounted at /mnt/SERIAL, or at /mnt/DEVICE if it has no serial.
# With the serial, the path stays the same when devices change their names (after a restart, say).
[ "$SUBSYSTEM" = block ] || exit 0
case $DEVNAME in vd*) ;; *) exit 0 ;; esac

if [ "$ACTION" = remove ]; then
  umount -l "/dev/$DEVNAME" 2>/dev/null
elif [ "$ACTION" = add ]; then
  read -r serial 2>/dev/null <"/sys/block/$DEVNAME/serial"
  place=/mnt/${serial:-$DEVNAME}
  mkdir -p "$place"
  if [ "$(head -c 4 "/dev/$DEVNAME")" = XFSB ]; then
    # Loaded when it is needed: under TCG this takes a second.
    insmod /lib/modules/libcrc32c.ko
    insmod /lib/modules/xfs.ko
    # nouuid: XFS refuses a second file system of the same id, which a restored snapshot is.
    mount -t xfs -o nouuid "/dev/$DEVNAME" "$place"
  else
    mount -t ext4 "/dev/$DEVNAME" "$place" || rmdir "$place"
  fi 2>/dev/null
fi
