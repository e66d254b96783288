"""Whether a method can be called as the SPI's can.

create_snapshot(self, volume, snapshot, call)            the SPI's
create_snapshot(self, volume, snapshot_id, call)         another name: a call by keyword fails
create_snapshot(self, volume, snapshot, call, pool)      one more without a default: each call fails
create_snapshot(self, volume, *arguments, **options)     takes everything
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from inspect import Parameter
from typing import Any

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def differences(contract: Callable[..., Any], method: object) -> list[str]:
    """Return what keeps `method` from being called as `contract` is, in words."""
    if not inspect.isfunction(method):
        return ["is not an ordinary method"]
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        return ["is asynchronous, and core does not await it"]
    theirs = list(inspect.signature(method).parameters.values())
    ours = list(inspect.signature(contract).parameters.values())
    return [*_missing(ours, theirs), *_more(ours, theirs)]


def _missing(ours: list[Parameter], theirs: list[Parameter]) -> Iterator[str]:
    """Yield what the SPI passes and the method does not take, or takes otherwise."""
    kinds = {p.kind for p in theirs}
    places = [p.name for p in theirs if p.kind in _POSITIONAL]
    named = {p.name: p for p in theirs if p.kind not in (*_VARIABLE, Parameter.POSITIONAL_ONLY)}
    for place, parameter in enumerate(ours):
        name = parameter.name
        if place == 0:
            continue  # self
        if parameter.kind in _POSITIONAL:
            if place >= len(places) and Parameter.VAR_POSITIONAL not in kinds:
                yield f"does not take {name!r} at place {place}"
            elif place < len(places) and places[place] != name:
                yield f"calls {name!r} {places[place]!r}"
        elif name not in named and Parameter.VAR_KEYWORD not in kinds:
            yield f"does not take the keyword {name!r}"
        stated = parameter.default is not Parameter.empty
        if stated and name in named and named[name].default != parameter.default:
            yield f"has another default for {name!r}"


def _more(ours: list[Parameter], theirs: list[Parameter]) -> Iterator[str]:
    """Yield what the method demands and nobody passes."""
    known = {p.name for p in ours}
    places = sum(p.kind in _POSITIONAL for p in ours)
    for place, parameter in enumerate(theirs):
        optional = parameter.kind in _VARIABLE or parameter.default is not Parameter.empty
        passed = parameter.kind in _POSITIONAL and place < places
        if not (optional or passed or parameter.name in known):
            yield f"demands {parameter.name!r}, which nobody passes"
