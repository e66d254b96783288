"""The driver as a class: what static checks look at, with nothing opened."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import Distribution, entry_points
from typing import Any

from ..core.plugins import GROUP, AnyDriver, load_driver
from ..core.spi import options_schema

_PLAIN: Mapping[str, Any] = {"string": "x", "integer": 1, "number": 1.0, "boolean": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One driver class.

    Attributes:
        target: "module:Class", as an entry point writes it.
        distribution: who offers it; None if it was registered in process.
        canary: stands for each secret option, made up for this run; nothing may show it.
    """

    name: str
    cls: type[AnyDriver]
    target: str
    distribution: Distribution | None = None
    canary: str = field(default_factory=lambda: f"canary-{secrets.token_hex(8)}")

    def schema(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the JSON Schema of each option."""
        found: Mapping[str, Mapping[str, Any]] = options_schema(self.cls.Options)["properties"]
        return found

    def minimal(self) -> dict[str, Any]:
        """Return values for the required options alone, made of examples, choices and minima."""
        schema = options_schema(self.cls.Options)
        return {name: self.sample(schema["properties"][name]) for name in schema["required"]}

    def with_secrets(self) -> dict[str, Any]:
        """Return the minimal options and every secret, the optional ones, too."""
        return self.minimal() | {n: self.canary for n, p in self.schema().items() if is_secret(p)}

    def sample(self, prop: Mapping[str, Any]) -> Any:
        """Return a value that an option should accept."""
        if is_secret(prop):
            return self.canary
        kind = json_type(prop)
        if "enum" in prop:
            return prop["enum"][0]
        if "examples" in prop:
            return _of_text(kind, prop["examples"][0])
        return prop.get("minimum", _PLAIN[kind])

    def shown_by(self, text: str) -> bool:
        """Return whether a text shows the canary, plain or in base64."""
        return self.canary in text or base64.b64encode(self.canary.encode()).decode() in text


def subject_of(name: str) -> Subject:
    """Load a driver by name.

    Raises:
        PluginError: it cannot be loaded.
    """
    cls = load_driver(name)
    entry = next(iter(entry_points(group=GROUP, name=name)), None)
    if entry is None:
        return Subject(name=name, cls=cls, target=f"{cls.__module__}:{cls.__qualname__}")
    return Subject(name=name, cls=cls, target=entry.value, distribution=entry.dist)


def is_secret(prop: Mapping[str, Any]) -> bool:
    """Return whether an option's schema is that of a secret."""
    return bool(prop.get("writeOnly"))


def json_type(prop: Mapping[str, Any]) -> str:
    """Return the JSON type of an option, without null."""
    kind = prop["type"]
    return str(kind if isinstance(kind, str) else kind[0])


def _of_text(kind: str, text: Any) -> Any:
    """Read an example, which is text whatever the option's type; one that is wrong stays as it is."""
    try:
        return {"integer": int, "number": float}.get(kind, str)(text) if kind != "boolean" else text == "true"
    except ValueError:
        return text
