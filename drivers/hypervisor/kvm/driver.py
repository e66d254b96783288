"""The KVM driver, put together: each part stands on the one before.

KvmHosts               base.py            hosts, where a VM is      connection.py machine.py events.py
KvmObjects             objects.py         introduce, forget         register.py verify.py iscsi.py chap.py
KvmDisks               disks.py           attach, detach, grow      domain_xml.py qmp.py
KvmPower               power.py           start, stop               waiting.py
KvmGuests              guest.py           freeze, thaw, ask         watch.py watchdog.py
KvmVmSnapshots         vm_snapshots.py    take, revert, delete      snapshot_tags.py marks.py
KvmSnapshotMetadata    metadata.py        libvirt's register of them
KvmOverlays            overlays.py        added, switched, merged   chains.py merging.py astray.py
                                                                    pivots.py written.py
KvmBackups             backups.py         begun, ended              checkpoints.py bitmaps.py versions.py
                                                                    backup_record.py stopped_backup.py
KvmMigration           migration.py       to another host

errors.py    libvirt's codes in the words of the taxonomy           options.py    what can be set
"""

from __future__ import annotations

from .migration import KvmMigration


class KvmDriver(KvmMigration):
    """KVM hosts through libvirt."""

    spi = (1, 1)
