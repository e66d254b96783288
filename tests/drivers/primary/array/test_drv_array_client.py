"""The array driver against an array that is slow, rude, gone, or not an array at all."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest

from bollard.core.spi import (
    Busy,
    Call,
    DeadlineExceeded,
    Host,
    Internal,
    InvalidArgument,
    NotFound,
    Outcome,
    StorageError,
    Unauthenticated,
    Unavailable,
    VolumeSpec,
    parse_options,
)
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.array.client import ArrayClient
from bollard.simulators.array import ArraySimulator, Defect
from bollard.transfer_objects.ids import HostId, VolumeId
from bollard.transfer_objects.secret import Secret
from primary_rig import MIB, WEB, call

PASSWORD = "canary-7f3a9c51-password"


def unopened(**options: object) -> ArrayDriver:
    """A driver that has not connected."""
    given = {"username": "admin", "password": PASSWORD, "pool": "pool-a", **options}
    return ArrayDriver(parse_options(ArrayDriver.Options, given))


def refusal(driver: ArrayDriver, seconds: float = 30.0) -> StorageError:
    """Return the error that opening gives, and assert that it shows no secret."""
    try:
        with pytest.raises(StorageError) as error:
            driver.open(call(seconds))
    finally:
        driver.close()
    assert PASSWORD not in f"{error.value} {error.value.detail} {error.value!r} {error.value.__cause__!r}"
    return error.value


# -- who is there -------------------------------------------------------------------------------------


def test_a_wrong_password_is_unauthenticated(options, caplog):
    """Wrong credentials are told as such, once, and no log shows the password."""
    with caplog.at_level(logging.DEBUG):
        error = refusal(ArrayDriver(parse_options(ArrayDriver.Options, options(password=PASSWORD))))
    assert isinstance(error, Unauthenticated)
    assert PASSWORD not in caplog.text


def test_a_missing_pool_is_not_found(options):
    """A pool that the array does not have is NotFound."""
    assert isinstance(
        refusal(ArrayDriver(parse_options(ArrayDriver.Options, options(pool="nowhere")))), NotFound
    )


def test_an_unknown_certificate_is_refused(options):
    """Without the array's authority nothing is sent, not even the login."""
    error = refusal(ArrayDriver(parse_options(ArrayDriver.Options, options(ca=None))))
    assert isinstance(error, Unavailable)
    assert error.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1",
        "ftp://127.0.0.1",
        "https://user:pw@127.0.0.1",
        "https://127.0.0.1/path",
        "https://127.0.0.1/?query",
        "not a url",
        "https://",
    ],
)
def test_urls_that_would_leak_or_mislead_are_refused(url):
    """Only https without path and credentials is taken; http needs the option that says so."""
    assert isinstance(refusal(unopened(url=url)), InvalidArgument)


@pytest.mark.parametrize("options", [{"ca": Path("/nowhere/ca.pem")}, {"ca": Path("/etc/hostname")}])
def test_a_bad_ca_file_is_told(options):
    """A CA file that is missing or no PEM is an invalid argument."""
    assert isinstance(refusal(unopened(url="https://127.0.0.1:1", **options)), InvalidArgument)


def test_a_bad_owner_is_told():
    """An owner that would not fit into names is refused."""
    with pytest.raises(InvalidArgument):
        unopened(url="https://127.0.0.1:1", owner="UPPER case")


