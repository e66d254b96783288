"""Broken drivers that crash checks and fault checks find: what a kill leaves, what an answer is taken for."""

from __future__ import annotations

from catalogue import Mutant

# class of broken/broken_calls.py -> checks that find it, words of a verdict, what is said of it in public
ARRAY: dict[str, tuple[tuple[str, ...], str, str]] = {
    # Nearly all crash checks fail on it; one is enough, the others are killed in other words below.
    "LockFilesStay": (
        ("crash.no_lock_survives",),
        "locked by another process",
        "conformance.md, crash.no_lock_survives: a lock file whose owner died",
    ),
    "BooksOfItsOwn": (
        (
            "crash.create_snapshot",
            "crash.create_volume",
            "crash.delete_snapshot",
            "crash.delete_volume",
            "crash.give_up",
            "crash.grant",
            "crash.revoke",
        ),
        "then:",
        "HPE CON-2642, vsphere-csi#2507: what was done before the driver wrote it down",
    ),
    "ReservesTheName": (
        ("crash.clone_volume", "crash.volume_from_snapshot"),
        "is zero",
        "dell/csm#1425: the retry of a clone returned an empty volume",
    ),
    "MakesItSmallFirst": (
        ("crash.create_volume",),
        "",
        "conformance.md, crash.create_volume: a half-made volume has the wrong size",
    ),
    "WritesTheSizeDown": (
        ("crash.resize_volume",),
        "a host sees",
        "dell/csm#386, a size that the host does not see",
    ),
    "CutsBeforeReverts": (
        ("crash.revert_volume",),
        "is running",
        "conformance.md, crash.no_lock_survives: a mark that nobody removes",
    ),
    "ListsItsOwn": (
        ("crash.orchestrator_forgot",),
        "lists the volume 0 times",
        "conformance.md, crash.orchestrator_forgot: ids known to one process only",
    ),
    "RefusedIsABug": (
        ("fault.connection_refused",),
        "became Internal",
        "conformance.md, static.errors_are_in_taxonomy",
    ),
    "TimeoutsArePerByte": (
        ("fault.deadline_slow_drip",),
        "with 1.5 s to go",
        "conformance.md, fault.slow_drip: most HTTP libraries count a timeout from the last byte",
    ),
    "DeletesOnce": (
        ("fault.duplicate_request",),
        "the backend has done it",
        "cloudstack#6739 class: a second delete is an error",
    ),
    "GarbledIsRefused": (
        ("fault.garbled_reply",),
        "the backend has done it",
        "HPE CON-2642: an answer that nobody could read was taken for a refusal",
    ),
    "StatusIsAll": (
        ("fault.html_login_page",),
        "the backend has not done it",
        "conformance.md, fault.wrong_content_type_html_login_page",
    ),
    "LogsInAndForgets": (
        ("fault.session_expires",),
        "the backend has not done it",
        "conformance.md, fault.token_expires_mid_operation",
    ),
    "ThrottledIsABug": (
        ("fault.throttled",),
        "which nobody repeats",
        "conformance.md, fault.http_429_503_retry_after_honoured",
    ),
}

# class of broken/broken_call_stores.py -> the same
NFS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "AppendsPieces": (
        ("crash.overwrite", "crash.put", "crash.put_if_absent"),
        "killed before external call",
        "rclone's fstests :761, a file that is there before it is whole",
    ),
    "MovesLeftoversAside": (("crash.abort_after_kill",), "leftovers stay", "minio/minio#21456"),
}
S3: dict[str, tuple[tuple[str, ...], str, str]] = {
    "LostIsNotApplied": (
        ("fault.store_lost_reply",),
        "claims not_applied: the object is there",
        "restic/restic#3834, uploads whose answer is lost",
    ),
    "PutsLater": (
        ("fault.store_html_login_page", "fault.store_lost_request", "fault.store_session_expires"),
        "put succeeded, and the object is not there",
        "conformance.md, fault.array_says_ok_but_did_nothing",
    ),
    "ShortReadsAreWhole": (
        ("fault.store_truncated_get",),
        "and no error",
        "mlcommons/storage#593, objects come back short",
    ),
    "ThrottledIsABug": (
        ("fault.store_throttled",),
        "which nobody repeats",
        "conformance.md, fault.http_429_503_retry_after_honoured",
    ),
    "PutsWithoutEnd": (
        ("fault.store_no_retry_storm",),
        "to a store that refuses everything",
        "restic/restic#1600",
    ),
    "TimeoutsOfItsOwn": (
        ("fault.store_deadline",),
        "with 1.5 s to go",
        "conformance.md, fault.deadline_always_honoured",
    ),
    "MeetsItself": (
        ("fault.store_if_absent_lost_reply",),
        "our object is there",
        "conformance.md, store.create_if_absent: a client that repeats a conditional put meets itself",
    ),
}


def _broken(module: str, backend: str, cls: str, found: tuple[tuple[str, ...], str, str]) -> Mutant:
    checks, words, bug = found
    return Mutant(
        id=f"{backend}-driver.{cls}",
        backend=backend,
        driver=f"{module}:{cls}",
        killed_by=checks,
        words=words,
        field_bug=bug,
    )


MUTANTS = tuple(
    _broken(module, backend, cls, found)
    for module, backend, table in (
        ("broken_calls", "array", ARRAY),
        ("broken_call_stores", "nfs", NFS),
        ("broken_call_stores", "s3", S3),
    )
    for cls, found in table.items()
)
