"""pytest without what the vendor's environment adds to it.

Plugins that are merely installed take part in every pytest run: one that shuffles, repeats, times out or
leaves out tests would have a say in a verdict. So would PYTEST_ADDOPTS. Besides, the plugins of our own
development environment took a fifth of the CPU of a short run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

_OURS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
_THEIRS = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")


def plugins(jobs: int) -> list[str]:
    """Return the arguments for the plugins that the suite needs: itself, and for several jobs xdist."""
    wanted = ["bollard.conformance.pytest_plugin"]
    if jobs > 1 and find_spec("xdist"):  # without it pytest says that it does not know -n
        wanted.append("xdist.plugin")
    return [word for name in wanted for word in ("-p", name)]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep installed plugins and variables out of the pytest that is started here, and of its workers."""
    before = {name: os.environ.get(name) for name in (*_OURS, *_THEIRS)}
    for name in _THEIRS:
        os.environ.pop(name, None)
    os.environ.update(_OURS)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