def test_nobody_listens_is_unavailable(listen):
    """A refused connection is Unavailable and certainly not applied."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    error = refusal(unopened(url=f"https://127.0.0.1:{port}"))
    assert isinstance(error, Unavailable)
    assert error.outcome is Outcome.NOT_APPLIED


def test_use_without_open_is_typed(driver):
    """A driver that is not open, or closed again, says so; closing twice is harmless."""
    with pytest.raises(Internal):
        unopened(url="https://127.0.0.1:1").get_volume(WEB, call())
    driver.close()
    driver.close()
    with pytest.raises(Internal):
        driver.get_volume(WEB, call())


def test_sessions_are_given_back(array, options):
    """Seventy drivers opened and closed leave no session: the array allows 64 at a time."""
    for _ in range(70):
        driver = ArrayDriver(parse_options(ArrayDriver.Options, options()))
        driver.open(call())
        driver.close()


# -- time ---------------------------------------------------------------------------------------------


def _silence(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def _drip_header(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        connection.sendall(b"x")
        threading.Event().wait(0.02)


def _drip_body(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n")
    while True:
        connection.sendall(b" ")
        threading.Event().wait(0.02)


@pytest.mark.parametrize("serve", [_silence, _drip_header, _drip_body])
@pytest.mark.parametrize("tls", [False, True])
def test_the_deadline_holds_whatever_the_server_does(listen, array, serve, tls):
    """A server that is silent, or sends a byte now and then, holds nobody beyond the deadline."""
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*_certificate(array))

        def encrypted(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as wrapped:
                serve(wrapped)

        driver = unopened(url=f"https://127.0.0.1:{listen(encrypted)}", ca=array.ca)
    else:
        driver = unopened(url=f"http://127.0.0.1:{listen(serve)}", allow_http=True)
    started = time.monotonic()
    error = refusal(driver, seconds=0.4)
    assert time.monotonic() - started < 20
    assert isinstance(error, DeadlineExceeded)


def _certificate(array: ArraySimulator) -> tuple[Path, Path]:
    tls = array.state_dir / "tls"
    return next(tls.glob("*server*cert*"), tls / "server.pem"), next(tls.glob("*server*key*"))


def test_the_timeout_of_a_request_is_shorter_than_the_call(listen):
    """A request that takes longer than the option allows is Unavailable, with the call's time left."""
    error = refusal(unopened(url=f"http://127.0.0.1:{listen(_silence)}", allow_http=True, timeout=0.2))
    assert isinstance(error, Unavailable)


def test_a_call_that_is_late_sends_nothing(driver, array):
    """A call whose deadline has passed, or that was cancelled, ends before anything is sent."""
    array.reset_stats()
    late, cancelled = call(-1), call()
    cancelled.cancel.set()
    for one in (late, cancelled):
        with pytest.raises(DeadlineExceeded) as error:
            driver.create_volume(VolumeSpec(id=WEB, size=MIB), one)
        assert error.value.outcome is Outcome.NOT_APPLIED
    assert array.stats() == {}


def test_a_slow_write_is_unknown_and_a_slow_read_is_not(driver, array):
    """When time runs out on a request that changes something, the outcome is unknown; the retry converges."""
    array.defects.set_latency("POST /volumes", 1.0)
    try:
        with pytest.raises(DeadlineExceeded) as error:
            driver.create_volume(VolumeSpec(id=WEB, size=MIB), call(0.4))
        assert error.value.outcome is Outcome.UNKNOWN
        array.defects.set_latency("POST /volumes", 0)
        array.defects.set_latency("GET /volumes", 1.0)
        with pytest.raises(DeadlineExceeded) as error:
            driver.get_volume(WEB, call(0.3))
        assert error.value.outcome is Outcome.NOT_APPLIED
    finally:
        array.defects.replace_latencies({})
    assert driver.create_volume(VolumeSpec(id=WEB, size=MIB), call()).size == MIB


# -- answers ------------------------------------------------------------------------------------------


def _request(stream: IO[bytes]) -> bytes:
    """Read one request to its end; return its first line, empty when the client has gone."""
    first = line = stream.readline()
    length = 0
    while line.strip():
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
        line = stream.readline()
    stream.read(length)
    return first


