"""The mutants of the rbd driver, each on a real Ceph of its own."""

from __future__ import annotations

from catalogue import Mutant

# class of broken/broken_rbd.py -> checks that find it, words of a verdict, the public bug or the mistake
FOUND: dict[str, tuple[tuple[str, ...], str, str]] = {
    "RevokeOnlyTakesTheKey": (
        ("acl.revoke_cuts_off",),
        "",
        "the mistake: `ceph auth rm` is taken for a revoke; an open client goes on writing",
    ),
    "DiffMissesDiscards": (
        ("inc.discard_is_reported",),
        "",
        "the mistake: what was thrown away is taken for nothing to copy",
    ),
    "DiffOfTheFirstObjects": (
        ("inc.delta_covers_all_changes",),
        "DATA LOSS",
        "the mistake: one answer is taken for all of them",
    ),
    "ClonesAreEmpty": (
        ("vol.clone_equals_source", "snap.volume_from_snapshot"),
        "is zero",
        "dell/csm#1425: a retry returned an empty volume of the right name",
    ),
    "SnapshotsAreReadAsTheVolumeIs": (
        ("snap.point_in_time",),
        "newer than the expected 1",
        "the mistake: a snapshot is located by the name of its image",
    ),
    "ReadersMayWrite": (
        ("acl.read_only",),
        "",
        "the mistake: one set of capabilities for all users",
    ),
    "ListShowsForeignImages": (
        ("pool.foreign_not_listed",),
        "",
        "the mistake: the pool is listed and not what is ours in it",
    ),
    "RevertsHalf": (
        ("snap.revert_exact",),
        "newer than the expected 1",
        "the mistake: an intent that is taken for the act",
    ),
}

MUTANTS = tuple(
    Mutant(
        id=f"rbd.{cls}",
        backend="rbd",
        driver=f"broken_rbd:{cls}",
        killed_by=checks,
        words=words,
        field_bug=bug,
    )
    for cls, (checks, words, bug) in FOUND.items()
)
