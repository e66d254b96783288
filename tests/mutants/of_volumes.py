"""Mutants for what the other tables leave: pools, snapshots, VM snapshots, mounted files, the archive.

Checks of the archive guard core's own promise, so there core is made lenient by a patch.
"""

from __future__ import annotations

from catalogue import Mutant

# class of broken/broken_more.py -> checks that find it, words of a verdict, the public bug or the mistake
ON_ARRAY: dict[str, tuple[tuple[str, ...], str, str]] = {
    "OpensLazily": (
        ("pool.attach_wrong_credentials", "pool.open_missing", "pool.open_unreachable"),
        "a pool that does not exist was opened",
        "the mistake: a session is made with the first request, and a pool in production has none",
    ),
    "OpenLeavesAMark": (
        ("pool.open_creates_nothing",),
        "opening the pool made",
        "the mistake: a probe of write access that nobody removes",
    ),
    "LacksWithoutReason": (
        ("pool.unavailable_only_narrows",),
        "without a reason",
        "the mistake: a capability that is missing, and no operator can tell why",
    ),
    "NoSpaceIsInternal": (
        ("cap.too_large_typed_and_clean",),
        "Internal",
        "the mistake: a full pool looks as one that may work the next time",
    ),
    "KeepsATimeInPrivate": (
        ("compat.private_data_sound",),
        "differs from that of create",
        "the mistake: a moment is kept in what an orchestrator stores for ever",
    ),
    "AcceptsAnyLimits": (
        ("qos.bad_value_refused",),
        "the call succeeded",
        "the mistake: limits that the array refused are taken for set",
    ),
    "ShortHostNames": (
        ("acl.host_group_names_never_collide",),
        "the array lists",
        "cloudstack#13578: an igroup was named after the truncated host name",
    ),
    "CopiesKeepTheirSize": (
        ("snap.volume_from_snapshot_larger",),
        "a host sees",
        "ceph/ceph-csi#2719, piraeusdatastore/linstor-csi#138",
    ),
    "RestoresAnewOnRetry": (
        ("snap.volume_from_snapshot_not_empty",),
        "ANOTHER VOLUME",
        "dell/csm#1425 class: the retry of a copy empties it",
    ),
    "DiesWithItsSnapshot": (
        ("snap.volume_from_snapshot_outlives_it",),
        "does not exist",
        "cloudstack#9446 class: deleting one end hurts the other",
    ),
    "NoBaseIsNothing": (
        ("inc.base_none_is_allocated",),
        "DATA LOSS",
        "virtnbdbackup#225, #237: a full backup without data",
    ),
    "LosesTheLastExtent": (
        ("inc.chain_restore_each",),
        "restores to other bytes",
        "virtnbdbackup#225, #237",
    ),
    "CountsDeletedSnapshots": (
        ("inc.chain_deep", "snap.chain_deep"),
        "four snapshots are the most",
        "the mistake: what is deleted counts until its volume goes, and only a long chain shows it",
    ),
    "RemembersItsBases": (
        ("inc.base_deleted_falls_back_to_full",),
        "restores to other bytes",
        "virtnbdbackup#225, #237: a lost bitmap gave empty increments",
    ),
    "DeltaIsSinceTheRevert": (
        ("inc.after_revert", "inc.restore_after_revert"),
        "DATA LOSS after a revert",
        "the mistake: a bitmap that a revert empties",
    ),
    "CutsOneByOne": (
        ("group.one_or_none",),
        "of the VM snapshot that failed",
        "reference/backends-managed.md: torn groups",
    ),
    "RevertsOneByOne": (
        ("group.revert_granted_changes_none",),
        "older than the expected 2",
        "xapi-project/xen-api#2190 class: a revert of some disks",
    ),
    "RevertsTheRootDisk": (
        ("group.revert_all",),
        "newer than the expected 1",
        "xapi-project/xen-api#2190: a revert of some disks",
    ),
    "DeletesAllSnapshots": (
        ("group.delete_again_ok",),
        "has []",
        "cloudstack#9446 class: a delete takes other snapshots with it",
    ),
}

ON_IMAGES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "WritableSnapshots": (
        ("snap.readonly",),
        "is not read-only",
        "the mistake: a snapshot is located as its volume is, for a writer",
    ),
    "PathOfTheProcess": (
        ("hostpool.two_hosts_see_same_bytes",),
        "another at",
        "the mistake: a link is made for each host",
    ),
    "RelativePaths": (
        ("hostpool.location_is_stable",),
        "no absolute path",
        "the mistake: a path that only the driver's own process can open",
    ),
    "LinkedClones": (("hostpool.volume_is_self_contained",), "has a backing file", "CVE-2024-32498"),
    "FormatIsMistold": (("hostpool.format_is_stated",), "as raw", "CVE-2024-32498"),
    "DeletesKeepACopy": (("hostpool.delete_leaves_no_file",), ".deleted", "cloudstack#9501"),
    "DeletesByPattern": (
        ("hostpool.bystanders_survive",),
        "does not exist",
        "HPE CON-2166 class: a side effect that deletes",
    ),
}

