"""VMs with a root disk: the guest of `kvm_lab`, whose root is a disk and not memory.

    kernel, initramfs + boot script ──> /dev/vda mounted ── empty? installs itself there
                                                 └──> switch_root: everything that runs is from the disk

What a guest changes below / is on the disk then, and comes back with it.
"""

from __future__ import annotations

from pathlib import Path

from kvm_lab.domain_xml import domain_xml
from kvm_lab.guest_image import GuestImage, guest_image
from kvm_lab.guests import Guest
from kvm_lab.host import Host

_MEMORY = 128  # MiB
_BOOT = """\
#!/bin/sh
export PATH=/sbin:/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
  insmod /lib/modules/$module.ko
done
mkdir /root-disk
mount -t ext4 /dev/vda /root-disk || exec sh
if [ ! -e /root-disk/init ]; then
  mkdir /root-disk/proc /root-disk/sys /root-disk/dev
  for name in *; do
    case $name in proc|sys|dev|init|boot-disk|root-disk) ;; *) cp -a $name /root-disk ;; esac
  done
  # The root is mounted already.
  sed -i '2i grep -q "^/dev/$DEVNAME / " /proc/mounts && exit 0' /root-disk/sbin/on-uevent
  cp -a init /root-disk  # the last: it says that the rest is there
fi
# In memory as everywhere: the agent writes there that it is frozen, and a snapshot would keep that.
mount -t tmpfs run /root-disk/var/run
umount /proc /dev
exec switch_root /root-disk /init
"""


def define(host: Host, directory: Path, name: str) -> Guest:
    """Define a VM that boots from its first disk; it has none yet, and is off."""
    guest = Guest(host, name, directory / f"{name}.console")
    xml = domain_xml(name, [], image=_image(directory), memory_mib=_MEMORY, console=guest.console)
    host.connection.defineXML(xml.replace("console=ttyS0", "console=ttyS0 rdinit=/boot-disk", 1))
    return guest


def _image(directory: Path) -> GuestImage:
    """Return the lab's guest with the boot script: the kernel unpacks archives one after another."""
    plain, with_script = guest_image(), directory / "initramfs.cpio"
    if not with_script.exists():
        with_script.write_bytes(plain.initramfs.read_bytes() + _archive("boot-disk", _BOOT.encode()))
    return GuestImage(plain.kernel, with_script)


def _archive(name: str, data: bytes) -> bytes:
    """Return a cpio archive ("newc") of one program."""
    program = 0o100755
    return _member(name, program, data) + _member("TRAILER!!!", 0, b"")


def _member(name: str, mode: int, data: bytes) -> bytes:
    fields = (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return _padded(header) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
