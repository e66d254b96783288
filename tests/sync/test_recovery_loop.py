"""The sync that a server does by itself: when it is repeated, and what is told of it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from bollard.core.catalog.place import has_default
from bollard.core.config import load_config
from bollard.core.service.recovery_loop import Recovery, site_round
from bollard.core.service.sync import Ended, SyncReport
from bollard.core.site import Site
from bollard.core.spi import Call, Unavailable

SOON = 30.0
RESTS = Ended(kind="volume", id="vol-1", before="create", after="at rest")
WAITS = Ended(kind="volume", id="vol-1", before="create", after="create", problem="the pool is away")


class Rounds:
    """Rounds of a sync, each of which the test ends as it likes."""

    def __init__(self) -> None:
        self._begun: queue.Queue[Call] = queue.Queue()
        self._ends: queue.Queue[SyncReport | Exception] = queue.Queue()

    def __call__(self, call: Call) -> SyncReport:
        """One round."""
        self._begun.put(call)
        while not call.cancelled():
            with suppress(queue.Empty):
                end = self._ends.get(timeout=0.02)
                if isinstance(end, Exception):
                    raise end
                return end
        return SyncReport()

    def end(self, how: SyncReport | Exception) -> None:
        """Let the next round end, when it has begun."""
        self.begun()
        self._ends.put(how)

    def begun(self) -> Call:
        """Wait until a round has begun."""
        return self._begun.get(timeout=SOON)

    def go(self, how: SyncReport | Exception) -> None:
        """Let one that has begun end."""
        self._ends.put(how)


@contextmanager
def _recovery(rounds: Rounds, every: float = 0.0) -> Iterator[tuple[Recovery, list[float | None]]]:
    """A recovery whose pauses take no time and are noted."""
    recovery = Recovery(rounds, every=every, clock=lambda: 1000.0)
    pauses: list[float | None] = []
    step = recovery._periodic._step

    def noted() -> float | None:
        pauses.append(step())
        return None if pauses[-1] is None else 0.0

    recovery._periodic._step = noted
    recovery._periodic._least = 0.0
    with recovery:
        yield recovery, pauses


def test_a_sync_begins_with_the_server_and_is_repeated_while_something_waits():
    """What waits is tried again after longer and longer pauses; when all rests, not until it is woken."""
    rounds = Rounds()
    with _recovery(rounds) as (recovery, pauses):
        for _ in range(6):
            rounds.end(SyncReport(ended=[WAITS]))
        rounds.end(SyncReport(ended=[RESTS]))
        recovery.wake()
        rounds.begun()
        assert pauses == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, None]
        state = recovery.state()
        assert (state.running, state.rounds, state.ended, state.waiting, state.at) == (True, 7, 1, 0, 1000.0)


def test_a_catalog_that_cannot_be_reached_and_a_bug_end_nothing(caplog):
    """The next round comes; each is told."""
    rounds = Rounds()
    with _recovery(rounds, every=300.0) as (recovery, pauses):
        rounds.end(Unavailable("the database is away"))
        rounds.begun()
        assert recovery.state().waiting == -1
        rounds.go(SyncReport())
        rounds.begun()
        assert pauses == [5.0, 300.0]
        assert "the database is away" in caplog.text


def test_closing_cancels_what_is_under_way():
    """A round is told to stop, and no other one begins."""
    rounds = Rounds()
    with _recovery(rounds) as (recovery, _):
        call = rounds.begun()
    assert call.cancelled()
    assert recovery.state().rounds == 0


def test_without_a_catalog_nothing_is_done_and_none_is_made(tmp_path, monkeypatch):
    """A machine that keeps no records gets no file of them by a server's start."""
    monkeypatch.setenv("BOLLARD_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("BOLLARD_CATALOG", raising=False)
    config = tmp_path / "bollard.toml"
    config.write_text("")
    with Site(load_config(config)) as site:
        assert site_round(site)(Call.within(10)) == SyncReport()
    assert not has_default()
    assert not (tmp_path / "state").exists()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [one for one in threading.enumerate() if one.name == "bollard-sync"]