ON_STORES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "PutsOnce": (
        ("idem.store_repeat",),
        "Conflict",
        "the mistake: each put is a conditional one, and no repeat is",
    ),
    "CloseUnmounts": (
        ("compat.options_alike_open_alike",),
        "nothing is mounted",
        "the mistake: the first who closes unmounts for all",
    ),
}

# A defect of the array, with a driver that passes without it -> checks, words
WITH_DRIVER: dict[str, tuple[str, tuple[str, ...], str, str]] = {
    "list_skips_page_boundary": (
        "CountsByPages",
        ("snap.limit_reached_typed",),
        "but the call succeeded",
        "csi-test#221: what lies between two pages is missed",
    ),
    "delete_leaks_space": (
        "HasAQuota",
        ("cap.out_of_space_typed_and_clean",),
        "all that filled the pool was deleted",
        "cloudstack#9501",
    ),
    "delete_says_ok_but_keeps": (
        "LooksAtWhatCameOut",
        ("vol.size_below_min_refused",),
        "but the call succeeded",
        "conformance.md, fault.array_says_ok_but_did_nothing",
    ),
    "snapshot_not_point_in_time": (
        "QuiescesCarefully",
        ("group.quiesced_cut",),
        "newer than the expected 1",
        "cloudstack#13020 class: frozen, and yet not the moment",
    ),
    "delete_missing_is_error": (
        "QuiescesCarefully",
        ("group.quiesce_failure_thaws",),
        "left the guest frozen",
        "oVirt/vdsm#160: a guest that stays frozen",
    ),
}

_PATCH = """
import sys
if "bollard" in " ".join(sys.orig_argv):
    import dataclasses
    import importlib

"""


def _patched(*lines: str) -> str:
    return _PATCH + "".join(f"    {line}\n" for line in lines)


def _module(name: str) -> str:
    """Return the line that imports a module of core; some are hidden by a function of their name."""
    return f'module = importlib.import_module("bollard.core.{name}")'


_LENIENT_RESTORE = _patched(
    _module("archive.restore"),
    "from bollard.core.spi import DataLoss",
    "write = module._write",
    "def lenient(*items, **more):",
    "    try:",
    "        write(*items, **more)",
    "    except DataLoss:",
    "        pass  # what is not to be had reads as zeros",
    "module._write = lenient",
)
_LENIENT_VERIFY = _patched(
    _module("archive.archive"),
    "verify = module.verify",
    "def lenient(store, manifest, call, *, level, **more):",
    "    return verify(store, manifest, call, level=module.Level.EXISTS, **more)",
    "module.verify = lenient",
)
_NO_CANCEL = _patched(
    _module("archive.archive"),
    "create = module.Archive.create",
    "def deaf(self, source, call, **more):",
    "    call = module.Call(deadline=call.deadline, progress=call.progress)",
    "    return create(self, source, call, **more)",
    "module.Archive.create = deaf",
)
_COMMITS_HALF = _patched(
    _module("archive.create"),
    "from bollard.core.spi import DeadlineExceeded",
    "run, commit = module.run, module.Creation.commit",
    "def half(*items, **more):",
    "    try:",
    "        run(*items, **more)",
    "    except DeadlineExceeded:",
    "        pass",
    "def late(self, manifest, call):",
    "    made = commit(self, manifest, module.Call(deadline=call.deadline))",
    "    call.check()",
    "    return made",
    "module.run, module.Creation.commit = half, late",
)
_RESTORES_ALL = _patched(
    _module("archive.archive"),
    "restore = module.restore",
    "def whole(store, manifest, sink, call, *, offset, length, **more):",
    "    restore(store, manifest, sink, call, **more)",
    "    sink.zero(manifest.size, sink.size - manifest.size)",
    "    sink.flush()",
    "module.restore = whole",
)
_OLD_SCRIPT = _patched(
    _module("archive.rescue"),
    "of = module.Body.of",
    "class Old:",
    "    @staticmethod",
    "    def of(data):",
    '        return of(data.replace(b"seek=$((0x$offset / granule))", b""))',
    "module.Body = Old",
)
_NEW_SUMS = _patched(_module("archive.part"), 'module.SUMS = "SHA512SUMS"')
_ARCHIVES_ANYWHERE = _patched(
    _module("snapshots.volume"),
    "module.VolumeSnapshots._check = lambda self, location: None",
)
_COPY_SKIPS_HOLES = _patched(
    _module("dataplane.copy"),
    "put = module._Copy._put",
    "def skip(self, sink, offset, data, length):",
    "    if data is not None:",
    "        put(self, sink, offset, data, length)",
    "module._Copy._put = skip",
)
_WRITES_WHOLE_BLOCKS = _patched(
    _module("dataplane.nbd_source"),
    "write = module.NbdSink.write",
    "def padded(self, offset, data):",
    "    start, end = offset // 4096 * 4096, -(-(offset + len(data)) // 4096) * 4096",
    "    block = bytearray(min(end, self.size) - start)",
    "    block[offset - start : offset - start + len(data)] = data",
    "    write(self, start, block)",
    "module.NbdSink.write = padded",
)
_REQUIRES_BY_CLASS = _patched(
    _module("pool"),
    "require = module.Pool.require",
    "def by_class(self, mixin):",
    "    return self.driver if isinstance(self.driver, mixin) else require(self, mixin)",
    "module.Pool.require = by_class",
)
_ANY_KEY = _patched(_module("store"), "module.check_key = lambda key: None")

