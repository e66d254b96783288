"""Importing Bollard costs little and touches nothing: no socket, no process, no thread, no foreign file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
LOADED = """
import json, sys
before = {{name.partition(".")[0] for name in sys.modules}}
import {module}
new = {{name.partition(".")[0] for name in sys.modules}} - before - sys.stdlib_module_names
print(json.dumps(sorted(new)))
"""

# Reading code is what an import is, so files below the interpreter's, the environment's and Bollard's own
# directories do not count.
WATCHED = """
import json, os, sys
own = (sys.prefix, sys.base_prefix, {root!r})
processes = ("subprocess.", "os.system", "os.posix_spawn", "os.exec", "os.fork")
seen = []

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and not arguments[0].startswith(own):
        seen.append(f"open {{arguments[0]}}")
    elif event.startswith(("socket.", "tempfile.", *processes)):
        seen.append(event)
    elif event in ("os.mkdir", "os.remove", "os.rename"):
        seen.append(f"{{event}} {{arguments[0]}}")

sys.addaudithook(watch)
import {module}
{then}
import threading  # last, and counted by itself: CPython 3.11 raises no event for a new thread
seen += [thread.name for thread in threading.enumerate()[1:]]
print(json.dumps(seen), flush=True)
os._exit(0)  # without waiting for such a thread
"""


def _run(program: str, *flags: str) -> str:
    """The output of a Python process without the hooks that coverage plants into children."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-I", *flags, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize("module", ["bollard", "bollard.transfer_objects", "bollard.core.spi"])
def test_import_is_cheap(module: str) -> None:
    """The public faces load none of the libraries that drivers and services need (boto3 takes 0.5 s)."""
    assert json.loads(_run(LOADED.format(module=module))) == ["bollard"]


@pytest.mark.parametrize("module", PACKAGES)
def test_import_touches_nothing(module: str) -> None:
    """Importing a package opens no file but code, no socket, and starts neither a process nor a thread."""
    # -B: a clean clone has no bytecode yet, and writing it is Python's own business.
    assert json.loads(_run(WATCHED.format(module=module, root=str(ROOT), then=""), "-B")) == []


@pytest.mark.parametrize(
    ("deed", "event"),
    [
        ("import socket; socket.socket()", "socket.__new__"),
        ("open('/etc/hostname')", "open /etc/hostname"),
        ("import threading; threading.Thread(target=threading.Event().wait, name='t').start()", "t"),
        ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
    ],
)
def test_watch_sees_what_it_is_for(deed: str, event: str) -> None:
    """The watch over imports reports a socket, a foreign file, a thread and a process."""
    assert event in json.loads(_run(WATCHED.format(module="json", root=str(ROOT), then=deed)))