def http(status: str, body: bytes, *headers: str) -> Callable[[socket.socket], None]:
    """A server that gives one answer to everything."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]

    def serve(connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        while _request(stream):
            connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    return serve


JSON = "Content-Type: application/json"
HTML = "Content-Type: text/html"


@pytest.mark.parametrize(
    ("serve", "kind"),
    [
        (http("200 OK", b"<html>Please log in</html>", HTML), Internal),
        (http("404 Not Found", b"<html>nginx</html>", HTML), Internal),
        (http("401 Unauthorized", b"<html>proxy</html>", HTML), Internal),
        (http("503 Service Unavailable", b"<html>maintenance</html>", HTML), Unavailable),
        (http("502 Bad Gateway", b"", HTML), Unavailable),
        (http("200 OK", b"[1, 2]", JSON), Internal),
        (http("200 OK", b'{"token": 7}', JSON), Internal),
        (http("200 OK", b"{", JSON), Internal),
        (http("200 OK", b'{"a":' * 100_000, JSON), Internal),
        (http("500 Oops", b'{"code": "internal_error", "message": "x"}', JSON), Internal),
        (http("302 Found", b"", "Location: https://elsewhere.example/"), Internal),
        (http("507 Full", b'{"code": "odd"}', JSON), StorageError),
        (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), Unavailable),
        (lambda _: None, Unavailable),
    ],
)
def test_answers_that_are_not_the_arrays_are_typed(listen, serve, kind):
    """HTML, redirects, garbage and nonsense each give a typed error, never "not found"."""
    error = refusal(unopened(url=f"http://127.0.0.1:{listen(serve)}", allow_http=True))
    assert isinstance(error, kind)
    assert not isinstance(error, NotFound)


def test_a_huge_answer_is_not_read(listen):
    """An answer without end is given up after a few megabytes."""

    def endless(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(f"HTTP/1.1 200 OK\r\n{JSON}\r\n\r\n".encode())
        while True:
            connection.sendall(b" " * 65536)

    error = refusal(unopened(url=f"http://127.0.0.1:{listen(endless)}", allow_http=True))
    assert isinstance(error, Internal)


def test_a_gateway_timeout_on_a_write_is_unknown(listen):
    """A proxy's 504 leaves open whether the array made the volume, so the outcome is unknown."""

    def serve(connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        while first := _request(stream):
            if b"/sessions" in first:
                status, body = "201 Created", b'{"token": "t"}'
            elif first.startswith(b"GET"):
                status, body = "200 OK", b'{"items": [], "next": null}'
            else:
                status, body = "504 Gateway Timeout", b""
            head = f"HTTP/1.1 {status}\r\n{JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)

    driver = unopened(url=f"http://127.0.0.1:{listen(serve)}", allow_http=True)
    driver._opened = ArrayClient(driver.options)
    with pytest.raises(Unavailable) as error:
        driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    assert error.value.outcome is Outcome.UNKNOWN
    driver.close()


# -- throttling, sessions, secrets --------------------------------------------------------------------


def test_throttling_is_waited_out(tmp_path, connect):
    """A rate limit slows the driver down by what Retry-After says, and nothing fails."""
    with ArraySimulator(tmp_path, pools={"pool-a": 1 << 30}, rate_limit=20) as simulator:
        driver = connect(url=simulator.url, ca=simulator.ca, password=simulator.admin_password)
        for number in range(15):
            driver.create_volume(VolumeSpec(id=VolumeId(f"v{number}"), size=MIB), call())
        assert len(driver.list_volumes(call()).items) == 15
        driver.close()


def test_a_wait_that_is_too_long_is_passed_on(listen):
    """A Retry-After beyond the deadline is not slept through: Busy with the time that was asked."""
    body = b'{"code": "rate_limited", "message": "slow down"}'
    serve = http("429 Too Many Requests", body, JSON, "Retry-After: 600")
    started = time.monotonic()
    error = refusal(unopened(url=f"http://127.0.0.1:{listen(serve)}", allow_http=True), seconds=60)
    assert time.monotonic() - started < 30
    assert isinstance(error, Busy)
    assert (error.retry_after, error.outcome) == (600.0, Outcome.NOT_APPLIED)


def test_an_expired_session_is_renewed(tmp_path, connect):
    """When the token expires, calls go on with a new one; several threads share it."""
    now = [time.time()]
    simulator = ArraySimulator(
        tmp_path, pools={"pool-a": 1 << 30}, session_seconds=10.0, session_limit=2, clock=lambda: now[0]
    )
    with simulator:
        driver = connect(url=simulator.url, ca=simulator.ca, password=simulator.admin_password)
        for _ in range(5):
            now[0] += 60
            threads = [threading.Thread(target=driver.list_volumes, args=(call(),)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert simulator.stats()["POST /sessions"] == 6
        driver.close()


def test_an_array_that_echoes_secrets_is_not_quoted(driver, array, caplog):
    """What the array repeats of a CHAP secret appears in no error and no log."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    bad = Host(id=HostId("h"), iqn="iqn.2024-01.org.example:h", chap_user="u", chap_secret=Secret("canary ü"))
    array.defects.set(Defect.PASSWORD_ECHOED_IN_ERROR)
    try:
        with caplog.at_level(logging.DEBUG), pytest.raises(InvalidArgument) as error:
            driver.grant(WEB, bad, call())
    finally:
        array.defects.clear()
    assert "canary" not in f"{error.value} {error.value.detail}{caplog.text}"
    assert "***" in str(error.value)


def test_time_that_ran_out_after_a_change_leaves_it_unknown(options):
    """A wait that follows a change and finds no time left does not tell it as not applied."""
    now = [0.0]
    with closing(ArrayClient(parse_options(ArrayDriver.Options, options()))) as client:
        talk = client.talk(Call(deadline=60.0, clock=lambda: now[0]))
        talk.post("/volumes", {"name": "late", "size": MIB, "pool": "pool-a"})
        now[0] = 61.0
        with pytest.raises(DeadlineExceeded) as caught:
            talk.wait(1)
    assert caught.value.outcome is Outcome.UNKNOWN