# id -> backend, driver, patch, checks, words, the public bug or the mistake
LENIENT: dict[str, tuple[str, str, tuple[str, ...], str, str]] = {
    "create_begins_again": (
        "array",
        _patched(_module("archive.begin"), "module.Beginning._adopt = lambda self, earlier, call: {}"),
        ("arc.interrupted_resumes",),
        "parts were sent again",
        "the mistake: each attempt has a name of its own, and finds nothing of the one before",
    ),
    "restore_goes_on": (
        "array",
        _LENIENT_RESTORE,
        ("arc.bit_flip_detected", "arc.missing_part_detected", "arc.swapped_parts_detected"),
        "and the restore succeeded",
        "gilbertchen/duplicacy#655 class: what is missing is found by nobody",
    ),
    "verify_looks_at_sizes": (
        "array",
        _LENIENT_VERIFY,
        ("arc.bit_flip_detected", "arc.swapped_parts_detected"),
        "verify found nothing wrong",
        "the mistake: the cheap check is taken for the thorough one",
    ),
    "create_cannot_be_cancelled": (
        "array",
        _NO_CANCEL,
        ("arc.cancel_leaves_nothing_visible", "arc.interrupted_resumes"),
        "claims success",
        "the mistake: a call that is made anew loses its cancel flag",
    ),
    "create_commits_half": (
        "array",
        _COMMITS_HALF,
        ("arc.cancel_leaves_nothing_visible",),
        "the cancelled run is listed",
        "the mistake: a cancelled run commits what it has",
    ),
    "restore_writes_all": (
        "array",
        _RESTORES_ALL,
        ("arc.restore_to_larger", "arc.restore_window_range_only"),
        "is zero",
        "the mistake: a restore owns its whole target, as qemu-img convert does",
    ),
    "script_is_old": (
        "array",
        _OLD_SCRIPT,
        ("arc.restore_with_standard_tools",),
        "other bytes than were archived",
        "the mistake: the script in the store is not of the store's format",
    ),
    "copy_skips_holes": (
        "array",
        _COPY_SKIPS_HOLES,
        ("vol.copy_between_volumes",),
        "the copy differs from its source",
        "the mistake: a hole is taken for nothing to do, on a target that holds data",
    ),
    "write_forgets_the_read": (
        "array",
        _WRITES_WHOLE_BLOCKS,
        ("vol.sector_size_as_declared",),
        "a write of 512 bytes changed others",
        "the mistake: sectors of 512 bytes on blocks of 4096, without the read of read-modify-write",
    ),
    "archive_of_a_host_pool": (
        "qcow2",
        _ARCHIVES_ANYWHERE,
        ("arc.location_archive_refused",),
        "but the call succeeded",
        "the mistake: the location is asked for, and means nothing",
    ),
    "format_is_changed": (
        "nfs",
        _NEW_SUMS,
        ("compat.archive_v1_golden",),
        "does not verify",
        "the mistake: a new version reads only what it writes itself",
    ),
}


def _broken(backend: str, cls: str, checks: tuple[str, ...], words: str, bug: str) -> Mutant:
    return Mutant(
        id=f"{backend}-driver.{cls}",
        backend=backend,
        driver=f"broken_more:{cls}",
        killed_by=checks,
        words=words,
        field_bug=bug,
    )


MUTANTS = (
    *(
        _broken(backend, cls, *found)
        for backend, table in (("array", ON_ARRAY), ("qcow2", ON_IMAGES), ("nfs", ON_STORES))
        for cls, found in table.items()
    ),
    *(
        Mutant(
            id=f"array.{defect}.{cls}",
            backend="array",
            defect=defect,
            driver=f"broken_more:{cls}",
            killed_by=checks,
            words=words,
            field_bug=bug,
        )
        for defect, (cls, checks, words, bug) in WITH_DRIVER.items()
    ),
    *(
        Mutant(id=f"core.{name}", backend=backend, patch=patch, killed_by=checks, words=words, field_bug=bug)
        for name, (backend, patch, checks, words, bug) in LENIENT.items()
    ),
    Mutant(
        id="core.requires_by_class",
        backend="array",
        driver="broken_more:LacksALicence",
        patch=_REQUIRES_BY_CLASS,
        killed_by=("pool.undeclared_refused",),
        words="but the call succeeded",
        field_bug="the mistake: what a class declares is taken for what the array has",
    ),
    Mutant(
        id="core.keys_are_not_checked",
        backend="nfs",
        driver="broken_stores:KeysAreNormalised",
        patch=_ANY_KEY,
        killed_by=("store.keys_never_escape",),
        words="but the call succeeded",
        field_bug="libvirt CVE-2015-5313 class: a key is made into a path that somebody else owns",
    ),
)
