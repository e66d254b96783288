"""What only concurrent calls find, or histories that nobody thought of (`broken/broken_together.py`)."""

from __future__ import annotations

from catalogue import Mutant

_DUPLICATES = "aws-ebs-csi-driver#165, HPE CON-2642: the answer was lost, and the volume was there"
_HISTORIES = ("conc.linearizable_histories", "conc.many_histories")

# class -> checks that find it, words of a verdict, what is said of it in public
ARRAY: dict[str, tuple[tuple[str, ...], str, str]] = {
    "LocksAreConflicts": (
        (
            "conc.busy_is_typed_and_retryable",
            "conc.create_delete_race",
            "conc.create_storm_64",
            "conc.delete_vs_clone",
            "conc.resize_vs_snapshot",
            "conc.snapshot_storm_one_volume",
            *_HISTORIES,
        ),
        "locked by another task",
        "CSI spec: a pending operation on the volume is ABORTED, which is worth a repeat",
    ),
    "LooksAfterCreate": (
        ("conc.create_delete_race", *_HISTORIES),
        "does not exist",
        "zfs-localpv#588: a create and a delete of one volume met",
    ),
    "SaysBusyAfterCreate": (_HISTORIES, "no order of these", _DUPLICATES),
    "KeepsRefusedClone": (
        ("conc.delete_vs_clone",),
        "a clone that was refused exists",
        "HPE CON-2642: an operation that was refused had been done",
    ),
    "SnapshotSizeOfTheVolume": (
        ("conc.resize_vs_snapshot",),
        "a reader finds",
        "IBM/ibm-spectrum-scale-csi#422: a size that is not the snapshot's",
    ),
    "SnapshotsOfOurClock": (
        ("conc.snapshot_storm_one_volume",),
        "cuts were shown",
        "vsphere-csi#2507: one request, two snapshots",
    ),
    "ListsOneTooFew": (("conc.create_storm_64",), "of 64 volumes", "csi-test#223: an incomplete list"),
}

STORE: dict[str, tuple[tuple[str, ...], str, str]] = {
    "TemporaryNameOfTheKey": (
        ("conc.store_same_key_writers",),
        "",
        "temporary files named after their target: two writers share one",
    ),
    "WritesOverTheObject": (
        ("conc.read_during_overwrite_is_old_or_new",),
        "neither the old object",
        "s3-tests' atomic tests: a reader got the beginning of one object and the end of another",
    ),
    "KeepsTheOldObject": (
        ("model.store_histories",),
        "Put generation",
        "a retry that takes whatever has the name for what it had sent",
    ),
}


def _broken(backend: str, cls: str, told: tuple[tuple[str, ...], str, str]) -> Mutant:
    checks, words, bug = told
    return Mutant(
        id=f"{backend}-driver.{cls}",
        backend=backend,
        driver=f"broken_together:{cls}",
        killed_by=checks,
        words=words,
        field_bug=bug,
    )


MUTANTS = (
    *(_broken("array", cls, told) for cls, told in ARRAY.items()),
    *(_broken("nfs", cls, told) for cls, told in STORE.items()),
    Mutant(
        id="array.loses_a_write_in_a_history",
        backend="array",
        defect="writes_lost_after_flush",
        killed_by=("model.long_histories", "model.random_histories"),
        words="generation 1 was written",
        field_bug="cloudstack#9446 class: what was acknowledged is not there",
    ),
)
