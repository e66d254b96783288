"""The canary finds planted secrets in every form and place, and never says them."""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
import time
import urllib.parse
from html import escape
from pathlib import Path

import pytest

from bollard.conformance import canary as module
from bollard.conformance.canary import Canary
from bollard.transfer_objects.secret import Secret

PLAIN = 'p&ss"wörd/9+x'
OTHER = "another-secret-7"


@pytest.fixture
def canary() -> Canary:
    """Knows two secrets, and one that is too short."""
    return Canary([Secret(PLAIN), Secret(OTHER), Secret("abc")])


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("plain", f"login failed for admin/{PLAIN}!"),
        ("URL-quoted", f"https://a:{urllib.parse.quote(PLAIN, safe='')}@host/"),
        ("URL-quoted", f"q={urllib.parse.quote_plus(PLAIN)}"),
        ("XML-escaped", f"<key>{escape(PLAIN)}</key>"),
        ("JSON-escaped", json.dumps({"key": PLAIN})),
        ("hex", PLAIN.encode().hex()),
        ("hex", PLAIN.encode().hex().upper()),
    ],
)
def test_each_form_is_found(canary: Canary, form: str, text: str) -> None:
    """A secret is found in the form that it was planted in."""
    assert canary.found_in(text) == [form]
    assert canary.found_in(text.encode()) == [form]


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:", "Aladdin:"])
def test_base64_is_found_at_any_alignment(canary: Canary, before: str) -> None:
    """An Authorization header shows a password wherever it begins."""
    header = base64.b64encode(f"{before}{OTHER}:more".encode()).decode()
    assert canary.found_in(f"Authorization: Basic {header}") == ["base64"]


def test_what_is_no_secret_is_not_found(canary: Canary) -> None:
    """Neither short secrets nor random bytes nor halves of a secret are told."""
    noise = random.Random(7).randbytes(2**20)  # noqa: S311 - test data, not a secret
    assert canary.found_in(noise) == []
    assert canary.found_in(f"abc {OTHER[:-1]} {PLAIN[1:]}") == []
    assert Canary([]).found_in("anything") == []


def _says_no_secret(said: list[str]) -> None:
    assert said
    for sentence in said:
        assert PLAIN not in sentence
        assert OTHER not in sentence


def test_files_are_searched_by_stream(
    canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that lies across two pieces of a large file is found; links and pipes are left alone."""
    monkeypatch.setattr(module, "_CHUNK", 64)
    (tmp_path / "deep").mkdir()
    for place in (50, 60, 64, 130):
        (tmp_path / "deep" / f"at-{place}").write_bytes(bytes(place) + OTHER.encode() + bytes(100))
    (tmp_path / "clean").write_text("nothing")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/proc/self/environ")
    said = canary.in_tree(tmp_path)
    assert len(said) == 4
    assert all("(plain)" in sentence for sentence in said)
    _says_no_secret(said)


def test_names_of_files_are_searched(canary: Canary, tmp_path: Path) -> None:
    """A secret in a file's name is told without repeating it."""
    (tmp_path / f"session-{OTHER}.json").write_text("{}")
    said = canary.in_tree(tmp_path)
    assert "the name of the file" in said[0]
    _says_no_secret(said)


def test_the_number_of_files_is_bounded(canary: Canary, tmp_path: Path) -> None:
    """Of a large tree only so many files are read."""
    for number in range(5):
        (tmp_path / str(number)).write_text(OTHER)
    assert len(canary.in_tree(tmp_path, max_files=2)) == 2


def _raise(secret: str) -> None:
    password = secret
    raise ValueError(f"bad password {password}")


def test_errors_are_searched_through_their_causes(canary: Canary) -> None:
    """A secret in the cause, in a note or in the detail is told, with the class that carries it."""
    error = RuntimeError("login failed")
    error.add_note(f"tried {PLAIN}")
    try:
        _raise(OTHER)
    except ValueError as cause:
        error.__cause__ = cause
    said = canary.in_error(error, "open")
    assert any("RuntimeError, a note" in sentence for sentence in said)
    assert any("ValueError, its message" in sentence for sentence in said)
    _says_no_secret(said)
    assert canary.in_error(RuntimeError("fine")) == []


class _Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_frames_are_searched(canary: Canary) -> None:
    """A local variable of any frame is told by name; an object whose repr raises does no harm."""
    rude = _Rude()
    try:
        _raise(OTHER)
    except ValueError as error:
        said = canary.in_frames(error)
    assert isinstance(rude, _Rude)
    assert any("'password' of test_canary.py" in sentence for sentence in said)
    _says_no_secret(said)


def _helper(*arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "import time; time.sleep(0.15)", *arguments]
    return subprocess.Popen(command, env=env)


def test_command_lines_and_environments_are_watched(canary: Canary) -> None:
    """A helper of a helper that lives for a moment is seen with what it was given."""
    run = f"subprocess.run([sys.executable, '-c', 'import time; time.sleep(.2)', '{OTHER}'])"
    code = f"import subprocess, sys; {run}"
    with canary.watching() as watch:
        with _helper(env={**os.environ, "PGPASSWORD": PLAIN}) as helper:
            helper.wait()
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert watch.looked_at
    assert any("environment variable PGPASSWORD" in sentence for sentence in watch.said)
    assert any("command line" in sentence for sentence in watch.said)
    _says_no_secret(watch.said)


def test_what_is_inherited_is_not_told(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever passes a secret to the suite in a variable is not told of it, nor are the suite's helpers."""
    monkeypatch.setenv("MY_PASSWORD", OTHER)
    with canary.watching() as watch, _helper() as helper:
        helper.wait()
    assert watch.looked_at
    assert watch.said == []


def test_a_changed_environment_of_the_suite_is_told(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that puts its password into the environment of its own process is seen."""
    with canary.watching() as watch:
        monkeypatch.setenv("LEAKED", OTHER)
    assert "environment variable LEAKED of the suite's own process" in watch.said[0]
    _says_no_secret(watch.said)


def test_only_descendants_of_the_roots_are_watched(canary: Canary) -> None:
    """With the driver's host as root, what the suite starts beside it is not looked at."""
    with _helper() as host, _helper(OTHER) as beside:
        with canary.watching(host.pid) as watch:
            deadline = time.monotonic() + 5
            while host.poll() is None and time.monotonic() < deadline:
                watch.look()
        beside.wait()
    assert beside.pid not in watch.looked_at
    assert watch.said == []
