"""CloudStack's orders, carried out by Bollard's drivers: command in, answer out.

    dispatcher.py   which function carries out which command; locks, deadline, failures as answers
    names.py        which volume, snapshot, template or VM a transfer object means
    storages.py     which pool and archive it lies on
    copying.py      CopyCommand: which of its rows, and copy_*.py what each does
    objects.py      create, delete, revert
    disks.py        attach, dettach, introduce, forget; luns.py what XenServer and VMware want of LUNs
    vm_snapshots.py, freezing.py, disk_only.py, incremental.py

A handler is a function `(command, site, call) -> Answer`. It checks everything before it changes anything,
can be repeated after a kill, and raises errors of the taxonomy; the dispatcher makes them answers.
"""

from .dispatcher import Dispatcher

__all__ = ["Dispatcher"]
