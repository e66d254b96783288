"""What is installed is what lies in the packages, and nothing else of the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP_LEVEL = ("transfer_objects", "core", "drivers", "simulators", "conformance", "api", "cli")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _shipped() -> set[str]:
    """Every file that an installation must hold, as a path below the package ``bollard``."""
    inside = [path for top in TOP_LEVEL for path in (ROOT / top).rglob("*") if path.is_file()]
    own = [ROOT / "__init__.py", ROOT / "__main__.py", ROOT / "py.typed"]
    return {path.relative_to(ROOT).as_posix() for path in own + inside if "__pycache__" not in path.parts}


def test_package_list_is_true() -> None:
    """The packages that pyproject.toml lists are those on disk."""
    directories = [Path(path).parent for path in _shipped() if Path(path).name == "__init__.py"]
    on_disk = sorted(".".join(("bollard", *directory.parts)) for directory in directories)

    assert sorted(PYPROJECT["tool"]["setuptools"]["packages"]) == on_disk


def test_every_directory_with_code_is_a_package() -> None:
    """No directory of Python files lacks its ``__init__.py``, without which it would not be shipped."""
    shipped = _shipped()
    directories = {Path(path).parent for path in shipped if path.endswith(".py")}

    assert {path for path in directories if (path / "__init__.py").as_posix() not in shipped} == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel built from the sdist of a copy of the repository, the way a release is built."""
    copy = tmp_path_factory.mktemp("release") / "bollard"
    # A stale build/ would put deleted modules into the wheel, and building in place disturbs other tests.
    made_here = shutil.ignore_patterns(".*", "build", "dist", "site", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=made_here)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(copy / "out"), str(copy)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return zipfile.ZipFile(next((copy / "out").glob("*.whl")))


def test_wheel_holds_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """The wheel holds every file of the packages with its data, and no tests, docs, bench or examples."""
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert inside == {f"bollard/{path}" for path in _shipped()}


def test_wheel_announces_its_drivers(wheel: zipfile.ZipFile) -> None:
    """Every driver that pyproject.toml names is in the entry points, and its module is in the wheel."""
    drivers = PYPROJECT["project"]["entry-points"]["bollard.drivers"]
    metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    announced = wheel.read(metadata).decode().splitlines()
    modules = {target.partition(":")[0].replace(".", "/") for target in drivers.values()}
    names = set(wheel.namelist())

    assert {f"{name} = {target}" for name, target in drivers.items()} <= set(announced)
    assert {m for m in modules if not {f"{m}.py", f"{m}/__init__.py"} & names} == set()
