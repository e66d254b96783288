"""What is trusted and must not be: names, ids, hosts, certificates, and stores that say that all is well."""

from __future__ import annotations

from bollard.simulators.array import Defect
from catalogue import Mutant, run_wide

# Calls end soon, so that a job that never ends does not make the suite wait for minutes.
_IMPATIENT = """
import sys
if "bollard" in " ".join(sys.orig_argv):
    import inspect
    from bollard.conformance import clean
    from bollard.core import pool

    clean.SECONDS = 1.0
    for waits in (pool.Pool.__init__, inspect.unwrap(pool.open_pool)):
        waits.__kwdefaults__["timeout"] = 2.0
"""

# defect of the array -> checks that find it, words of a verdict, what runs first
ARRAY: dict[str, tuple[tuple[str, ...], str, str]] = {
    "grant_everyone": (("acl.only_that_host",), "has another volume", ""),
    "delete_leaks_space": (("vol.delete_frees_space",), "bytes were deleted, used went from", ""),
    "job_never_finishes": (("vol.clone_equals_source",), "DeadlineExceeded", _IMPATIENT),
}

# backend, class of broken/ -> checks that find it, what is wrong, or said of it in public
DRIVERS: dict[tuple[str, str], tuple[tuple[str, ...], str]] = {
    ("array", "broken_trust_names:NamesAreDecoded"): (
        ("sec.names_escaped",),
        "a name is decoded once more than it was encoded",
    ),
    ("array", "broken_trust_names:NamesAreCommands"): (
        ("sec.names_shell_injection",),
        "a command is built as one string, with a user's words in it",
    ),
    ("array", "broken_trust_names:IdsAreTidied"): (
        ("sec.ids_are_text",),
        "ids are compared without regard to case, and trimmed first",
    ),
    ("array", "broken_trust_names:TrustsItsNames"): (
        ("sec.other_tenants_volume_not_reachable",),
        "an object is taken for ours by its name, and not by the mark that says whose it is",
    ),
    ("array", "broken_trust_names:LoginsFailInternally"): (
        ("sec.wrong_credentials_typed",),
        "a refused login is told as the driver's own failure",
    ),
    ("array", "broken_trust_names:LogsThePassword"): (
        ("sec.secret_canary",),
        "credentials are written to the log",
    ),
    ("qcow2", "broken_trust_names:FilesForEverybody"): (
        ("sec.files_not_for_all",),
        "the mode of a disk's file is left to whatever made it",
    ),
    ("qcow2", "broken_trust_names:NamesArePaths"): (
        ("sec.names_path_traversal",),
        "libvirt CVE-2015-5313: a volume's name is a part of its path",
    ),
    ("qcow2", "broken_trust_names:TakesAnyImage"): (
        ("sec.image_backing_file_refused",),
        "CVE-2024-32498: an image names another file, and nobody looks",
    ),
    ("qcow2", "broken_trust_names:ImportsByPath"): (
        ("sec.native_names_stay_inside",),
        "libvirt CVE-2015-5313 class: what is adopted is named by a path of the host",
    ),
    ("hypervisor", "broken_trust_names:ForgetFails"): (
        ("leak.host_objects",),
        "cloudstack#1600 class: the host keeps what should be taken from it",
    ),
    ("swift", "broken_trust_wires:OpeningFailsInternally"): (
        ("sec.store_wrong_credentials", "store.open_unreachable"),
        "a refused login and a dead server are told as the driver's own failure",
    ),
    ("swift", "broken_trust_wires:TellsTheKey"): (
        ("sec.store_secrets_not_shown",),
        "glance_store _drivers/s3.py:394 class: credentials in what errors show",
    ),
    ("s3-tls", "broken_trust_wires:TrustsAnyServer"): (
        ("sec.store_tls_verified", "fault.store_bad_certificate"),
        "certificates are not verified, so that anybody may be the store",
    ),
    ("nfs", "broken_stores:KeysEndAtTheQuery"): (
        ("sec.store_keys_are_text",),
        "a key is put into a URL without being escaped",
    ),
    ("nfs", "broken_stores:OneBufferForAll"): (
        ("store.parallel_puts_keep_apart",),
        "uploads that run side by side share a buffer",
    ),
    ("nfs", "broken_stores:OneReadIsTheBody"): (
        ("store.body_in_pieces",),
        "one read is taken for all of a stream",
    ),
    ("nfs", "broken_stores:CountsPartsFromZero"): (
        ("store.part_boundaries",),
        "rclone's fstests :2552, each boundary of a part",
    ),
    ("nfs", "broken_stores:GoesOnAfterAnAbort"): (
        ("store.abort_of_live_put_is_clean",),
        "an upload that was removed is begun again in its middle",
    ),
    ("nfs", "broken_stores:ReservesThePlace"): (
        ("store.archive_resumes",),
        "cloudstack#8946 class: shown as complete before it is there",
    ),
    ("nfs", "broken_stores:GetsFromMemory"): (
        ("store.archive_damage_is_told",),
        "a cache that nobody invalidates hides what has become of the object",
    ),
    ("nfs", "broken_stores:ListsWithoutTheNewest"): (
        ("store.archive_moves_to_other_store",),
        "a list lags behind, though it is said to be consistent",
    ),
}

# A result of a whole run needs a check that gives it an occasion.
_OCCASIONS = {"array": "vol.create_read_write_delete", "hypervisor": "host.introduce_then_use"}


def _of_array(label: str, checks: tuple[str, ...], words: str, patch: str) -> Mutant:
    bug = next(defect.field_bug for defect in Defect if defect.label == label)
    return Mutant(
        id=f"array.{label}",
        backend="array",
        defect=label,
        killed_by=checks,
        words=words,
        patch=patch,
        field_bug=bug,
    )


def _driver(backend: str, target: str, checks: tuple[str, ...], bug: str) -> Mutant:
    return Mutant(
        id=f"{backend}-driver.{target.partition(':')[2]}",
        backend=backend,
        driver=target,
        killed_by=checks,
        during=() if set(checks) - run_wide() else (_OCCASIONS[backend],),
        field_bug=bug,
    )


MUTANTS = (
    *(_of_array(label, *about) for label, about in ARRAY.items()),
    *(_driver(backend, target, *about) for (backend, target), about in DRIVERS.items()),
    Mutant(
        id="swift.etag_not_checked",
        backend="swift",
        defect="etag_not_checked",
        driver="broken_trust_wires:LeavesDigestsToSwift",
        killed_by=("store.put_wrong_digest_refused",),
        words="a wrong digest was accepted",
        field_bug="a server that does not compare what it receives with its digest",
    ),
)
