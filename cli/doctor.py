"""`bollard doctor`: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from ..core.config import config_path, load_config
from ..core.mover import state_directory
from ..core.plugins import describe_drivers
from ..core.spi import StorageError
from ..drivers.secondary import _libnfs as libnfs
from .context import JsonFlag, settings
from .output import show_rows

# tool, what it is for, Debian package
_TOOLS = (
    ("qemu-img", "qcow2 volumes", "qemu-utils"),
    ("qemu-nbd", "reading and writing qcow2 volumes", "qemu-utils"),
    ("qemu-storage-daemon", "archive serve --cow", "qemu-system-common"),
    ("unzip", "restoring an archive without Bollard", "unzip"),
)

# Python package, what it is for, what brings it
_PACKAGES = (
    ("boto3", "S3 stores", "bollard"),
    ("python-swiftclient", "Swift stores", "bollard"),
    ("psycopg", "a fleet's catalog on PostgreSQL", "bollard[postgresql]"),
    ("keystoneauth1", "Swift stores whose users are Keystone's", "bollard[keystone]"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the examination; `advice` says what to do when `state` is not ok."""

    check: str
    state: str
    found: str
    advice: str = ""


def doctor(ctx: typer.Context, json: JsonFlag = False) -> None:
    """Examine this machine: tools, versions, permissions, drivers, configuration."""
    findings = [finding for examine in _EXAMINATIONS for finding in examine()]
    findings += _configuration(settings(ctx).config)
    show_rows([asdict(f) for f in findings], as_json=json, empty="")
    if any(f.state == "bad" for f in findings):
        raise typer.Exit(1)


def _python() -> Iterator[Finding]:
    state = "ok" if sys.version_info >= (3, 11) else "bad"
    yield Finding(
        check="python",
        state=state,
        found=platform.python_version(),
        advice="" if state == "ok" else "use 3.11 or newer",
    )


def _tools() -> Iterator[Finding]:
    for tool, purpose, package in _TOOLS:
        path = shutil.which(tool)
        if path is None:
            yield Finding(
                check=tool, state="missing", found="", advice=f"for {purpose}: apt-get install {package}"
            )
        else:
            yield Finding(check=tool, state="ok", found=_version(path))


def _libraries() -> Iterator[Finding]:
    name = libnfs.installed()
    advice = "" if name else "for NFS stores that are not mounted: apt-get install libnfs13"
    yield Finding(check="libnfs", state="ok" if name else "missing", found=name, advice=advice)
    for package, purpose, extra in _PACKAGES:
        try:
            yield Finding(check=package, state="ok", found=version(package))
        except PackageNotFoundError:
            advice = f"for {purpose}: pip install {extra}"
            yield Finding(check=package, state="missing", found="", advice=advice)


def _version(path: str) -> str:
    """Return the version in what a tool says of itself (unzip knows only -v)."""
    flag = "-v" if path.endswith("unzip") else "--version"
    try:
        done = subprocess.run([path, flag], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{path} does not run: {error}"
    found = re.search(r"\d+\.\d+(\.\d+)*", done.stdout + done.stderr)
    return found[0] if found else path


def _machine() -> Iterator[Finding]:
    root = os.geteuid() == 0
    yield Finding(check="user", state="ok", found="root" if root else f"uid {os.geteuid()}")
    kvm = os.access("/dev/kvm", os.R_OK | os.W_OK)
    yield Finding(
        check="/dev/kvm",
        state="ok" if kvm else "missing",
        found="usable" if kvm else "",
        advice="" if kvm else "guests run in emulation; add this user to the group kvm",
    )


def _directories() -> Iterator[Finding]:
    for name, path in (("state", state_directory()), ("temporary", Path(tempfile.gettempdir()))):
        nearest = next(p for p in (path, *path.parents) if p.exists())
        good = os.access(nearest, os.W_OK | os.X_OK)
        advice = "" if good else f"make {path} writable, or set BOLLARD_STATE or TMPDIR"
        yield Finding(
            check=f"{name} directory", state="ok" if good else "bad", found=str(path), advice=advice
        )


def _drivers() -> Iterator[Finding]:
    for info in describe_drivers():
        state = "bad" if info.error else "ok"
        yield Finding(check=f"driver {info.name}", state=state, found=info.distribution, advice=info.error)


def _configuration(path: Path | None) -> Iterator[Finding]:
    where = path or config_path()
    if path is None and not where.exists():
        yield Finding(check="configuration", state="missing", found="", advice=f"write {where}")
        return
    try:
        config = load_config(path)
    except StorageError as error:
        yield Finding(check="configuration", state="bad", found=str(where), advice=error.message)
        return
    found = f"{len(config.pools)} pools, {len(config.stores)} stores"
    yield Finding(check="configuration", state="ok", found=f"{where}: {found}")


_EXAMINATIONS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python,
    _machine,
    _tools,
    _libraries,
    _directories,
    _drivers,
)
