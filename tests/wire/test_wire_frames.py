"""Frames of the agent protocol: header, flags, compression, and everything that is wrong with them."""

from __future__ import annotations

import gzip
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.transfer_objects import DecodeError
from bollard.transfer_objects.cloudstack import Flags, Frame, Message, Payload, Version, decode_frame
from bollard.transfer_objects.commands import Answer, FreezeOption, FreezeThawVMCommand

BODY = b'[{"com.cloud.agent.api.Answer":{"result":true}}]'
# Without the time: workers that collect in different seconds must find the same tests.
PACKED = gzip.compress(BODY, mtime=0)
INT64 = st.integers(-(2**63), 2**63 - 1)
# The compressed flag is not the sender's choice.
FLAGS = st.integers(0, 0xFFFF).map(lambda bits: Flags(bits & ~0x80))


def _frame(body: bytes, length: int, flags: int = 0x80, version: int = 2, zero: int = 0) -> bytes:
    return struct.pack(">BBHqiqqq", version, zero, flags, 1, length, 2, 3, 4) + body


@given(
    st.builds(
        Frame,
        body=st.binary(max_size=50) | st.integers(8180, 8200).map(lambda size: b" " * size),
        flags=FLAGS,
        sequence=INT64,
        version=st.sampled_from(Version),
        management_id=INT64,
        agent_id=INT64,
        via=INT64,
    )
)
def test_frames_come_back(frame):
    """A frame is equal after its bytes, whatever its size, flags and numbers."""
    assert decode_frame(frame.encode()) == frame


def test_header_has_its_place():
    """The 40 bytes stand where CloudStack has them, and a small body is not compressed."""
    frame = Frame(
        body=BODY, flags=Flags.REQUEST | Flags.IN_SEQUENCE | Flags.FROM_SERVER, sequence=7, agent_id=5
    )
    assert (
        frame.encode()
        == bytes.fromhex("02 00 0025 0000000000000007 00000030")
        + bytes(8)
        + bytes([0, 0, 0, 0, 0, 0, 0, 5])
        + bytes(8)
        + BODY
    )


def test_big_bodies_are_compressed():
    """From 8192 bytes on the body is gzip and the length is that of what comes out."""
    small, big = (Frame(body=b" " * size, flags=Flags(0)).encode() for size in (8191, 8192))
    assert (len(small), small[3]) == (40 + 8191, 0)
    assert (big[3], struct.unpack(">i", big[12:16])) == (0x80, (8192,))
    assert gzip.decompress(big[40:]) == b" " * 8192


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x02" * 39, "header: must have a header of 40 bytes, not 39"),
        (_frame(b"", 0, 0, version=1), "header.version: must be 0 (v1) or 2 (v3), not 1"),
        (_frame(b"", 0, 0, version=9), "header.version"),
        (_frame(b"", 0, 0, zero=1), "header.reserved: must be 0"),
        (_frame(b"", -1, 0), "header.length: must be from 0 to 4194304 bytes"),
        (_frame(b"", 2**31 - 1, 0), "header.length"),
        (_frame(BODY, len(BODY) + 1, 0), "body: must have the 49 bytes that the header says, and is shorter"),
        (_frame(BODY, len(BODY) - 1, 0), "and is longer"),
        (_frame(BODY, len(BODY)), "body: must be gzip, and is damaged"),
        (_frame(PACKED[:-9], len(BODY)), "body: must be one whole gzip stream"),
        (_frame(PACKED[:-1], len(BODY)), "body: must be one whole gzip stream"),
        (_frame(PACKED + b"x", len(BODY)), "body: must be one whole gzip stream"),
        (_frame(PACKED[:-8] + bytes(8), len(BODY)), "body: must be gzip, and is damaged"),
        (_frame(PACKED, len(BODY) + 1), "and is shorter"),
        (_frame(PACKED, len(BODY) - 1), "and is longer"),
        (_frame(gzip.compress(bytes(100_000_000), mtime=0), 1000), "and is longer"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)
def test_bad_frames_are_refused(data, said):
    """A short, long, damaged or bomb-like frame is refused, naming the part and the rule."""
    with pytest.raises(DecodeError) as refused:
        decode_frame(data)
    assert said in str(refused.value)


def test_several_commands_travel_in_one_frame():
    """A request holds a list of commands, and they come out in order."""
    commands = (
        FreezeThawVMCommand(vm_name="i-2-12-VM", option=FreezeOption.FREEZE),
        FreezeThawVMCommand(vm_name="i-2-12-VM", option=FreezeOption.THAW),
        Answer(result=False, details="<no & never>"),
    )
    frame = Frame(body=Payload.of(*commands).wire().encode(), flags=Flags.REQUEST)
    assert Payload.from_wire(decode_frame(frame.encode()).body).objects() == commands


def test_message_keeps_header_and_unknown_flags():
    """A frame in Bollard's JSON names its header, and becomes the same bytes again."""
    data = Frame(body=BODY, flags=Flags(0x0401 | Flags.STOP_ON_ERROR), sequence=9, via=3).encode()
    native = Message.from_wire(data).native()
    header = {key: value for key, value in json.loads(native).items() if key != "messages"}
    assert header == {
        "type": "Frame",
        "version": "V3",
        "flags": ["REQUEST", "STOP_ON_ERROR", "0x400"],
        "sequence": 9,
        "management_id": 0,
        "agent_id": 0,
        "via": 3,
    }
    assert Message.from_native(native.encode()).wire() == data
    assert Message.from_wire(data).wire() == data
