"""The defects of the simulated S3, and the checks that find them."""

from __future__ import annotations

import re
from inspect import getdoc

from bollard.simulators.s3_defects import S3Defects
from catalogue import Mutant

# Uploads in parts of 5 MiB, so that a test of 12 MiB has three. One try, so that a fault shows,
# and no probe, so that it does not strike while the store is opened.
_PARTS = (("max_single_upload_size", "5242880"), ("part_size", "5242880"))
_CONDITIONAL = (("conditional_put", '"yes"'),)
_ONE_TRY = (("attempts", "1"), ("conditional_put", '"no"'), ("checksum", '"sha256"'))

# switch -> checks that find it, words of a verdict, options of the driver
FOUND: dict[str, tuple[tuple[str, ...], str, tuple[tuple[str, str], ...]]] = {
    "lost_reply=9": (("store.put_get_delete",), "", _ONE_TRY),
    "put_ignores_if_none_match": (
        ("store.create_if_absent",),
        "",
        _CONDITIONAL,
    ),
    "put_corrupts": (("store.put_get_delete", "store.archive_full_round_trip"), "", ()),
    "put_loses_tail": (("store.put_get_delete", "store.put_head_list_agree"), "", ()),
    "put_keeps_old": (("store.overwrite",), "", ()),
    "delete_says_ok_but_keeps": (("store.put_get_delete", "leak.store_keys"), "", ()),
    "delete_missing_is_error": (("store.put_get_delete", "store.delete_missing_ok"), "", ()),
    "range_ignored": (("store.range_reads",), "", ()),
    "get_short_body": (("store.put_get_delete",), "", ()),
    "get_flips_bit": (("store.put_get_delete", "store.archive_increments"), "", ()),
    "list_unsorted": (("store.list_prefix_pages",), "", ()),
    "list_repeats_marker": (("store.list_prefix_pages",), "", ()),
    "list_duplicates": (("store.list_prefix_pages",), "", ()),
    "list_ends_early": (("store.list_thousand_keys",), "", ()),
    "list_keys_encoded": (("store.list_prefix_pages",), "", ()),
    "key_decoded_twice": (("store.weird_keys",), "", ()),
    "plus_is_space": (("store.weird_keys",), "", ()),
    "multipart_loses_part": (("store.large_object",), "", _PARTS),
    "abort_says_ok_but_keeps": (("store.leftovers_found_once",), "", _PARTS),
}


# What the simulator names for these stands in our lists of bugs; of the others the mistake itself is told.
_KNOWN = ("put_keeps_old", "delete_says_ok_but_keeps")


def field_bug(switch: str) -> str:
    """Return what the simulator says of a switch: its description, or the bug in brackets behind that."""
    text = re.sub(r"\s+", " ", getdoc(S3Defects) or "")
    found = re.search(rf"\b{switch}: ([^\[]*) \[([^\]]*)\]", text)
    return found[2 if switch in _KNOWN else 1] if found else ""


MUTANTS = tuple(
    Mutant(
        id=f"s3.{switch.partition('=')[0]}",
        backend="s3",
        defect=switch,
        killed_by=checks,
        words=words,
        options=options,
        field_bug=field_bug(switch.partition("=")[0]),
    )
    for switch, (checks, words, options) in FOUND.items()
)
