"""The defects of the simulated Swift, and the checks that find them."""

from __future__ import annotations

from catalogue import Mutant

# One try, so that a fault shows; no probe, so that it does not strike while the store is opened.
_ONE_TRY = (("attempts", "1"), ("conditional_put", '"no"'))
_CONDITIONAL = (("conditional_put", '"yes"'),)

# switch -> checks that find it, options of the driver, the field bug
FOUND: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...], str]] = {
    "drop_connection_midway=9": (
        ("store.put_get_delete",),
        _ONE_TRY,
        "restic/restic#1457, connections reset",
    ),
    "lost_reply=9": (("store.put_get_delete",), _ONE_TRY, "restic/restic#3834, uploads whose answer is lost"),
    "corrupt_first_read=9": (("store.put_get_delete",), (), "chimera-nas/chimera#1385, nobody compares"),
    "short_body=9": (("store.put_get_delete",), (), "mlcommons/storage#593, objects come back short"),
    "put_ignores_if_none_match": (
        ("store.create_if_absent",),
        _CONDITIONAL,
        "adobe/S3Mock#2371, conditional writes without effect",
    ),
}

MUTANTS = tuple(
    Mutant(
        id=f"swift.{switch.partition('=')[0]}",
        backend="swift",
        defect=switch,
        killed_by=checks,
        options=options,
        field_bug=bug,
    )
    for switch, (checks, options, bug) in FOUND.items()
)
