"""What a client of the TCP fault proxy sees in front of an echo server."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from bollard.simulators.faults import Exchange, Fault, FaultKind, FaultProxy, FaultsNotHit
from bollard.simulators.faults.tcp import TcpProxy


class EchoServer(socketserver.ThreadingTCPServer):
    """Counts bytes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.received = 0
        self.broken = threading.Event()


class Echo(socketserver.BaseRequestHandler):
    """Gives back what it gets, and the end, too."""

    server: EchoServer

    def handle(self) -> None:
        """Run one connection."""
        try:
            while data := self.request.recv(65536):
                self.server.received += len(data)
                self.request.sendall(data)
        except ConnectionError:
            self.server.broken.set()


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    """A running echo server."""
    with EchoServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def waited() -> list[float]:
    """The seconds that the proxy would have slept."""
    return []


@pytest.fixture
def proxy(echo, waited) -> Iterator[TcpProxy]:
    """In front of the echo server."""
    with FaultProxy.tcp("127.0.0.1", echo.server_address[1], wait=waited.append) as running:
        yield running


def talk(proxy: TcpProxy, data: bytes) -> bytes:
    """What comes back until the end; ConnectionResetError keeps what came before it."""
    received = bytearray()
    resets: list[ConnectionResetError] = []  # the kernel tells only one of two threads of a reset
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as sock:
        sender = threading.Thread(target=send, args=(sock, data, resets))
        sender.start()
        try:
            while piece := sock.recv(65536):
                received += piece
        except ConnectionResetError as error:
            resets.append(error)
        sender.join()
    if resets:
        raise ConnectionResetError(bytes(received)) from resets[0]
    return bytes(received)


def send(sock: socket.socket, data: bytes, resets: list[ConnectionResetError]) -> None:
    """Send all and say that it is all; the other side may be gone."""
    try:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except ConnectionResetError as error:
        resets.append(error)
    except OSError:
        return


DATA = bytes(range(256)) * 2000


def test_streams_pass_unchanged(proxy):
    """Both directions, with their ends; a connection is an exchange."""
    assert talk(proxy, DATA) == DATA
    assert [(one.number, one.method, one.fault) for one in proxy.exchanges] == [(1, "connect", None)]


def test_reset_after_bytes(proxy):
    """Exactly so many bytes arrive, then RST."""
    proxy.plan([Fault.reset(2, at=5000)])
    assert talk(proxy, b"x" * 6000) == b"x" * 6000
    with pytest.raises(ConnectionResetError) as caught:
        talk(proxy, DATA)
    assert caught.value.args[0] == DATA[:5000]
    assert proxy.exchanges[1].fault is FaultKind.RESET
    proxy.finish()


def test_reset_of_the_request_stream(proxy, echo):
    """The backend gets so many bytes, and both sides are reset."""
    proxy.plan([Fault.reset(at=5000, of_request=True)])
    with pytest.raises(ConnectionResetError):
        talk(proxy, DATA)
    assert echo.broken.wait(10)
    assert echo.received == 5000


def test_truncate(proxy):
    """So many bytes, then an end that looks normal."""
    proxy.plan([Fault.truncate(at=100)])
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as sock:
        sock.sendall(b"x" * 200)
        with sock.makefile("rb") as reader:
            assert reader.read() == b"x" * 100
    proxy.finish()


@pytest.mark.parametrize("of_request", [False, True])
def test_garble_one_byte(proxy, of_request):
    """The byte at that place has all bits inverted, the others arrive as they were."""
    proxy.plan([Fault.garble(at=300_003, of_request=of_request)])
    back = talk(proxy, DATA)
    assert [place for place in range(len(DATA)) if back[place] != DATA[place]] == [300_003]
    assert back[300_003] == 255 - DATA[300_003]
    proxy.finish()


def test_place_that_is_never_reached(proxy):
    """A stream that ends before the place is not struck, and the plan says so."""
    proxy.plan([Fault.garble(at=1000)])
    assert talk(proxy, b"short") == b"short"
    with pytest.raises(FaultsNotHit, match="at=1000"):
        proxy.finish()


def test_delay_and_drip(proxy, waited):
    """The first byte waits once; a drip waits for each tenth of a second's worth."""
    proxy.plan([Fault.delay(1, seconds=9), Fault.drip(2, bytes_per_second=100)])
    assert talk(proxy, b"x" * 50) == b"x" * 50
    assert waited == [9]
    assert talk(proxy, b"x" * 50) == b"x" * 50
    assert waited[1:] == [0.1] * 5
    proxy.finish()


def test_black_hole(proxy, echo):
    """Accepted, swallowed, never answered."""
    proxy.plan([Fault.black_hole()])
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.2) as sock:
        sock.sendall(b"anybody?")
        with pytest.raises(TimeoutError):
            sock.recv(1)
    assert echo.received == 0
    proxy.finish()


def test_refuse(proxy):
    """The second connection is reset, the third works; refusing() closes the port for real."""
    proxy.plan([Fault.refuse(2)])
    assert talk(proxy, b"1") == b"1"
    with pytest.raises(ConnectionResetError):
        talk(proxy, b"2")
    assert talk(proxy, b"3") == b"3"
    proxy.finish()
    with proxy.refusing(), pytest.raises(ConnectionRefusedError):
        talk(proxy, b"4")


def test_dead_backend():
    """A backend that refuses is a reset."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with FaultProxy.tcp("127.0.0.1", port) as proxy:
            with pytest.raises(ConnectionResetError):
                talk(proxy, b"x")
            assert proxy.exchanges == [Exchange(1, "connect", f"127.0.0.1:{port}")]


def test_no_duplicate(proxy):
    """A stream has no messages; the error says that."""
    with pytest.raises(ValueError, match="no messages"):
        proxy.plan([Fault.duplicate()])


def test_stop_ends_open_connections(proxy):
    """stop() leaves no thread behind, even with a silent client."""
    before = threading.active_count()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        proxy.stop()
        assert sock.recv(1) == b""
    assert threading.active_count() < before + 1
