"""What a package shows is what its ``__all__`` spells, no more and no less; ruff keeps it sorted."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

PYPROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
PACKAGES: list[str] = PYPROJECT["tool"]["setuptools"]["packages"]


def _visible(module: ModuleType) -> set[str]:
    """The public names of a module, without its submodules and without the vocabulary of type hints."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and name != "TYPE_CHECKING"
        and getattr(value, "__module__", None) not in {"typing", "__future__"}
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_package_shows_exactly_what_all_spells(package: str) -> None:
    """Every public name of a package is in ``__all__``, and every name in there exists."""
    module = importlib.import_module(package)
    exported = getattr(module, "__all__", [])

    assert [name for name in exported if not hasattr(module, name)] == []  # lazily loaded names appear here
    assert _visible(module) - set(exported) == set()
