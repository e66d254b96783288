"""The child process: it is gone when the call is over, or its parent; and it shows no secret."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bmc_rig import PASSWORD, children, ended, eventually, ipmi, lives, workers
from bollard.core.spi import Call, DeadlineExceeded, Internal, StorageError
from bollard.drivers.fence.child import Exchange
from bollard.simulators.bmc import BmcSimulator
from bollard.transfer_objects.secret import Secret

_PARENT = """
import sys
sys.path[:0] = sys.argv[2:]
from bmc_rig import ipmi
from bollard.core.spi import Call
try:
    ipmi(int(sys.argv[1]), timeout=2.0).power_state(Call.within())
except Exception as error:
    print(repr(error))
"""


def start_parent(port: int) -> subprocess.Popen[bytes]:
    """Start a process that asks a BMC; the password comes by a variable, as it may."""
    here = str(Path(__file__).parents[2] / "lib")
    env = {**os.environ, "BMC_PASSWORD": PASSWORD}
    return subprocess.Popen([sys.executable, "-c", _PARENT, str(port), here], env=env, stdout=subprocess.PIPE)


@pytest.fixture
def frozen(bmc: BmcSimulator) -> BmcSimulator:
    """A BMC that freezes at the login: pyghmi repeats it for ever."""
    bmc.defects.update({"freeze_login": True})
    return bmc


def test_no_process_after_the_deadline(frozen: BmcSimulator):
    """A child that waits for ever is dead, and reaped, when the call ends."""
    seen: list[int] = []

    def look() -> None:
        eventually(lambda: workers(os.getpid()))
        seen.extend(workers(os.getpid()))

    watcher = threading.Thread(target=look)
    watcher.start()
    with pytest.raises(DeadlineExceeded):
        ipmi(frozen.port).power_state(Call.within(1.0))
    watcher.join()
    assert seen
    assert not any(Path(f"/proc/{pid}").exists() for pid in seen)


def test_cancel_ends_it(frozen: BmcSimulator):
    """A cancelled call ends at once, and its child."""
    call = Call.within(60)
    threading.Timer(0.4, call.cancel.set).start()
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="cancelled"):
        ipmi(frozen.port).power_off(call)
    assert time.monotonic() - began < 20
    assert not workers(os.getpid())


def test_cancel_between_readings(bmc: BmcSimulator):
    """A cancelled call does not wait for the second reading."""
    call = Call.within(60)

    def give_up() -> None:
        eventually(lambda: "read off" in bmc.chassis.log)
        call.cancel.set()

    reader = threading.Thread(target=give_up)
    reader.start()
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="cancelled"):
        ipmi(bmc.port, confirm_after=30.0).power_off(call)
    reader.join()
    assert time.monotonic() - began < 25


def test_dies_with_its_parent(frozen: BmcSimulator):
    """`kill -9` of the caller leaves no child."""
    with ended(start_parent(frozen.port)) as parent:
        eventually(lambda: workers(parent.pid))
        found = workers(parent.pid)
        parent.kill()
        parent.wait()
        eventually(lambda: not any(lives(pid) for pid in found), 1.5)


def test_ends_though_its_parent_is_stopped(frozen: BmcSimulator):
    """A caller that is stopped cannot kill; the child's own timer does, a second after the limit."""
    with ended(start_parent(frozen.port)) as parent:
        eventually(lambda: workers(parent.pid))
        os.kill(parent.pid, signal.SIGSTOP)
        eventually(lambda: not children(parent.pid), 5.0)


def test_secret_shows_nowhere(frozen: BmcSimulator):
    """The password is in the child's arguments as little as in its environment, wherever it came from."""
    with ended(start_parent(frozen.port)) as parent:
        eventually(lambda: workers(parent.pid))
        [child] = workers(parent.pid)
        for name in ("cmdline", "environ"):
            shown = Path(f"/proc/{child}/{name}").read_bytes()
            assert shown
            assert PASSWORD.encode() not in shown
        assert PASSWORD.encode() in Path(f"/proc/{parent.pid}/environ").read_bytes()


@pytest.mark.parametrize("options", [{}, {"username": "nobody"}, {"password": "anothers3cret"}])
def test_secret_is_in_no_error(bmc: BmcSimulator, options):
    """Neither repr nor text of driver, options and errors shows the password."""
    fence = ipmi(bmc.port, timeout=0.5, **options)
    bmc.defects.update({"freeze_session": True})
    with pytest.raises(StorageError) as raised:
        fence.power_off(Call.within())
    told = " ".join(
        map(repr, (raised.value, raised.value.detail, raised.value.to_json(), fence.options, vars(fence)))
    )
    assert "s3cret" not in told


def test_what_a_child_cannot_do(tmp_path: Path, monkeypatch):
    """An exchange that fails unforeseen is an `Internal` with the type of the failure, and not its text."""
    (tmp_path / "broken_session.py").write_text(
        "def exchange(request, stage): raise ValueError(request['password'])"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(Internal, match="failed with ValueError") as raised:
        Exchange("broken_session", {}, Secret(PASSWORD), 5.0).run(Call.within())
    assert PASSWORD not in str(raised.value)


def test_a_child_that_dies(tmp_path: Path, monkeypatch):
    """A child that ends without a word is an `Internal`; after the command, with an unknown outcome."""
    (tmp_path / "dying_session.py").write_text(
        "import os\ndef exchange(request, stage):\n stage('command')\n os.kill(os.getpid(), 9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(Internal, match="died") as raised:
        Exchange("dying_session", {}, Secret(PASSWORD), 5.0).run(Call.within())
    assert raised.value.outcome == "unknown"


def test_what_a_library_prints(tmp_path: Path, monkeypatch):
    """What a library prints on standard output does not reach the pipe."""
    (tmp_path / "loud_session.py").write_text(
        "def exchange(request, stage):\n print('{', flush=True)\n return 'off'\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert Exchange("loud_session", {}, Secret(PASSWORD), 5.0).run(Call.within()) == "off"
