"""Frames on a stream: 4 bytes of length (big endian), then a frame (transfer_objects.cloudstack.frame).

    | length | header, 40 bytes | body, perhaps gzip | length | …

A peer may send anything: what it announces is bounded before it is read, a frame that has begun must come to
its end in time, and one that does not take our answers is cut off.
"""

from __future__ import annotations

import asyncio
import struct
from typing import NamedTuple

from ...transfer_objects.cloudstack.frame import HEADER_BYTES, Flags, Frame, decode_frame
from ...transfer_objects.cloudstack.text import MAX_BYTES
from ...transfer_objects.errors import DecodeError

_LENGTH = struct.Struct(">I")
_HEADER = struct.Struct(">BBHqiqqq")
# gzip grows what it cannot shrink by less than this.
MAX_FRAME = HEADER_BYTES + MAX_BYTES + 4096


class ChannelClosed(Exception):
    """The connection has ended, or must: the text says why."""


class Damaged(NamedTuple):
    """A request whose header can be read and whose body cannot: it can be refused by its number."""

    header: Frame
    reason: str


class Channel:
    """One connection.

    Args:
        idle: seconds without a frame after which the peer is taken for dead.
        moving: seconds in which a frame that has begun must be here, or what we send be taken.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        idle: float,
        moving: float,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._idle = idle
        self._moving = moving
        self._sending = asyncio.Lock()

    async def receive(self) -> Frame | Damaged:
        """Return the next frame.

        Raises:
            ChannelClosed: the peer has gone, is silent, or sends no frames.
        """
        try:
            async with asyncio.timeout(self._idle):
                first = await self._reader.readexactly(1)
            async with asyncio.timeout(self._moving):
                [length] = _LENGTH.unpack(first + await self._reader.readexactly(_LENGTH.size - 1))
                if not HEADER_BYTES <= length <= MAX_FRAME:
                    raise ChannelClosed(f"a frame of {length} bytes was announced")
                data = await self._reader.readexactly(length)
        except TimeoutError:
            raise ChannelClosed("the peer is silent") from None
        except asyncio.IncompleteReadError as error:
            raise ChannelClosed(
                "the peer has closed" + (" within a frame" if error.partial else "")
            ) from None
        except OSError as error:
            raise ChannelClosed(f"the connection broke: {error}") from error
        return _decoded(data)

    async def send(self, frame: Frame) -> None:
        """Send a frame whole.

        Raises:
            ChannelClosed: the peer has gone, or does not take it.
        """
        data = frame.encode()
        async with self._sending:
            try:
                self._writer.write(_LENGTH.pack(len(data)) + data)
                async with asyncio.timeout(self._moving):
                    await self._writer.drain()
            except (TimeoutError, OSError) as error:
                self._writer.transport.abort()
                raise ChannelClosed(f"the peer does not take what is sent: {error}") from error

    async def taken(self) -> None:
        """Wait until the peer has taken what is being sent."""
        async with self._sending:
            pass

    async def close(self) -> None:
        """Close the connection; a peer that does not answer to that is cut off."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._moving):
                await self._writer.wait_closed()
        except (TimeoutError, OSError):
            self._writer.transport.abort()


def _decoded(data: bytes) -> Frame | Damaged:
    """Read a frame.

    Raises:
        ChannelClosed: the header is none: nothing behind it can be trusted.
    """
    try:
        return decode_frame(data)
    except DecodeError as error:
        if not str(error).startswith("body"):
            raise ChannelClosed(f"what came is no frame: {error}") from error
        _, _, flags, sequence, _, management, agent, via = _HEADER.unpack_from(data)
        header = Frame(
            body=b"",
            flags=Flags(flags),
            sequence=sequence,
            management_id=management,
            agent_id=agent,
            via=via,
        )
        return Damaged(header, str(error))
