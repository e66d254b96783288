"""`bollard` as a process: signals, simulators in the foreground, completion, and the demo."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bollard.simulators.array import ArraySimulator
from qcow2_rig import until

BOLLARD = [sys.executable, "-m", "bollard"]
SCRIPT = Path(sys.executable).with_name("bollard")


def _hear_ctrl_c() -> None:
    """A shell's `pytest &` ignores SIGINT, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def _running(*arguments: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command line; it is killed at the end unless it has ended."""
    child = subprocess.Popen(
        [*BOLLARD, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        preexec_fn=_hear_ctrl_c,
    )
    with child:
        try:
            yield child
        finally:
            child.kill()


def _processes_with(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended just now
        if text in words and path.parent.name != str(os.getpid()):
            found.append(words)
    return found


def test_module_and_script_are_the_same(home):
    """`python -m bollard` and `bollard` give one JSON document and exit code 0."""
    for program in (BOLLARD, [str(SCRIPT)]):
        command = [*program, "pool", "list", "--json"]
        done = subprocess.run(command, capture_output=True, timeout=60, check=True)
        assert [row["pool"] for row in json.loads(done.stdout)] == ["files", "ssd-1"]
        assert done.stderr == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_command(home, number):
    """Ctrl-C and SIGTERM end a command that waits with exit code 130 and no traceback."""
    config = home / "fifo.toml"
    os.mkfifo(config)
    # The second open returns when the command has opened the file, too.
    with _running("--config", config, "pool", "list") as child, config.open("wb"):
        # In read(2) it is woken; a signal that comes just before that waits for it to return.
        until(lambda: "pipe_read" in Path(f"/proc/{child.pid}/wchan").read_text(), 60)
        child.send_signal(number)
        out, errors = child.communicate(timeout=60)

    assert child.returncode == 130
    assert out == ""
    assert "Traceback" not in errors


@pytest.mark.parametrize("name", ["array", "swift", "s3", "hypervisor"])
def test_simulator_serves_until_sigterm(home, name):
    """It prints one line that says where it serves, and ends cleanly."""
    more = ["--pool", "gold=1G"] if name == "array" else []
    users = json.dumps({"demo:demo": "not-a-secret"})
    state = home / f"sim-{name}"
    state.mkdir()
    with _running("simulate", name, "--state", state, *more, BOLLARD_SWIFT_USERS=users) as child:
        assert child.stdout
        assert select.select([child.stdout], [], [], 60)[0]
        ready = json.loads(child.stdout.readline())
        assert "://127.0.0.1:" in ready["url"]
        child.send_signal(signal.SIGTERM)
        out, errors = child.communicate(timeout=60)

    assert (child.returncode, out) == (0, ""), errors


def test_second_simulator_of_one_directory_is_refused(bollard, home):
    """It says who is in the way, without a traceback."""
    with ArraySimulator(home / "sim", tls=False):
        done = bollard("simulate", "array", "--state", home / "sim", "--insecure-http")

    assert done.code == 1
    assert "another simulator serves" in done.err


def test_simulator_explains_itself(bollard):
    """--help and wrong options are the simulator's own."""
    shown = bollard("simulate", "array", "--help")
    assert shown.code == 0
    assert "--insecure-http" in shown.out
    assert bollard("simulate", "array", "--nonsense").code == 2
    assert "array" in bollard("simulate", "--help").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(home, shell):
    """Each shell's script can be generated, and completes our commands."""
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run(
        [SCRIPT, "--show-completion", shell],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment,
    )
    assert "_BOLLARD_COMPLETE" in shown.stdout
    if shell != "bash":
        return
    words = {"COMP_WORDS": "bollard arch", "COMP_CWORD": "1", "_BOLLARD_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [SCRIPT], capture_output=True, text=True, timeout=60, check=True, env={**environment, **words}
    )
    assert done.stdout.split() == ["archive"]


# -- the demo -----------------------------------------------------------------------------------------


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where the demo works. A short name: unix sockets below it have room for some 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="bollard-test-") as directory:
        yield Path(directory)


@pytest.mark.real
@pytest.mark.slow
def test_demo_tells_the_whole_story(home, scratch):
    """It ends well, in one JSON document, with no process and no file left behind."""
    with _running("demo", "--size", "256MiB", "--data", "16MiB", "--json", TMPDIR=str(scratch)) as child:
        out, errors = child.communicate(timeout=280)
    told = json.loads(out)

    assert child.returncode == 0, errors
    acts = [line["act"] for line in told["acts"] if "act" in line]
    assert len(acts) == 11
    [stored] = [line for line in told["acts"] if "full" in line]
    assert 16 * 2**20 <= stored["full"] < 24 * 2**20
    assert 0 < stored["increment"] < stored["full"]
    assert list(scratch.iterdir()) == []
    assert _processes_with(str(scratch)) == []


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_cleans_up(home, scratch, number):
    """Ctrl-C in the middle: 130, every simulator stops, the directory goes."""
    with _running("demo", "--size", "256MiB", "--data", "16MiB", TMPDIR=str(scratch)) as child:
        assert child.stderr
        while "archive it to S3" not in (line := child.stderr.readline()):
            assert line, "the demo ended before it was interrupted"
        assert len(_processes_with(str(scratch))) >= 3
        child.send_signal(number)
        _, errors = child.communicate(timeout=120)

    assert child.returncode == 130, errors
    assert list(scratch.iterdir()) == []
    assert _processes_with(str(scratch)) == []


@pytest.mark.real
def test_demo_of_too_much_data_says_so(bollard, tmp_path, monkeypatch):
    """More files than the volume holds is bad input, not a traceback."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = bollard("demo", "--size", "16MiB", "--data", "32MiB", "--json")

    assert done.code == 2
    assert "--size" in done.json["error"]["message"]


def test_demo_without_its_tools_says_so(bollard, home, monkeypatch):
    """A machine without QEMU is told what to install before anything is started."""
    monkeypatch.setattr("bollard.cli.demo._which", lambda _: None)
    done = bollard("demo", "--json")

    assert done.code == 9
    assert "qemu-utils" in done.json["error"]["message"]
