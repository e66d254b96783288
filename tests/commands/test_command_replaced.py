"""A copy on secondary storage that is made anew: dead or failed at any step, the older or the newer is there.

Other than in test_command_kills.py what changes a store is a step, too: on that it depends. Reads of a store
are none here: tests/archive/test_archive_replace.py has them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from bollard.core.invoke import Invoker
from bollard.core.service.leftovers import Run
from bollard.core.service.sweep_stores import StorePlace
from bollard.core.spi import Call, Unavailable
from bollard.transfer_objects.commands import Answer, CopyCommand
from command_rig import FILES, STORES, Orders, noise, volume

STEPS_AT_LEAST = 4
_CHANGES = ("store.put", "store.delete", "store.abort_uploads")


class Killed(BaseException):
    """The process is dead."""


@dataclass(slots=True)
class Blow:
    """Strikes at the given step: the process dies, or that one call fails.

    Attributes:
        everywhere: the calls of pools and hypervisors are steps as well.
    """

    left: int
    error: BaseException
    dead: bool
    everywhere: bool = False

    @property
    def struck(self) -> bool:
        """Whether it came to that step."""
        return self.left <= 0

    def step(self) -> None:
        """Go on, or not."""
        if self.struck and not self.dead:
            return
        self.left -= 1
        if self.struck:
            raise self.error


@dataclass(frozen=True, slots=True)
class Copied:
    """A volume whose copy on a store has older bytes than the volume by now."""

    orders: Orders
    command: CopyCommand
    store: str
    name: str

    def do_again(self, blow: Blow, monkeypatch: pytest.MonkeyPatch) -> Answer | None:
        """Copy once more; None: killed."""
        run = Invoker.run

        def stepping(self: Any, operation: str, *args: Any, **more: Any) -> Any:
            if operation in _CHANGES or (blow.everywhere and not operation.startswith("store.")):
                blow.step()
            return run(self, operation, *args, **more)

        with monkeypatch.context() as patched:
            patched.setattr(Invoker, "run", stepping)
            try:
                return self.orders.ask(self.command)
            except Killed:
                return None

    def content(self, orders: Orders) -> bytes:
        """What the copy on the store holds."""
        return orders.archived(self.store, self.name, "volume-copy")

    def leftovers(self, orders: Orders) -> list[str]:
        """What a sweep of the store would remove of this copy; nothing is touched."""
        run = Run(call=Call.within(30), dry_run=True, older_than=0.0)
        place = StorePlace(store=orders.site.store(self.store))
        return [one.leftover.name for one in place.sweep(run) if self.name in one.leftover.name]


@pytest.fixture
def copied(again: Callable[[], Orders], name: Callable[[str], str]) -> Callable[[str], Copied]:
    """A function that makes a volume with an older copy on a store."""

    def make(store: str) -> Copied:
        orders = again()
        source = orders.make(volume(name("vol"), FILES), noise("older"))
        to = volume(name("copy"), STORES[store])
        command = CopyCommand(source=source, destination=to)
        orders.do(command)
        orders.write(source, noise("newer"))
        return Copied(orders, command, store, str(to.uuid))

    return make


@pytest.mark.slow
@pytest.mark.parametrize("store", STORES)
def test_killed_at_each_step(again, copied, monkeypatch, store):
    """The older or the newer bytes can be read, whole; after the repeat the newer, and nothing is left."""
    at, seen = 0, set()
    while True:
        at += 1
        one, blow = copied(store), Blow(at, Killed(), dead=True, everywhere=store == "nfs")
        one.do_again(blow, monkeypatch)
        if not blow.struck:
            break
        orders = again()
        content = one.content(orders)
        assert content in (noise("older"), noise("newer")), f"killed at step {at}"
        seen.add(content)
        orders.do(one.command)
        assert one.content(orders) == noise("newer")
        assert orders.leftovers() == one.leftovers(orders) == [], f"killed at step {at}"
    assert at > STEPS_AT_LEAST
    assert len(seen) == 2, "killed before the commit, and after it"


@pytest.mark.slow
def test_a_failure_at_each_step(copied, monkeypatch):
    """An answer that says success means the newer bytes; not applied means the older; none leaves neither."""
    at = 0
    while True:
        at += 1
        one, blow = copied("nfs"), Blow(at, Unavailable("away"), dead=False)
        answer = one.do_again(blow, monkeypatch)
        if not blow.struck:
            break
        assert answer is not None
        content = one.content(one.orders)
        assert content in (noise("older"), noise("newer")), f"failed at step {at}: {answer.details}"
        if answer.result:
            assert content == noise("newer"), f"failed at step {at}"
        elif "(not_applied)" in str(answer.details):
            assert content == noise("older"), f"failed at step {at}: {answer.details}"
        one.orders.do(one.command)
        assert one.content(one.orders) == noise("newer")
        assert one.orders.leftovers() == one.leftovers(one.orders) == []
    assert at > STEPS_AT_LEAST
