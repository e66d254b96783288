"""After a crash: every intent whose owner died is brought to an end, by what is really there.

take      named at the store? commit and tidy up : remove it, its bitmap and its checkpoint
delete    go on removing
revert    remove the file beside the volume; the volume is the old one or the new one
copy      named at the store? it is there : remove it
migrate   the records say which store has the chain: remove the other's
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from ...intents import Entry
from ...spi.call import Call
from ...spi.errors import StorageError
from . import deletion, moving, reading, taking
from .site import Site

_log = logging.getLogger("bollard.snapshots")


def sync(site: Site, call: Call) -> list[str]:
    """Settle what dead processes of this machine have left; run it at start, and from time to time.

    Returns what could not be settled yet, and why: a hypervisor or store that does not answer. Only then
    it is tried again next time; whoever lives is left alone.
    """
    problems = []
    for entry in site.journal.abandoned():
        if not is_of(entry, site.name):
            entry.release()
            continue
        try:
            settle_entry(site, entry, call)
        except StorageError as error:
            problems.append(f"{entry.kind} {dict(entry.fields)}: {error}")
            _log.warning("%s is not settled yet: %s", entry.kind, error)
    return problems


def is_of(entry: Entry, site: str) -> bool:
    """Tell whether an intent is one of ours, of the site of this name."""
    return entry.kind.startswith("kvm.") and entry.fields.get("site", "") == site


def settle_entry(site: Site, entry: Entry, call: Call) -> None:
    """Settle one intent of a dead process, which is ours now; if that fails it is let go of, for next time.

    Raises:
        StorageError: a hypervisor or a store does not answer.
    """
    try:
        with site.journal.deciding(entry.fields):
            # One who died before he did anything must not have a living one's work undone.
            if not site.journal.others_hold(entry, {entry.kind}):
                _settle(site, entry.kind, entry.fields, call)
    except BaseException:
        entry.release()
        raise
    entry.done()


def _settle(site: Site, kind: str, fields: Mapping[str, str], call: Call) -> None:
    if kind == taking.TAKE:
        taking.settle(site, fields["snapshot"], fields["volume"], call)
    elif kind == deletion.DELETE:
        deletion.sweep(site, fields["volume"], call)
    elif kind == moving.COPY:
        moving.settle_copy(site, fields["snapshot"], fields["volume"], fields["store"], call)
    elif kind == moving.MIGRATE:
        moving.settle_migration(site, fields["target"], fields["places"], call)
    elif kind in (reading.REVERT, reading.TEMPLATE):
        reading.remove_staged(Path(fields["part"]))
