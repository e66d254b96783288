"""Commands that are imported when they are asked for.

    bollard archive list ──> "archive" ──> import .archive, and none of the others

Any command took 1.4 s of CPU when all modules were imported; most of it was for the other commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group


def lazy_group(modules: Mapping[str, str]) -> type[TyperGroup]:
    """Return a class for `Typer(cls=…)`: a group whose further commands come from modules of this package.

    The help of the whole group imports them all.

    Args:
        modules: the module of each command: its `app` if it has one of that name, else its function.
    """

    class LazyGroup(TyperGroup):
        """A group, some of whose commands are not imported yet."""

        def __init__(self, *, commands: Mapping[str, Any], **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = _Commands(commands, modules)

        def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - as Typer has it
            """Return the names; nothing is imported for them."""
            return list(self.commands)

    return LazyGroup


class _Commands(MutableMapping[str, Any]):
    """What Typer keeps in a dict, imported as it is asked for."""

    def __init__(self, known: Mapping[str, Any], modules: Mapping[str, str]) -> None:
        self._modules = modules
        self._commands: dict[str, Any] = dict.fromkeys([*known, *modules]) | dict(known)

    def __getitem__(self, name: str) -> Any:
        if self._commands[name] is None:
            self._commands[name] = _imported(name, self._modules[name])
        return self._commands[name]

    def __contains__(self, name: object) -> bool:  # the inherited one would import it
        return name in self._commands

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)

    def __setitem__(self, name: str, command: Any) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]


def _imported(name: str, module: str) -> Any:
    found = import_module(f".{module}", __package__)
    app = getattr(found, "app", None)
    command: Any = get_group(app) if app else _alone(name, getattr(found, name.replace("-", "_")))
    command.name = name
    return command


def _alone(name: str, function: Any) -> Any:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name)(function)
    return get_command(app)
