"""Bollard's driver for an HTTP array as the beginning of another one: its own sources, moved out of Bollard.

    drivers/primary/array/volumes.py                    src/acme_bollard/volumes.py
        from ....core.spi import (Busy, ...       ->        from bollard.core.spi import (Busy, ...
        from .pool import ArrayPool               ->        from .pool import ArrayPool

The files are read, not imported: the suite knows no driver.
"""

from __future__ import annotations

import re
from pathlib import Path

_MODEL = Path(__file__).parents[2] / "drivers" / "primary" / "array"
_UP = "...."  # what leads from the model's modules to the package bollard
# Imports of Bollard are relative there, and those of another package here: isort sorts them to the others.
_BLOCK = re.compile(rf"(?:^from {re.escape(_UP)}[^\n(]*(?:\([^)]*\))?\n)+", re.MULTILINE)


def model_sources(title: str) -> dict[str, str]:
    """Return the model's modules by file name, with the class names of a driver called `title`."""
    return {
        path.name: _moved(path.read_text(encoding="utf-8"), title)
        for path in sorted(_MODEL.glob("*.py"))
        if path.name != "__init__.py"
    }


def _moved(text: str, title: str) -> str:
    block = _BLOCK.search(text)
    if block is not None:
        before, after = text[: block.start()], text[block.end() :]
        if re.search(r"^import httpcore\n\n\Z", before, re.MULTILINE):
            before = before[:-1]
        if after.startswith("from ."):
            after = f"\n{after}"
        text = before + block[0].replace(f"from {_UP}", "from bollard.") + after
    return text.replace("ArrayDriver", f"{title}Driver").replace("ArrayOptions", f"{title}Options")
