"""The relay of datagrams: who answers whom, what is counted, what is lost."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from bollard.simulators.faults.udp import UdpRelay


@pytest.fixture
def server() -> Iterator[int]:
    """A server that answers each datagram with the same in capitals; yields its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while (got := sock.recvfrom(100))[0] != b"end":
                sock.sendto(got[0].upper(), got[1])

        thread = threading.Thread(target=serve)
        thread.start()
        yield sock.getsockname()[1]
        sock.sendto(b"end", sock.getsockname())
        thread.join()


def client(port: int) -> socket.socket:
    """A client that waits for at most half a minute."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(30)
    sock.connect(("127.0.0.1", port))
    return sock


def test_each_client_hears_its_own_answer(server: int) -> None:
    """Two clients of one relay each get what they asked for, and answers are counted."""
    with UdpRelay("127.0.0.1", server) as relay, client(relay.port) as one, client(relay.port) as two:
        one.send(b"a")
        two.send(b"b")
        assert (one.recv(10), two.recv(10)) == (b"A", b"B")
        assert (relay.answers, relay.lost) == (2, False)


def test_answers_are_lost_from_a_number_on(server: int) -> None:
    """What is lost was asked and answered; when the gate is open again, answers come again."""
    with UdpRelay("127.0.0.1", server) as relay, client(relay.port) as sock:
        relay.lose_from(2)
        sock.send(b"a")
        assert sock.recv(10) == b"A"
        assert (relay.answers, relay.lost) == (1, False)
        for word in (b"b", b"c"):
            sock.send(word)
        while relay.answers < 3:
            threading.Event().wait(0.01)
        assert (relay.answers, relay.lost) == (3, True)
        relay.lose_from(0)
        sock.send(b"d")
        assert sock.recv(10) == b"D"
        assert (relay.answers, relay.lost) == (1, False)


def test_a_closed_port_is_silence() -> None:
    """A server that is not there does not end the relay."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with UdpRelay("127.0.0.1", port) as relay, client(relay.port) as sock:
        sock.settimeout(0.2)
        for _ in range(2):
            sock.send(b"a")
            with pytest.raises(TimeoutError):
                sock.recv(10)
        assert relay.answers == 0
