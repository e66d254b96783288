"""The host as a process: killed, stopped, and looked at from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bollard.conformance.hosting.failures import DriverRaised, NotHostable
from bollard.conformance.hosting.process import DriverHost
from bollard.conformance.hosting.resources import CHILDREN, FDS, THREADS
from bollard.core.spi import InvalidArgument, Outcome, Unavailable
from odd_drivers import LeakyDriver, OddDriver
from primary_rig import call

Hosted = Callable[..., Any]


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for what another process brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        threading.Event().wait(0.01)


def runs(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_kill_ends_the_calls_under_way(odd: Any) -> None:
    """Theirs is an unknown outcome; a later call was never sent; closing what is dead succeeds."""
    failures: list[Unavailable] = []

    def wait() -> None:
        try:
            odd.get_volume("until-stopped", call())
        except Unavailable as error:
            failures.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: odd.host.files.log.read_text().count("-> get_volume") == 3)
    odd.host.kill()
    for thread in threads:
        thread.join()
    assert [(str(e), e.outcome) for e in failures] == [
        ("the driver host is dead (signal 9)", Outcome.UNKNOWN)
    ] * 3
    with pytest.raises(Unavailable, match="signal 9") as caught:
        odd.traits()
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert not runs(odd.host.pid)
    odd.close()
    odd.host.kill()


def test_a_stream_of_a_dead_host_ends_with_an_error(odd: Any) -> None:
    """It never ends early as if it were complete."""
    stream = odd.changed(None, "x", call())
    next(stream)
    odd.host.kill()
    with pytest.raises(Unavailable):
        list(stream)


def test_closing_closes_the_driver_twice_and_ends_the_host(odd: Any) -> None:
    """The driver's own close runs over there, again, and then the process goes; its threads here go, too."""
    odd.close()
    odd.close()
    assert odd.host.ended() == "exit code 0"
    assert not [t for t in threading.enumerate() if t.name == "bollard-host-reader"]


def test_a_host_shows_what_it_holds(odd: Any) -> None:
    """Threads with Python's names, files, children; the host's own threads are not among them."""
    before = odd.host.resources()
    odd.get_volume("text", call())
    other = threading.Thread(target=odd.get_volume, args=("text", call()))
    other.start()
    other.join()
    assert odd.host.resources().since(before) == {}
    odd.get_volume("leak", call())
    found = odd.host.resources().since(before)
    assert sorted(leak for leak, _ in found) == sorted([THREADS, FDS, CHILDREN])
    words = " ".join(found.values())
    assert "thread 'acme-poller'" in words
    assert "-> /dev/null" in words
    assert "'sleep'" in words


def test_what_a_driver_leaves_after_close_is_told(hosted: Hosted) -> None:
    """Threads, files and children that its close did not end are in `left`, and gone with `stop`."""
    leaky = hosted(LeakyDriver)
    leaky.get_volume("leak", call())
    children = leaky.host.resources().children
    leaky.close()
    assert sorted(leak for leak, _ in leaky.host.left) == sorted([THREADS, FDS, CHILDREN])
    assert not leaky.host.alive
    until(lambda: not any(runs(pid) for pid in children))


def test_children_outlive_a_killed_host_until_it_is_stopped(odd: Any) -> None:
    """As in real life: SIGKILL takes one process, and what it had started goes on."""
    odd.get_volume("leak", call())
    (child,) = odd.host.resources().children
    odd.host.kill()
    assert [p.pid for p in odd.host.orphans()] == [child]
    odd.host.stop()
    until(lambda: not runs(child))


def test_the_environment_is_scrubbed(hosted: Hosted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver sees what every program needs and what it was given; temporary files are found again."""
    monkeypatch.setenv("ACME_TOKEN", "of the user's shell")
    odd = hosted(OddDriver, env={"ACME_DEBUG": "1"})
    seen = odd.get_volume("environ", call())
    assert "ACME_TOKEN" not in seen
    assert "PYTHONPATH" not in seen
    assert (seen["ACME_DEBUG"], seen["TMPDIR"]) == ("1", str(odd.host.files.temp))
    assert odd.host.files.temp.is_dir()


def test_a_constructor_that_fails_leaves_no_host(hosted: Hosted) -> None:
    """What it raised is told, and its process is gone."""
    with pytest.raises(DriverRaised, match="1/0 in the SDK"):
        hosted(OddDriver, {"password": "p", "at_start": "foreign"})
    with pytest.raises(Unavailable, match="exit code 3"):
        hosted(OddDriver, {"password": "p", "at_start": "os-exit"})
    assert not [t for t in threading.enumerate() if t.name == "bollard-host-reader"]


def test_options_are_parsed_over_there(start: Any) -> None:
    """The rules of the options hold in the host, too."""
    host: DriverHost = start("odd_drivers:OddDriver")
    with pytest.raises(InvalidArgument, match="'colour' is unknown"):
        host.construct({"colour": "blue"})


@pytest.mark.parametrize("target", ["no_such_module:X", "odd_drivers:NoSuchClass"])
def test_a_class_that_cannot_be_loaded_is_told(start: Any, target: str) -> None:
    """A wrong name is an error that says which, and leaves no process."""
    with pytest.raises(NotHostable, match=target):
        start(target)


def test_the_host_ends_with_the_suite(tmp_path: Path) -> None:
    """A suite that is killed leaves no host behind."""
    script = (
        "import sys, time; from pathlib import Path;"
        "from bollard.conformance.hosting.process import DriverHost;"
        f"host = DriverHost.start('odd_drivers:OddDriver', Path({str(tmp_path)!r}));"
        "print(host.pid, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as suite:
        assert suite.stdout is not None
        pid = int(suite.stdout.readline())
        assert runs(pid)
        suite.kill()
    until(lambda: not runs(pid))
