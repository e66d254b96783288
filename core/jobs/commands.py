"""Commands as jobs: what is kept of a command, which limits it counts for, and who carries it out.

A job is durable and its arguments can be looked at, so no secret may be among them. Credentials of a store
need not travel: its uuid is enough, and they are left out. Any other secret has no second source, and such a
command is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from ...transfer_objects.commands import Answer, Command
from ...transfer_objects.native import decode_tree, encode_tree
from ...transfer_objects.stores import PrimaryDataStoreTO
from ..spi.call import Call
from ..spi.errors import InvalidArgument
from .command_classes import command_class
from .orders import Order
from .run import Run

KIND = "command"
_STORES = frozenset({"NfsTO", "SwiftTO", "S3TO", "PrimaryDataStoreTO", "ImageStoreTO"})


class Executor(Protocol):
    """Carries out commands: `core.commands.Dispatcher`."""

    def run(self, command: Command, call: Call) -> Answer:
        """Return the answer of a command that was carried out; repeatable.

        Raises:
            StorageError: it was not, or not wholly; the outcome says what is known.
        """


def command_order(command: Command, order: Order) -> Order:
    """Return `order` with a command in it, and with the pool whose limit it counts for.

    Raises:
        InvalidArgument: the command holds a secret that is not a store's.
    """
    revealed = encode_tree(command, reveal_secrets=True)
    if place := next(_foreign_secrets(revealed, type(command).__name__), None):
        raise InvalidArgument(f"{place} is a secret: jobs keep none; give it to the machine that needs it")
    tree = encode_tree(command)
    pool = order.pool or next(_pools(command), "")
    return dataclasses.replace(order, kind=KIND, arguments={"command": tree}, pool=pool)


class CommandHandler:
    """Does jobs of kind "command"; the command's own `wait` bounds each attempt."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def __call__(self, run: Run) -> Mapping[str, Any]:
        """Carry the command out; the result is the answer in Bollard's JSON, without secrets."""
        tree = run.job.arguments["command"]
        command = decode_tree(tree, command_class(tree["type"]))
        return {"answer": encode_tree(self._executor.run(command, run.call))}


def _foreign_secrets(tree: Any, path: str) -> Iterator[str]:
    """Yield where secrets stand that are no store's."""
    if isinstance(tree, list):
        for index, item in enumerate(tree):
            yield from _foreign_secrets(item, f"{path}[{index}]")
    elif isinstance(tree, dict) and "$revealed" in tree:
        yield path
    elif isinstance(tree, dict) and tree.get("type") not in _STORES:
        for key, item in tree.items():
            yield from _foreign_secrets(item, f"{path}.{key}")


def _pools(value: object) -> Iterator[str]:
    """Yield the uuids of the primary stores in a command, in the order of its fields."""
    if isinstance(value, PrimaryDataStoreTO):
        yield value.uuid
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _pools(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _pools(item)
