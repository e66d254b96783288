"""What the suite lends to a driver for one call, as the driver sees it in the host: context, body, guest."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from ...core.spi import Body, Call
from .frames import PIECE
from .lanes import Progress, Questions
from .wire import Borrow, Json, NotCarried


class Context:
    """One call under way in the host: what its arguments need from the suite."""

    def __init__(self, call: int, questions: Questions, progress: Progress) -> None:
        self.cancel = threading.Event()
        self.progress = progress
        self._call = call
        self._questions = questions

    def borrow(self) -> Borrow:
        """Return what makes objects of the things that were lent."""
        known: dict[str, Callable[[Json], Any]] = {
            "Call": self._context,
            "Body": self._body,
            "Guest": lambda ref: RemoteGuest(self.asker(ref)),
        }

        def borrow(tag: str, data: Json) -> Any:
            if tag not in known:
                raise NotCarried(f"a value of the unknown kind {tag!r}")
            return known[tag](data)

        return borrow

    def asker(self, ref: int) -> Asker:
        """Return a function that calls the methods of one lent object."""
        return lambda what, *arguments: self._questions.ask(self._call, ref, what, *arguments)

    def _context(self, data: Json) -> Call:
        # CLOCK_MONOTONIC is the same for all processes of a machine.
        return Call(
            request_id=data["request_id"],
            deadline=data["deadline"],
            cancel=self.cancel,
            progress=self.progress,
        )

    def _body(self, data: Json) -> Body:
        ask = self.asker(data["ref"])

        def opened() -> BinaryIO:
            reader, _ = ask("open")
            return cast("BinaryIO", RemoteReader(self.asker(reader)))

        return Body(size=data["size"], sha256=data["sha256"], open=opened)


Asker = Callable[..., tuple[Any, bytes]]


class RemoteReader(io.RawIOBase):
    """A reader on the suite's side."""

    def __init__(self, ask: Asker) -> None:
        self._ask = ask

    def __del__(self) -> None:
        """Do not close: a garbage collection may run anywhere, also while a frame is being sent."""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Ask."""
        return bool(self._ask("seekable")[0])

    def read(self, size: int | None = -1) -> bytes:
        """Return up to `size` bytes, or all that is left."""
        left = size if size is not None and size >= 0 else None
        piece, whole = self._piece(left), io.BytesIO()
        # A short piece is the end or a short read, and either ends a read of so many bytes.
        while piece and (left is None or len(piece) == PIECE < left):
            whole.write(piece)
            left = None if left is None else left - len(piece)
            piece = self._piece(left)
        if not whole.tell():
            return piece
        whole.write(piece)
        return whole.getvalue()  # its buffer itself: a list that is joined held a part of 32 MiB twice

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, or a part of it."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move."""
        return int(self._ask("seek", offset, whence)[0])

    def tell(self) -> int:
        """Return the position."""
        return int(self._ask("tell")[0])

    def close(self) -> None:
        """Close the reader over there; repeatable."""
        if not self.closed:
            super().close()
            self._ask("close")

    def _piece(self, left: int | None) -> bytes:
        return self._ask("read", PIECE if left is None else min(PIECE, left))[1]


class RemoteGuest:
    """The guest of a quiesced snapshot."""

    def __init__(self, ask: Asker) -> None:
        self._ask = ask

    def freeze(self) -> None:
        """Have core freeze it."""
        self._ask("freeze")

    def thaw(self) -> None:
        """Have core thaw it."""
        self._ask("thaw")
