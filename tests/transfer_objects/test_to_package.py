"""The package's face: exports and the price of importing it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bollard.transfer_objects as package


def test_every_export_loads():
    """All names of `__all__` exist; the type checker's imports and the lazy ones name the same things."""
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported - {"annotations", "import_module", "TYPE_CHECKING"} == set(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is getattr(package, name)


def test_unknown_names_fail_as_usual():
    """A misspelt name is an AttributeError."""
    with pytest.raises(AttributeError, match="no attribute 'NfsT0'"):
        _ = package.NfsT0


def test_importing_is_cheap():
    """Importing the package loads neither dataclasses nor anything from outside the standard library."""
    code = (
        "import sys; before = set(sys.modules); import bollard.transfer_objects\n"
        "print(*sorted(set(sys.modules) - before))\n"
        "from bollard.transfer_objects import *\n"
        "import bollard.transfer_objects.schema\n"
        "roots = {m.partition('.')[0] for m in set(sys.modules) - before}\n"
        "print(*sorted(roots - set(sys.stdlib_module_names)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    first, outside = done.stdout.splitlines()
    assert not {"dataclasses", "json", "re", "bollard.transfer_objects.stores"} & set(first.split())
    assert set(outside.split()) == {"bollard"}


def test_secret_like_values_stay_out_of_repr():
    """Repr of every store with credentials shows none."""
    secret = package.Secret("hunter2")
    for obj in (
        package.S3TO(bucket_name="b", access_key=secret, secret_key=secret),
        package.SwiftTO(url="http://h", key=secret),
        package.VolumeObjectTO(path="p", passphrase=secret),
    ):
        assert "hunter2" not in f"{obj!r}{obj}"
