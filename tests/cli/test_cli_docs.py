"""What the pages show works: each command exists, each example runs as it stands."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from bollard.cli.app import app
from bollard.core.config import load_config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "cli.md", ROOT / "README.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(bollard [^`]+)`")


def _blocks(page: Path, language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(page.read_text()) if found == language]


def _commands(page: Path) -> list[str]:
    lines = "\n".join(_blocks(page, "")).splitlines()
    return [line for line in lines if line.startswith("bollard ")] + INLINE.findall(page.read_text())


def _words(line: str) -> list[str]:
    return shlex.split(re.split(r"\s{3,}|;", line)[0], comments=True)[1:]


def _tree() -> Any:
    return get_command(app)


def _unknown(line: str) -> str:
    """Walk down the command tree; return the first word that is not there, or nothing."""
    command = _tree()
    for word in _words(line):
        if word in ("…", "NAME", "COMMAND"):
            break
        known = {option for parameter in command.params for option in parameter.opts}
        if word.startswith("-") and word not in known | {"--help"}:
            return word
        if hasattr(command, "commands") and not word.startswith("-"):
            if word not in command.commands:
                return word
            command = command.commands[word]
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page_exist(page):
    """Every command and option that a page shows is one of ours."""
    shown = _commands(page)

    assert len(shown) > 8
    assert {line: word for line in shown if (word := _unknown(line))} == {}


def test_page_shows_every_command():
    """Each command, and each one of `pool` and `archive`, is on the command line's page."""
    shown = {_words(line)[0] for line in _commands(PAGES[0])}
    tree = _tree().commands
    assert set(tree) <= shown

    for group in ("pool", "archive"):
        [row] = re.findall(rf"^\| `bollard {group}` \| (.*) \|$", PAGES[0].read_text(), re.MULTILINE)
        assert set(re.findall("`(.*?)`", row)) == set(tree[group].commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configurations_of_a_page_are_valid(page, tmp_path):
    """The example can be copied as it is."""
    for number, text in enumerate(_blocks(page, "toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(text)
        assert load_config(path).stores["nightly"].driver == "nfs"
        assert tomllib.loads(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_a_page_run(page, bollard, home):
    """The story from `pool create` to `restore` runs from top to bottom."""
    [story] = [b for b in _blocks(page, "") if b.startswith("bollard pool create")]
    for line in story.splitlines():
        done = bollard(*shlex.split(line, comments=True)[1:])
        assert done.code == 0, (line, done.err)
    if page.name == "README.md":
        assert (home / "monday.qcow2").exists()


def test_python_of_the_readme_runs(home):
    """The first lines that a programmer copies work."""
    [example] = _blocks(PAGES[1], "python")
    exec(example.replace("/mnt/pool", str(home / "pool")), {})  # noqa: S102 - our own page

    assert (home / "pool" / "volumes" / "vol-1.qcow2").exists()


def test_help_of_every_command(bollard):
    """Each command explains itself in a sentence, and each of its options, too."""
    seen = 0
    todo: list[tuple[tuple[str, ...], Any]] = [((), _tree())]
    while todo:
        path, command = todo.pop()
        todo += [((*path, name), child) for name, child in getattr(command, "commands", {}).items()]
        if path[:1] == ("simulate",) and len(path) > 1:
            continue  # they speak for themselves, see test_cli_process.py
        done = bollard(*path, "--help")
        assert done.code == 0
        assert command.help
        assert [p.name for p in command.params if not getattr(p, "help", "") and p.name != "help"] == []
        seen += 1
    assert seen > 20
