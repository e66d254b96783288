"""Defects that are switched on and off while a simulator runs, from Python or over HTTP.

    +---------+----------------------------------------+
    | type    | meaning                                |
    +---------+----------------------------------------+
    | bool    | on until it is switched off            |
    | int     | happens for so many requests, then off |
    | float   | seconds                                |
    +---------+----------------------------------------+

A conformance suite is only worth what its mutants prove: each switch is one bug seen in the field.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from flask import Response, request


class DefectSet:
    """Base of a dataclass whose fields are switches, all off by default. Safe to use from any thread."""

    _lock = threading.Lock()

    def update(self, changes: Mapping[str, Any]) -> None:
        """Sets some switches, all of them or none.

        Raises:
            ValueError: for an unknown name, a value of the wrong type or a negative number.
        """
        with self._lock:
            checked = {name: self._checked(name, value) for name, value in changes.items()}
            for name, value in checked.items():
                setattr(self, name, value)

    def _checked(self, name: str, value: object) -> bool | int | float:
        known = self.as_dict()
        if name not in known:
            raise ValueError(f"no defect {name!r}; there are {', '.join(sorted(known))}")
        kind = type(known[name])
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, (bool, int, float)) or type(value) is not kind or value < 0:
            raise ValueError(f"defect {name} takes a {kind.__name__} that is not negative, not {value!r}")
        return value

    def as_dict(self) -> dict[str, bool | int | float]:
        """All switches as they stand."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type] # subclasses are dataclasses

    def take(self, name: str) -> bool:
        """Whether the defect strikes this request; a counted one has one strike less afterwards."""
        with self._lock:
            value = getattr(self, name)
            if type(value) is int and value > 0:
                setattr(self, name, value - 1)
            return bool(value)


def defects_view(defects: DefectSet) -> Callable[[], Response]:
    """A view for GET and PUT of ``/sim/defects``: a JSON object of switches; both answer with all."""

    def view() -> Response:
        if request.method == "PUT":
            try:
                defects.update(json.loads(request.get_data()))
            except (ValueError, AttributeError) as error:
                return Response(f"{error}\n", 400, content_type="text/plain; charset=utf-8")
        return Response(json.dumps(defects.as_dict()), content_type="application/json")

    return view


def parse_switches(arguments: list[str]) -> dict[str, bool | int | float]:
    """``name``, ``name=true``, ``name=3`` or ``name=0.5`` from a command line.

    Raises:
        ValueError: for a value that is neither a boolean nor a number.
    """
    return dict(_parse(argument) for argument in arguments)


def _parse(argument: str) -> tuple[str, bool | int | float]:
    name, _, value = argument.partition("=")
    if value.lower() in {"", "true", "false"}:
        return name, value.lower() != "false"
    return name, float(value) if "." in value else int(value)
