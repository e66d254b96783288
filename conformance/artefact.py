r"""What exactly was tested: one SHA-256 over the files of the distribution that offers a driver.

    sha256( "acme_bollard/__init__.py" \0 sha256(its bytes) \n
            "acme_bollard/driver.py"   \0 sha256(its bytes) \n  ... sorted by path )

Paths are those of the import system, so the same files have the same hash wherever they are installed.
What differs between two installations of one wheel is left out: byte code, scripts (their first line names
the Python), and the metadata directory (who installed it, from where). Its version is in the certificate.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path

from ..core.plugins import GROUP
from ..core.spi import NotFound


def artefact_of(driver: str) -> str:
    """Return the hash of the distribution that offers a driver; "" if it was registered in process.

    Raises:
        NotFound: the distribution has no files to hash.
    """
    entry = next(iter(entry_points(group=GROUP, name=driver)), None)
    if entry is None or entry.dist is None:
        return ""
    files = dict(_recorded_files(entry.dist) if _is_recorded(entry.dist) else _package_files(entry))
    if not files:
        raise NotFound(
            f"the distribution {entry.dist.name} of driver {driver!r} has no list of files (RECORD)"
        )
    return artefact_hash(files)


def artefact_hash(files: dict[str, Path]) -> str:
    """Return the hash of files by their import path."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(name.encode("utf-8", "surrogateescape") + b"\0")
        whole.update(hashlib.sha256(files[name].read_bytes()).hexdigest().encode() + b"\n")
    return whole.hexdigest()


def _is_recorded(distribution: Distribution) -> bool:
    """Return whether an installer wrote down the files: not for a link to the sources (PEP 610).

    Nor for the egg-info that lies in a source tree and is found first there: its list names files of the
    last build that are long gone.
    """
    told = json.loads(distribution.read_text("direct_url.json") or "{}")
    return distribution.read_text("RECORD") is not None and not told.get("dir_info", {}).get("editable")


def _recorded_files(distribution: Distribution) -> Iterator[tuple[str, Path]]:
    for file in distribution.files or ():
        if file.parts[0] != ".." and not file.parts[0].endswith(".dist-info") and file.suffix != ".pyc":
            yield file.as_posix(), Path(str(file.locate()))


def _package_files(entry: EntryPoint) -> Iterator[tuple[str, Path]]:
    """Yield the files of the package (or the one module) that the driver is in."""
    name = entry.module.partition(".")[0]
    spec = importlib.util.find_spec(name)
    if spec is None:
        return
    for directory in spec.submodule_search_locations or ():
        for path in _below(Path(directory)):
            yield f"{name}/{path.relative_to(directory).as_posix()}", path
    if spec.submodule_search_locations is None and spec.origin:
        yield Path(spec.origin).name, Path(spec.origin)


def _below(directory: Path) -> Iterator[Path]:
    # A repository that is its own package holds reports, builds and tests, too; Python would import none.
    is_project = (directory / "pyproject.toml").exists()
    for path in sorted(directory.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir():
            if not is_project or (path / "__init__.py").exists():
                yield from _below(path)
        elif path.suffix == ".py" or (not is_project and path.suffix != ".pyc"):
            yield path
