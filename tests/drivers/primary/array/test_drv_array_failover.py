"""An array with two controllers: one of them may fail at any time."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from array_rig import read, spec, write
from bollard.core.spi import Call, DeadlineExceeded, Outcome, StorageError, Unavailable, parse_options
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.array.client import ArrayClient
from bollard.simulators.array import ArraySimulator
from primary_rig import MIB, WEB, call

A, B = 0, 1


@pytest.fixture
def twin(tmp_path) -> Iterator[ArraySimulator]:
    """An array with two controllers."""
    with ArraySimulator(tmp_path / "array", pools={"gold": 64 * MIB}, controllers=2, job_seconds=0.0) as one:
        yield one


@pytest.fixture
def connected(twin) -> Iterator[ArrayDriver]:
    """A driver that knows both."""
    driver = ArrayDriver(parse_options(ArrayDriver.Options, options(twin)))
    driver.open(call())
    yield driver
    driver.close()


def options(twin: ArraySimulator) -> dict[str, Any]:
    """What an administrator writes."""
    return {
        "url": twin.urls[A],
        "standby_url": twin.urls[B],
        "username": twin.admin_user,
        "password": twin.admin_password,
        "pool": "gold",
        "ca": twin.ca,
    }


def test_a_failed_controller_costs_nobody_a_call(twin, connected) -> None:
    """Whichever fails, the calls go on at the other one, and come back when that one fails."""
    connected.create_volume(spec(WEB), call())
    write(connected, WEB, 1)
    for failed in (A, B, A):
        twin.fail_controller(failed)
        assert connected.get_volume(WEB, call()).size == MIB
        assert read(connected, WEB, length=2) == bytes([1, 1])
        twin.repair_controller(failed)


def test_both_down_is_told_and_nothing_is_claimed(twin, connected) -> None:
    """Without a controller the error says "not applied"; with one again, the call is done."""
    twin.fail_controller(A)
    twin.fail_controller(B)
    with pytest.raises(Unavailable) as error:
        connected.create_volume(spec(WEB), call())
    assert error.value.outcome is Outcome.NOT_APPLIED
    twin.repair_controller(B)
    assert connected.create_volume(spec(WEB), call()).id == WEB


@pytest.mark.parametrize("after", [False, True])
def test_failing_at_any_request_is_survived(twin, connected, monkeypatch, after) -> None:
    """A controller that fails before or after any request of a call does not even cost a repeat."""
    for number in count():
        struck = _fails_at(twin, monkeypatch, number, after=after)
        volume = f"v-{after}-{number}".lower()
        connected.create_volume(spec(volume), call())
        monkeypatch.undo()
        twin.repair_controller(A)
        twin.repair_controller(B)
        assert [v.id for v in connected.list_volumes(call()).items].count(volume) == 1
        if not struck():
            assert number > 1
            return


def _fails_at(
    twin: ArraySimulator, monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool
) -> Callable[[], bool]:
    """Let the controller that is asked fail at this request from now on; tell whether it came to that."""
    asked, sent = ArrayClient._ask, count()
    struck = []

    def ask(client: ArrayClient, *given: Any, **more: Any) -> Any:
        strikes = next(sent) == number
        if strikes:
            struck.append(number)
            at = client._controllers.index(client._current)
        if strikes and not after:
            twin.fail_controller(at)
        answer = asked(client, *given, **more)
        if strikes and after:
            twin.fail_controller(at)
        return answer

    monkeypatch.setattr(ArrayClient, "_ask", ask)
    return lambda: bool(struck)


def test_a_controller_that_hangs_is_left(twin) -> None:
    """A call whose time a silent controller used up is the last that asks it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        given = {**options(twin), "url": f"https://127.0.0.1:{silent.getsockname()[1]}"}
        client = ArrayClient(parse_options(ArrayDriver.Options, given))
        with pytest.raises(DeadlineExceeded):
            client.talk(Call.within(0.3)).get("/system")
        assert client.talk(Call.within(10)).get("/system")
        client.close()


def test_a_lost_login_changes_nothing_that_matters(lossy_proxy, tmp_path) -> None:
    """The answer to a login is lost: the other controller is asked within the same call."""
    with ArraySimulator(
        tmp_path / "array", pools={"gold": 64 * MIB}, controllers=2, tls=False, password="pw"
    ) as array:
        lossy_proxy.connect_to(array.urls[A])
        given = {"url": lossy_proxy.url, "standby_url": array.urls[B], "allow_http": True}
        given |= {"username": "admin", "password": "pw", "pool": "gold"}
        driver = ArrayDriver(parse_options(ArrayDriver.Options, given))
        lossy_proxy.arm(0)
        assert driver.open(call()).name
        assert lossy_proxy.seen == 1
        driver.close()


def test_a_standby_without_tls_is_refused(twin) -> None:
    """The second address is held to the rules of the first, and named."""
    given = {**options(twin), "standby_url": "http://127.0.0.1:1"}
    with pytest.raises(StorageError, match="option 'standby_url' must be https"):
        ArrayDriver(parse_options(ArrayDriver.Options, given)).open(Call.within(5))
