"""CloudStack's own JSON and its agents' frames, read and written without loss.

    text  --Payload.from_wire-->  trees in Bollard's JSON  --objects-->   commands to act upon
          <--Payload.wire-------  (unknown fields kept)    <--Payload.of--

`Payload` is for texts, `Frame` for what travels between a management server and its agents, and `Message` for
a file that may hold either. All that a stranger may send is bounded: bytes, depth, numbers, what comes out of
gzip.
"""

from __future__ import annotations

from .explain import Row
from .frame import HEADER_BYTES, Flags, Frame, Version, decode_frame
from .ids import native_id, wire_id
from .message import Message
from .payload import Form, Payload
from .scalars import s3_date
from .text import MAX_BYTES, MAX_NESTING

__all__ = [
    "HEADER_BYTES",
    "MAX_BYTES",
    "MAX_NESTING",
    "Flags",
    "Form",
    "Frame",
    "Message",
    "Payload",
    "Row",
    "Version",
    "decode_frame",
    "native_id",
    "s3_date",
    "wire_id",
]
