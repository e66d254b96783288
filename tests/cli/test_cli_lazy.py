"""A command imports what it needs, and no other command's libraries."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from typing import Any

import pytest
from typer.main import get_command

from bollard.cli.app import COMMANDS, app

# Each cost 0.1 to 0.4 s of CPU at every start.
HEAVY = {"sqlalchemy", "alembic", "prometheus_client", "fastapi", "boto3", "dask", "pytest", "libvirt"}
RUN = """
import sys
from bollard.cli.app import app
try:
    app(sys.argv[1:])
except SystemExit:
    print("imported:", *sys.modules)
"""


def imported(*words: str) -> set[str]:
    """Return the packages that a command's process has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words], capture_output=True, text=True, timeout=60, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.partition("imported: ")[2].split()}


@pytest.mark.parametrize(
    "words",
    [("--version",), ("pool", "list", "--help"), ("archive", "create", "--help"), ("doctor", "--help")],
)
def test_a_command_imports_no_other_command_s_libraries(words):
    """What moves data alone needs neither a database's library nor a server's."""
    assert imported(*words) & HEAVY == set()


def test_a_command_on_the_catalog_does_not_import_alembic():
    """Only who changes the tables needs what changes them."""
    found = imported("sync", "--help")
    assert "sqlalchemy" in found
    assert "alembic" not in found


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_there(name):
    """Every name leads to a command with a help, under that name."""
    found: Any = get_command(app)
    command = found.commands[name]
    assert (command.name, bool(command.help)) == (name, True)
    assert found.get_command(None, name) is command


def test_a_mistyped_command_is_told_what_was_meant(bollard):
    """A name that is not there fails as bad usage, and the next one is named."""
    done = bollard("archiv")
    assert done.code == 2
    assert "Did you mean 'archive'?" in done.err


def test_version(bollard):
    """--version prints it, and needs no command."""
    done = bollard("--version")
    assert (done.code, done.out) == (0, f"bollard {metadata.version('bollard')}\n")
