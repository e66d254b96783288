"""Where things lie on the store. Ids need no quoting anywhere (`ID_RULE`), so keys are joined.

    v1/<volume>/<snapshot>/manifest.json
    v1/<volume>/<snapshot>/<attempt>/begin.json
    v1/<volume>/<snapshot>/<attempt>/<window>.<sha256>.zip     16 and 32 hex digits
       `volume`  `---------layer---------'

An *attempt* is one run of `create`; its name is never used again. So a collector that was asleep, or a
DELETE that the network delayed, cannot hit what a later run has written.
The part's name carries its digest: a listing tells a resumed run what is already there.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ...transfer_objects.ids import ID_RULE, is_valid_id
from ..spi.errors import InvalidArgument

VERSION = "v1"
MANIFEST = "manifest.json"
BEGIN = "begin.json"

_ID = r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?"
_KEY = re.compile(
    rf"{VERSION}/(?P<volume>{_ID})/(?P<snapshot>{_ID})/"
    rf"(?:manifest\.json|(?P<attempt>{_ID})/(?:begin\.json|(?P<part>[0-9a-f]{{16}}\.[0-9a-f]{{32}}\.zip)))"
)
_LAYER = re.compile(rf"{_ID}/{_ID}")


class Key(NamedTuple):
    """A key, taken apart. `part` is the part's file name; `attempt` is "" for a manifest."""

    volume: str
    snapshot: str
    attempt: str
    part: str

    @property
    def layer(self) -> str:
        """`<snapshot>/<attempt>`, what manifests and intents call a layer."""
        return f"{self.snapshot}/{self.attempt}"


def parse(key: str) -> Key | None:
    """Take a key apart; None if it is not one of ours (a stranger's file is never touched)."""
    match = _KEY.fullmatch(key)
    return Key(*(group or "" for group in match.groups())) if match else None


def check_id(what: str, text: str) -> str:
    """Return `text`, or raise `InvalidArgument` if it cannot serve as an id."""
    if not is_valid_id(text):
        raise InvalidArgument(f"{what} {text[:80]!r} is not an id: {ID_RULE}")
    return text


def is_layer(text: str) -> bool:
    """Tell whether `text` has the form `<snapshot>/<attempt>`."""
    return _LAYER.fullmatch(text) is not None


def volume_prefix(volume: str) -> str:
    """Return the prefix of everything that belongs to a volume."""
    return f"{VERSION}/{volume}/"


def layer_prefix(volume: str, layer: str) -> str:
    """Return the prefix of an attempt's begin.json and parts."""
    return f"{VERSION}/{volume}/{layer}/"


def manifest_key(volume: str, snapshot: str) -> str:
    """Return the key whose existence means: this snapshot is in the archive."""
    return f"{VERSION}/{volume}/{snapshot}/{MANIFEST}"


def begin_key(volume: str, layer: str) -> str:
    """Return the key of an attempt's intent."""
    return layer_prefix(volume, layer) + BEGIN


def part_name(offset: int, sha256: str) -> str:
    """Return the file name of the part for the window at `offset`."""
    return f"{offset:016x}.{sha256[:32]}.zip"
