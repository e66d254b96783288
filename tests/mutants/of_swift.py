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
        "a connection that is reset in the middle of a body",
    ),
    "lost_reply=9": (("store.put_get_delete",), _ONE_TRY, "an upload is stored, and its answer lost"),
    "corrupt_first_read=9": (
        ("store.put_get_delete",),
        (),
        "a bit of an answer flips on its way, and nobody compares",
    ),
    "short_body=9": (("store.put_get_delete",), (), "an object comes back short, with success"),
    "put_ignores_if_none_match": (
        ("store.create_if_absent",),
        _CONDITIONAL,
        "conditional writes without effect",
    ),
    "checks_if_none_match_early": (
        ("store.create_if_absent",),
        _CONDITIONAL,
        "Swift 2.38 looks at If-None-Match when an upload begins: of eight racing ones all win",
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
