"""Whatever bytes come, an agent goes on: it hangs up or refuses, and answers the next who asks rightly."""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_rig import Doing, RunningAgent, order, plain_agent
from bollard.core.spi import Call
from bollard.simulators.management.frames import packed, unpacked
from bollard.transfer_objects.commands import Answer, Command

_SECONDS = 10.0


@pytest.fixture(scope="module")
def doing() -> Doing:
    """What carries commands out."""
    return Doing()


@pytest.fixture(scope="module")
def agent(doing) -> Iterator[RunningAgent]:
    """An agent without TLS, which waits half a second for the rest of a frame."""
    with plain_agent(doing, moving=0.5) as running:
        yield running


def _good(number: int) -> bytes:
    return packed(json.dumps([order(number)]).encode(), flags=1, sequence=number, management=1, agent=1)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        assert more, "the agent hung up"
        data += more
    return data


def _asked(agent: RunningAgent, number: int) -> str:
    """Ask on a connection of its own, and return the details of the answer."""
    with socket.create_connection(agent.addresses[0], timeout=_SECONDS) as connection:
        connection.sendall(_good(number))
        [length] = struct.unpack(">I", _exactly(connection, 4))
        [answer] = json.loads(unpacked(_exactly(connection, length)).body)
        [fields] = answer.values()
        return fields["details"]


def _thrown_at(agent: RunningAgent, data: bytes) -> None:
    """Send bytes, and take whatever comes until the agent hangs up."""
    with socket.create_connection(agent.addresses[0], timeout=_SECONDS) as connection:
        with suppress(OSError):  # it hung up before all was sent
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            while connection.recv(65536):
                pass


bodies = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ).map(lambda tree: json.dumps(tree).encode()),
    st.sampled_from(["AttachCommand", "CopyCommand", "DeleteCommand"]).map(
        lambda name: json.dumps([{f"org.apache.cloudstack.storage.command.{name}": None}]).encode()
    ),
)
frames = st.builds(
    packed,
    bodies,
    flags=st.integers(0, 0xFFFF),
    sequence=st.integers(0, 2**64 - 1),
    management=st.integers(0, 2**64 - 1),
    agent=st.integers(0, 2**64 - 1),
    version=st.sampled_from([0, 2, 2, 2, 1, 255]),
)


@settings(max_examples=60)
@given(data=st.lists(frames | st.binary(max_size=64), min_size=1, max_size=4).map(b"".join))
def test_any_bytes(agent, doing, data):
    """After frames with any header and body, or no frames at all, the agent answers the next one."""
    _thrown_at(agent, data)
    assert _asked(agent, 1) == "did 1"


@settings(max_examples=40)
@given(cut=st.integers(0, 120), flipped=st.integers(0, 120), bit=st.integers(0, 7))
def test_a_damaged_request(agent, cut, flipped, bit):
    """After a good request that is cut short and has one bit wrong the agent answers the next one."""
    data = bytearray(_good(2))
    data[flipped % len(data)] ^= 1 << bit
    _thrown_at(agent, bytes(data[:cut]))
    assert _asked(agent, 1) == "did 1"


def test_a_peer_that_takes_no_answers_is_cut_off(doing):
    """A peer that asks and never reads keeps no memory: its connection ends, and others are served."""
    with (
        plain_agent(doing, moving=0.2) as agent,
        socket.socket() as deaf,
    ):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(_SECONDS)
        deaf.connect(agent.addresses[0])
        # Answered at once, and with less than would be compressed.
        body = json.dumps([{"com.cloud.agent.api.PingCommand": {}}] * 80).encode()
        with pytest.raises((ConnectionError, TimeoutError)):
            _flood(deaf, body)
        assert _asked(agent, 1) == "did 1"


def _flood(connection: socket.socket, body: bytes) -> None:
    for number in range(20_000):
        connection.sendall(packed(body, flags=1, sequence=number, management=1, agent=1))


class _Talkative(Doing):
    """Answers with much, which no compression makes less."""

    def __call__(self, command: Command, call: Call) -> Answer:
        super().__call__(command, call)
        return Answer(details=random.Random(command.wait).randbytes(30_000).hex())  # noqa: S311 - test data


def test_a_peer_that_takes_no_answers_is_asked_for_no_more():
    """A peer that asks one by one and never reads an answer is not listened to any more after some."""
    talkative = _Talkative()
    with (
        plain_agent(talkative, moving=1000.0) as agent,
        socket.socket() as deaf,
    ):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(_SECONDS)
        deaf.connect(agent.addresses[0])
        for number in range(1, _MANY):
            deaf.sendall(_good(number))
            if not talkative.comes_to(number, 1.0):
                break
    assert len(talkative.begun) < _MANY - 1


_MANY = 400
"""So many answers are 24 MB: more than the system keeps for a connection."""
