"""Orchestrators race on one catalog, as real processes: no move is lost, doubled or made from old states."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from sqlalchemy import select

import catalog_racer
from bollard.core.catalog import Catalog, Transition
from bollard.core.catalog.volume_states import VOLUMES, VolumeEvent, VolumeState
from bollard.core.catalog.volumes import VolumeRecord

pytest_plugins = ["catalog_fixture"]

RACERS = ("a", "b", "c")
TRIES = 150


@pytest.fixture
def raced(catalog_url) -> str:
    """A catalog with the volumes that they race for."""
    with closing(Catalog(catalog_url)) as catalog, catalog.transaction() as session:
        for name in catalog_racer.VOLUMES:
            session.add(VolumeRecord(id=name, pool="gold", created="now", state=VolumeState.READY))
    return catalog_url


@pytest.fixture
def start() -> Iterator[Callable[[str, str, int], subprocess.Popen[str]]]:
    """Let an orchestrator run; none outlives its test."""
    with ExitStack() as running:

        def run(url: str, name: str, tries: int) -> subprocess.Popen[str]:
            command = [sys.executable, catalog_racer.__file__, url, name, str(tries)]
            racer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            running.enter_context(racer)
            running.callback(racer.kill)
            return racer

        yield run


def told(racers: dict[str, subprocess.Popen[str]]) -> Counter[tuple[str, str]]:
    """Return what each says it did, when all have ended."""
    found: Counter[tuple[str, str]] = Counter()
    for name, racer in racers.items():
        out, err = racer.communicate(timeout=60)
        assert racer.returncode in (0, -9), err
        found.update((name, text) for text in out.splitlines() if text.count(" ") == 3)
    return found


def recorded(session) -> list[Transition]:
    """Return the history of all volumes, in order."""
    return list(session.scalars(select(Transition).order_by(Transition.number)))


def line(move: Transition) -> str:
    """Return a move in the words of `catalog_racer`."""
    return f"{move.object} {move.event} {move.before} {move.after}"


def check_chain(session, moves: list[Transition]) -> None:
    """Each move of a volume begins where the one before it ended; the last one is where it is now."""
    for record in session.query(VolumeRecord):
        own = [move for move in moves if move.object == record.id]
        at = VolumeState.READY
        for move in own:
            assert move.before == at
            at = VOLUMES.after(at, VolumeEvent(move.event))
            assert move.after == at
        assert record.state is at
        assert record.size == len(own)


@pytest.mark.slow
def test_race_of_processes_loses_and_doubles_nothing(raced, start):
    """What each process was told is exactly what is recorded, and the records form one legal history."""
    done = told({name: start(raced, name, TRIES) for name in RACERS})
    with closing(Catalog(raced)) as catalog, catalog.reading() as session:
        moves = recorded(session)
        check_chain(session, moves)
        seen = Counter((move.request, line(move)) for move in moves)

    assert seen == done
    assert {name for name, _ in done} == set(RACERS)


@pytest.mark.slow
def test_killed_orchestrator_leaves_a_whole_history(raced, start):
    """Kill -9 at any moment: what it has told is recorded, at most one more is, and others go on at once."""
    racers = {name: start(raced, name, 100_000 if name == "a" else TRIES) for name in RACERS}
    victim = racers["a"].stdout
    assert victim
    lines = [victim.readline() for _ in range(10)]
    racers["a"].kill()
    done = told(racers)
    done.update(("a", text.strip()) for text in lines)
    with closing(Catalog(raced)) as catalog, catalog.reading() as session:
        moves = recorded(session)
        check_chain(session, moves)
        seen = Counter((move.request, line(move)) for move in moves)

    assert not done - seen
    assert sum((seen - done).values()) <= 1
