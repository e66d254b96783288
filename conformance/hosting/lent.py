"""What a call lends to the driver host, and what the host asks of it: a body's bytes, a guest's freeze."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ...core.spi import Body, Call
from .failures import encode_error
from .frames import Buffer, Frame
from .wire import Json, NotCarried, decode, encode

_ASKED = frozenset({"open", "read", "seek", "seekable", "tell", "close", "freeze", "thaw"})


class Lent:
    """The objects that one call has lent, by number; they are asked in the thread that called."""

    def __init__(self) -> None:
        self._objects: list[Any] = []
        self.raised: dict[int, BaseException] = {}

    def lend(self, value: object) -> Json | None:
        """Return what stands for an object on the wire, or None if it is nothing that is lent."""
        if isinstance(value, Call):
            return {"$": "Call", "v": {"request_id": value.request_id, "deadline": _deadline(value)}}
        if isinstance(value, Body):
            known = {"size": encode(value.size), "sha256": encode(value.sha256), "ref": self._number(value)}
            return {"$": "Body", "v": known}
        if hasattr(value, "freeze") and hasattr(value, "thaw"):
            return {"$": "Guest", "v": self._number(value)}
        return None

    def answer(self, frame: Frame) -> tuple[Mapping[str, Any], Buffer]:
        """Do what the host asks for; what it raises is remembered, and known again when it comes back."""
        header = {"op": "answer", "ask": frame.header["ask"]}
        try:
            value, blob = self._perform(frame.header)
            return {**header, "value": encode(value)}, blob
        except BaseException as error:  # noqa: BLE001 - whatever it is, the driver must see that it failed
            self.raised[frame.header["ask"]] = error
            return self.refusal(frame, error), b""

    @staticmethod
    def refusal(frame: Frame, error: BaseException) -> Mapping[str, Any]:
        """Return the answer that raises `error` in the driver."""
        data = encode_error(error)
        if isinstance(error, OSError) and error.errno is not None:
            data |= {"errno": error.errno, "text": str(error.strerror)}
        return {"op": "answer", "ask": frame.header["ask"], "error": data}

    def _perform(self, header: Mapping[str, Any]) -> tuple[object, bytes]:
        what, arguments = header["do"], decode(header["args"])
        if what not in _ASKED:
            raise NotCarried(f"no {what!r} is lent")
        value = getattr(self._objects[header["ref"]], what)(*arguments)
        if what == "open":
            return self._number(value), b""
        return (None, bytes(value)) if what == "read" else (value, b"")

    def _number(self, value: object) -> int:
        self._objects.append(value)
        return len(self._objects) - 1


def _deadline(call: Call) -> float | None:
    """Return the deadline on the clock that both processes share."""
    if call.deadline is None or call.clock is time.monotonic:
        return call.deadline
    return time.monotonic() + call.deadline - call.clock()
