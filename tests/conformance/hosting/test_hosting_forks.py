"""Hosts are forked from a template of their class, and nobody can tell them from spawned ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bollard.conformance.hosting.launch import SPAWN, close_templates
from bollard.conformance.hosting.process import DriverHost
from bollard.conformance.hosting.resources import Resources
from primary_rig import call

ODD = "odd_drivers:OddDriver"
Start = Callable[..., DriverHost]

# What an import may do that a fork would double, and the word that says so in the log.
UNSAFE = {
    "thread": ("import threading as t; t.Thread(target=t.Event().wait, daemon=True).start()", "thread"),
    "socket": ("import socket; kept = socket.socket()", "socket:"),
    "child": ("import subprocess; kept = subprocess.Popen(['sleep', '100'])", "'sleep'"),
    "file": ("import os, pathlib; pathlib.Path(os.environ['TMPDIR'], 'x').touch()", "TMPDIR"),
}
SOURCE = """
import logging, random
from odd_drivers import *
print("imported")
logging.getLogger("acme").debug("imported, too")
GENERATOR = random.Random()

class AcmeDriver(OddDriver):
    def get_volume(self, volume, call):
        return [random.random(), GENERATOR.random()]
"""


@pytest.fixture(autouse=True)
def no_templates(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins and ends without templates; this run's own coverage would forbid them."""
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    close_templates()
    yield
    close_templates()


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a driver's module; returns the name of its class."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(line: str) -> str:
        (tmp_path / "acme_forked.py").write_text(SOURCE + line)
        return "acme_forked:AcmeDriver"

    return write


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process brings about."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        threading.Event().wait(0.01)


def runs(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent(pid: int) -> int:
    """Return a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def drawn(host: DriverHost) -> Any:
    """Return random numbers of a host's driver."""
    host.construct({"password": "p"})
    return host.call("get_volume", "x", call())


def test_hosts_of_a_class_have_one_parent_and_nothing_else_in_common(acme: Any, start: Start) -> None:
    """Session, directory, output, log and random numbers are each host's own; the import is in all logs."""
    target = acme("")
    first, second = start(target), start(target)
    assert parent(first.pid) == parent(second.pid) != os.getpid()
    assert os.getsid(first.pid) == first.pid
    numbers = drawn(first) + drawn(second)
    assert len(set(numbers)) == len(numbers)
    for host in (first, second):
        assert host.files.output.read_text() == "imported\n"
        assert host.files.log.read_text().count("acme DEBUG imported, too") == 1
        assert Path(f"/proc/{host.pid}/fd/1").readlink() == host.files.output


def test_a_forked_host_holds_what_a_spawned_one_holds(start: Start) -> None:
    """Nothing of the template's or of another host's is open in it."""
    forked = [start(ODD) for _ in range(2)][1].resources()
    spawned = start(ODD, fork=False).resources()
    kinds = [[target.partition(":")[0].rpartition("/")[2] for _, target in r.fds] for r in (forked, spawned)]
    assert sorted(kinds[0]) == sorted(kinds[1])
    assert len(forked.threads) == len(spawned.threads)
    assert forked.children == {}


def test_hosts_can_be_spawned_on_demand(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """By argument or by environment variable, for a driver that is another one after a fork."""
    assert parent(start(ODD, fork=False).pid) == os.getpid()
    monkeypatch.setenv(SPAWN, "1")
    assert parent(start(ODD).pid) == os.getpid()


def test_a_host_whose_coverage_is_measured_is_spawned(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coverage begins with a process, so a fork would be lost to it."""
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", "")
    assert parent(start(ODD).pid) == os.getpid()


@pytest.mark.parametrize("what", UNSAFE)
def test_a_class_that_must_not_be_forked_is_spawned(acme: Any, start: Start, what: str) -> None:
    """An import that leaves a thread, a file, a process behind is done in each host, and the log says why."""
    line, word = UNSAFE[what]
    host = start(acme(line))
    assert parent(host.pid) == os.getpid()
    said = host.files.log.read_text().splitlines()[0]
    assert said.startswith("spawned, for acme_forked:AcmeDriver must not be forked: ")
    assert word in said


def test_a_killed_template_is_replaced(start: Start) -> None:
    """Its hosts go on, though nobody learns any more how they ended; the next one has a new parent."""
    old = start(ODD)
    template = parent(old.pid)
    assert template != os.getpid()
    os.kill(template, signal.SIGKILL)
    until(lambda: not runs(template))
    new = start(ODD)
    assert runs(parent(new.pid))
    assert parent(new.pid) not in (template, os.getpid())
    assert old.alive
    old.kill()
    assert old.ended() == "nobody saw how"
    new.kill()
    assert new.ended() == "signal 9"


def test_the_suite_holds_nothing_after_the_templates_were_closed(start: Start) -> None:
    """No socket, process or thread is left of hosts that were stopped, killed or died."""
    before = Resources.of(os.getpid())
    hosts = [start(ODD) for _ in range(3)]
    hosts[0].stop()
    hosts[1].kill()
    os.kill(hosts[2].pid, signal.SIGTERM)
    until(lambda: not hosts[2].alive)
    hosts[2].stop()
    assert [h.ended() for h in hosts] == ["exit code 0", "signal 9", "signal 15"]
    close_templates()
    # A thread that was joined may be seen in /proc for an instant yet.
    until(lambda: Resources.of(os.getpid()).since(before) == {})


def test_threads_may_start_hosts_at_once(tmp_path: Path) -> None:
    """They share one template, and each gets a host."""
    hosts: list[DriverHost] = []
    threads = [
        threading.Thread(target=lambda n=n: hosts.append(DriverHost.start(ODD, tmp_path / f"{n}")))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({h.pid for h in hosts}) == 4
    assert len({parent(h.pid) for h in hosts}) == 1
    for host in hosts:
        host.stop()


def test_what_is_registered_for_the_exit_runs(acme: Any, start: Start) -> None:
    """A host that is stopped ends as any Python program does."""
    host = start(acme("import atexit; atexit.register(print, 'at exit')"))
    host.stop()
    assert host.files.output.read_text() == "imported\nat exit\n"


def test_the_template_ends_with_the_suite(tmp_path: Path) -> None:
    """A suite that is killed leaves none behind."""
    script = (
        "import sys, time; from pathlib import Path;"
        "from bollard.conformance.hosting.process import DriverHost;"
        f"host = DriverHost.start({ODD!r}, Path({str(tmp_path)!r}));"
        "print(host.pid, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as suite:
        assert suite.stdout is not None
        pid = int(suite.stdout.readline())
        template = parent(pid)
        assert template != suite.pid
        suite.kill()
    until(lambda: not runs(pid) and not runs(template))
