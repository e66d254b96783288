"""Writing a new driver package: validated name, all files or none, nothing overwritten.

DIR.xxxx.new/   filled file by file ── rename to DIR   <- the commit
"""

from __future__ import annotations

import re
import shutil
import tempfile
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from string import Template

from ...core.plugins import driver_names
from ...core.spi import Conflict, InvalidArgument
from .model import model_sources

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 30  # characters; lines of the templates are formatted for that

# What lies where in the package, and from which template it is made.
_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "$readme.md",
    "$name.toml": "$kind.toml",
    ".github/workflows/conformance.yml": "conformance.yml",
    "src/$package/__init__.py": "init.py",
    "src/$package/py.typed": "py.typed",
    "tests/test_conformance.py": "test_conformance.py",
}
# What is there but for a kind that begins with the sources of a whole driver.
_SKELETON = {
    "src/$package/options.py": "$kind.options.py",
    "src/$package/driver.py": "$kind.driver.py",
}


class Kind(StrEnum):
    """What can be scaffolded: skeletons of the kinds that the suite can run, and one driver that is whole."""

    MANAGED = "managed"
    ARRAY = "array"
    HOST = "host"
    IMAGE_STORE = "image-store"


def write_package(name: str, kind: Kind, directory: Path) -> list[Path]:
    """Write a package that passes the static tier, and return its files relative to `directory`.

    Args:
        name: what operators will write; also the start of the names of distribution and class.
        kind: which base class.
        directory: made by this call; it may exist if it is empty.

    Raises:
        InvalidArgument: the name is none.
        Conflict: a driver of this name is installed, or the directory holds something.
    """
    _check_name(name)
    if directory.is_symlink() or (directory.exists() and not _is_empty(directory)):
        raise Conflict(f"{directory} is there already, and nothing is overwritten")
    directory.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f"{directory.name}.", suffix=".new", dir=directory.parent))
    try:
        written = _write_all(staged, kind, _words(name, kind))
        staged.chmod(0o755)  # mkdtemp makes it for one user alone
        staged.rename(directory)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return sorted(written)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        rule = f"lower-case letters, digits and single hyphens, a letter first, at most {LONGEST}"
        raise InvalidArgument(f"a driver cannot be called {name[:80]!r}; allowed are {rule}")
    if name in driver_names():
        raise Conflict(f"a driver called {name!r} is installed already; see `bollard drivers`")


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())


def _words(name: str, kind: Kind) -> dict[str, str]:
    return {
        "name": name,
        "kind": kind.value,
        "distribution": f"{name}-bollard",
        "package": f"{name.replace('-', '_')}_bollard",
        "title": "".join(part.capitalize() for part in name.split("-")),
        "env": name.replace("-", "_").upper(),
        "readme": "array.README" if kind is Kind.ARRAY else "README",
        "requires": '"bollard", "httpcore>=1.0"' if kind is Kind.ARRAY else '"bollard"',
    }


def _write_all(root: Path, kind: Kind, words: dict[str, str]) -> list[Path]:
    templates = _FILES if kind is Kind.ARRAY else {**_FILES, **_SKELETON}
    texts = {place: _filled(template, words) for place, template in templates.items()}
    if kind is Kind.ARRAY:
        texts |= {f"src/$package/{name}": text for name, text in model_sources(words["title"]).items()}
    return [_write_one(root, Path(Template(place).substitute(words)), text) for place, text in texts.items()]


def _filled(template: str, words: dict[str, str]) -> str:
    source = files(__package__) / "templates" / f"{Template(template).substitute(words)}.in"
    return Template(source.read_text(encoding="utf-8")).substitute(words)


def _write_one(root: Path, relative: Path, text: str) -> Path:
    path = root / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return relative
