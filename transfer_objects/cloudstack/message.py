"""What a file may hold: a payload, or a frame around one. Bollard's JSON of a frame names its header.

{"type": "Frame", "version": "V3", "flags": ["REQUEST", "IN_SEQUENCE"], "sequence": 7, "management_id": 1,
 "agent_id": 5, "via": 0, "messages": [{"type": "CopyCommand", …}]}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from ..errors import DecodeError, did_you_mean, shown
from . import text
from .explain import Row, rows_of
from .frame import Flags, Frame, Version, decode_frame
from .payload import Form, Payload

_NUMBERS = ("sequence", "management_id", "agent_id", "via")
_KEYS = ("type", "version", "flags", *_NUMBERS, "messages")
# JSON starts with a bracket or a blank, a frame with its version.
_FRAME_STARTS = tuple(bytes([version]) for version in range(8))


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A payload, and the header that it came under, if any; the header's body is empty."""

    payload: Payload
    header: Frame | None = None

    @classmethod
    def from_wire(cls, data: bytes, as_class: str | None = None) -> Message:
        """Read a payload or a frame; `as_class` as in `Payload.from_wire`.

        Raises:
            DecodeError: with the path of the field, in CloudStack's names.
        """
        if not data.startswith(_FRAME_STARTS):
            return cls(Payload.from_wire(data, as_class))
        frame = decode_frame(data)
        payload = Payload.from_wire(frame.body)
        if payload.form is not Form.ARRAY:
            raise DecodeError("must be a list of commands or answers", "body")
        return cls(payload, dataclasses.replace(frame, body=b""))

    @classmethod
    def from_native(cls, data: bytes, *, bare: bool = False) -> Message:
        """Read what `native` wrote; `bare` as in `Payload.from_native`.

        Raises:
            DecodeError: with the path of the field, in our names.
        """
        tree = text.parse(data)
        if not isinstance(tree, dict) or tree.get("type") != "Frame":
            return cls(Payload.from_native_tree(tree, bare=bare))
        for key in tree:
            if key not in _KEYS:
                raise DecodeError("unknown key", shown(key), did_you_mean(key, _KEYS))
        messages = tree.get("messages")
        if not isinstance(messages, list):
            raise DecodeError("must be a list of commands or answers", "messages")
        return cls(Payload.from_native_tree(messages), _header(tree))

    def native(self, *, reveal_secrets: bool = False) -> str:
        """Return Bollard's JSON, indented for people."""
        tree = self.payload.native_tree(reveal_secrets=reveal_secrets)
        if self.header:
            tree = {"type": "Frame", **_header_tree(self.header), "messages": tree}
        return json.dumps(tree, indent=2, ensure_ascii=False)

    def wire(self) -> bytes:
        """Return CloudStack's JSON, or the frame with it."""
        body = self.payload.wire().encode()
        return dataclasses.replace(self.header, body=body).encode() if self.header else body

    def rows(self) -> Iterator[Row]:
        """Yield a row per field, the header's first."""
        for name, value in (_header_tree(self.header) if self.header else {}).items():
            shown_value = ", ".join(value) if isinstance(value, list) else str(value)
            yield Row(f"header.{name}", name, 0, "frame", "header of the frame", shown_value)
        numbered = self.payload.form is Form.ARRAY
        for index, tree in enumerate(self.payload.trees):
            yield from rows_of(tree, f"[{index}]" if numbered else "")


def _header_tree(frame: Frame) -> dict[str, Any]:
    names = [flag.name for flag in Flags if flag in frame.flags and flag.name]
    odd = int(frame.flags) & ~sum(Flags)
    return {
        "version": frame.version.name,
        "flags": [*names, *([hex(odd)] if odd else [])],
        **{name: getattr(frame, name) for name in _NUMBERS},
    }


def _header(tree: dict[str, Any]) -> Frame:
    version = tree.get("version", Version.V3.name)
    if version not in Version.__members__:
        raise DecodeError(
            "is no version of the protocol", "version", did_you_mean(str(version), ["V1", "V3"])
        )
    return Frame(
        body=b"",
        flags=_flags(tree.get("flags")),
        version=Version[version],
        **{name: _number(name, tree.get(name, 0)) for name in _NUMBERS},
    )


def _flags(names: Any) -> Flags:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DecodeError("must be a list of flags", "flags")
    return Flags(sum({_flag(name, f"flags[{index}]") for index, name in enumerate(names)}))


def _flag(name: str, path: str) -> int:
    if name in Flags.__members__:
        return Flags[name].value
    try:
        number = int(name, 16)
    except ValueError as error:
        raise DecodeError("is no flag", path, did_you_mean(name, Flags.__members__)) from error
    if not 0 < number <= 0xFFFF or number & sum(Flags):
        raise DecodeError("must be bits of a flag that has no name, within 16 bits", path)
    return number


def _number(name: str, value: Any) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise DecodeError("must be an integer of 64 bits", name)
    return value
