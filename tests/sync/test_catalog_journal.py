"""`core/service/intents.py`: the journal of a fleet keeps what a file journal keeps, for several machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import select

from bollard.core.catalog import Catalog
from bollard.core.catalog.intents import IntentLockRow, IntentRow, OwnerRow
from bollard.core.service.intents import CatalogEntry, CatalogJournal
from bollard.core.service.owners import Lease
from bollard.core.service.snapshots_claims import claimed
from bollard.core.spi import Busy, Conflict, Unavailable

FIELDS = {"pool": "p-1", "volume": "v-1", "host": "mover"}
OTHER = {"pool": "p-1", "volume": "v-2", "host": "mover"}
NO_BEAT = Lease(term=60, grace=60, beat=0)

OWNER = """
import sys
from pathlib import Path
from bollard.core.catalog import Catalog
from bollard.core.service.intents import CatalogJournal
url, directory, volumes = sys.argv[1:]
journal = CatalogJournal(Catalog(url), Path(directory))
entries = [journal.begin("grant", pool="p-1", volume=v, host="mover") for v in volumes.split()]
print("begun", flush=True)
sys.stdin.readline()
"""


class Clock:
    """A wall clock of all machines, put on by the test."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.now

    def go_on(self, seconds: float, *living: CatalogJournal) -> None:
        """Let time pass, in which the living renew their leases."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 30)
            for journal in living:
                journal.owner.beat()


@pytest.fixture
def clock() -> Clock:
    """The clock of all machines."""
    return Clock()


@pytest.fixture
def machine(catalog, tmp_path, clock) -> Iterator[Callable[[str], CatalogJournal]]:
    """A function that opens the journal of another process, on the machine of that name."""
    with ExitStack() as stack:

        def open_journal(name: str) -> CatalogJournal:
            journal = CatalogJournal(catalog, tmp_path / name, lease=NO_BEAT, clock=clock)
            return stack.enter_context(closing(journal))

        yield open_journal


def left(catalog: Catalog) -> tuple[int, ...]:
    """How many intents, owners and locks there are."""
    with catalog.transaction() as session:
        return tuple(len(session.scalars(select(row)).all()) for row in (IntentRow, OwnerRow, IntentLockRow))


def found(journal: CatalogJournal) -> list[CatalogEntry]:
    """Claim what nobody has in hand."""
    return list(journal.abandoned())


def test_an_entry_is_the_owners_until_it_is_done(machine, catalog):
    """Nobody else gets it while he lives; then nothing is left of it."""
    a, b = machine("one"), machine("two")
    entry = a.begin("grant", **FIELDS)

    assert (entry.kind, entry.fields) == ("grant", FIELDS)
    assert found(b) == []
    assert found(a) == []
    entry.done()
    entry.done()
    entry.release()
    assert left(catalog)[0] == 0


def test_what_a_dead_machine_left_goes_to_any_other_after_lease_and_grace(machine, clock):
    """Not before: its clock may be late. Oldest first, and each to one claimer alone."""
    a, b, c = machine("one"), machine("two"), machine("three")
    for fields in (FIELDS, OTHER):
        a.begin("grant", **fields)
        clock.now += 1
    clock.go_on(117, b, c)
    assert found(b) == []
    clock.go_on(1, b, c)

    claimed = found(b)
    assert [entry.fields for entry in claimed] == [FIELDS, OTHER]
    assert all(entry.owner.endswith(f"process {os.getpid()}") for entry in claimed)
    assert found(c) == []
    claimed[0].done()
    claimed[1].release()
    assert [entry.fields for entry in found(c)] == [OTHER]


def test_a_beat_keeps_it(machine, clock):
    """Who renews in time keeps all that he has, for as long as he lives."""
    a, b = machine("one"), machine("two")
    a.begin("grant", **FIELDS)
    for _ in range(10):
        clock.go_on(60, a, b)
        assert found(b) == []


def test_a_machine_that_stood_still_can_do_nothing_any_more(machine, clock, catalog):
    """It was taken for dead: it cannot begin, replace, end or renew, and the claimer's work stands."""
    a, b = machine("one"), machine("two")
    entry = a.begin("fill", **FIELDS)
    clock.go_on(120, b)
    [claimed] = found(b)

    for act in (
        lambda: a.begin("grant", **OTHER),
        lambda: a.replace(entry, "retire", **OTHER),
        a.owner.beat,
        lambda: found(a),
    ):
        with pytest.raises(Conflict):
            act()
    entry.done()
    assert left(catalog)[0] == 1
    claimed.done()
    assert left(catalog) == (0, 1, 0)  # the living one alone


def test_a_lease_that_is_over_is_no_longer_good_for_anything(machine, clock):
    """Within the grace nobody has taken over yet, but somebody may at any moment."""
    a = machine("one")
    clock.now += 60
    with pytest.raises(Conflict):
        a.begin("grant", **FIELDS)


def test_a_killed_process_of_this_machine_is_found_at_once(catalog_url, tmp_path, machine, catalog):
    """The kernel gives its lock back: nobody waits for the lease. While it lives it keeps what it has."""
    here, elsewhere = machine("one"), machine("two")
    command = [sys.executable, "-c", OWNER, catalog_url, str(tmp_path / "one"), "v-1 v-2 v-3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        assert found(here) == found(elsewhere) == []
        process.send_signal(signal.SIGKILL)
        process.wait(200)

    assert found(elsewhere) == []
    claimed = found(here)
    assert sorted(entry.fields["volume"] for entry in claimed) == ["v-1", "v-2", "v-3"]
    for entry in claimed:
        entry.done()
    assert found(here) == []
    assert left(catalog) == (0, 2, 0)
    assert len(list((tmp_path / "one").iterdir())) == 1


def test_a_closed_journal_leaves_what_it_has_in_hand_to_anybody(machine):
    """Its process ended in order, with an entry that could not be undone."""
    a, b = machine("one"), machine("two")
    a.begin("grant", **FIELDS)
    a.close()
    assert [entry.fields for entry in found(b)] == [FIELDS]


def test_replace_is_one_step(machine):
    """The other intent is there, the first one is not, and it is the owner's still."""
    a, b = machine("one"), machine("two")
    entry = a.begin("fill", **FIELDS)
    a.replace(entry, "retire", **OTHER)

    assert (entry.kind, entry.fields) == ("retire", OTHER)
    assert found(b) == []
    entry.release()
    [claimed] = found(b)
    assert (claimed.kind, claimed.fields) == ("retire", OTHER)


def test_others_hold_counts_the_living_alone(machine, clock):
    """Of the same kinds and the same object; not the asker's own entry, not what was let go of."""
    a, b = machine("one"), machine("two")
    mine = b.begin("grant", **FIELDS)
    assert not b.others_hold(mine, {"grant"})
    his = a.begin("grant", **FIELDS)
    assert b.others_hold(mine, {"grant"})
    assert not b.others_hold(mine, {"fill"})
    assert not b.others_hold(b.begin("grant", **OTHER), {"grant"})
    his.release()
    assert not b.others_hold(mine, {"grant"})
    a.begin("grant", **FIELDS)
    clock.go_on(120, b)
    assert not b.others_hold(mine, {"grant"})


def test_an_entry_that_was_let_go_of_is_claimed_once(machine):
    """Of two that want it back, one gets it."""
    a, b = machine("one"), machine("two")
    a.begin("grant", **FIELDS).release()
    [seen] = found(a)
    seen.release()

    again = a.claim(seen)
    assert again is not None
    assert b.claim(seen) is None
    again.done()
    assert a.claim(seen) is None


def test_one_decides_at_a_time(machine):
    """Threads of two machines take turns at one object; another object waits for nobody."""
    journals = [machine("one"), machine("two")]
    inside: list[int] = []
    most: list[int] = []

    def decide(number: int) -> None:
        with journals[number % 2].deciding(FIELDS):
            inside.append(number)
            most.append(len(inside))
            with journals[0].deciding({"other": str(number)}):
                inside.remove(number)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(decide, range(12)))
    assert most == [1] * 12


def test_a_dead_ones_decision_is_taken_over(machine, clock, catalog):
    """He died while he decided; the next one waits for his lease alone."""
    a, b = machine("one"), machine("two")
    stuck = a.deciding(FIELDS)
    stuck.__enter__()
    entered = threading.Event()

    def decide() -> None:
        with b.deciding(FIELDS):
            entered.set()

    thread = threading.Thread(target=decide)
    thread.start()
    clock.go_on(120, b)
    assert entered.wait(30)
    thread.join()
    stuck.__exit__(None, None, None)
    assert left(catalog)[2] == 0


def test_what_could_not_be_let_go_of_is_with_the_next_beat(machine, catalog, monkeypatch):
    """The catalog was away when a claim ended: its owner lives on, and the object is not busy for as long."""
    a, b = machine("one"), machine("two")
    with monkeypatch.context() as patch, claimed(a, "vm", "vm-1"):

        def away(**_: object) -> NoReturn:
            raise Unavailable("the database restarts")

        patch.setattr(catalog, "transaction", away)
    with pytest.raises(Busy), claimed(b, "vm", "vm-1"):
        pass
    a.owner.beat()
    with claimed(b, "vm", "vm-1"):
        pass
    assert left(catalog)[2] == 0


def test_a_process_that_stood_still_goes_on_under_another_name(machine, clock, catalog):
    """Its lease ran out: what it had is the others', and what it begins now is its own."""
    a, b = machine("one"), machine("two")
    old = a.begin("grant", **FIELDS)
    clock.go_on(600, b)
    with pytest.raises(Conflict):
        a.begin("grant", **OTHER)
    a.owner.begin_anew()
    new = a.begin("grant", **OTHER)
    assert a.others_hold(old, set())
    [entry] = b.abandoned()
    assert (entry.fields, b.others_hold(entry, {"grant"})) == (FIELDS, False)
    entry.done()
    old.done()
    clock.go_on(30, a, b)
    assert list(b.abandoned()) == []
    new.done()
    assert left(catalog)[0] == 0


def test_a_lease_that_ran_out_is_begun_anew_by_itself(catalog, tmp_path, clock):
    """After a jump of the clock a server serves again, within a beat."""
    journal = CatalogJournal(catalog, tmp_path / "one", lease=Lease(term=60, beat=0.01), clock=clock)
    with closing(journal):
        first = journal.owner.id
        clock.now += 3600
        while journal.owner.id == first:
            threading.Event().wait(0.005)
        journal.begin("grant", **FIELDS).done()
    assert not list((tmp_path / "one").iterdir())


def test_the_heart_beats_by_itself(catalog, tmp_path, clock):
    """A thread renews the lease until the journal is closed."""
    journal = CatalogJournal(catalog, tmp_path / "one", lease=Lease(term=60, beat=0.01), clock=clock)
    with closing(journal):
        clock.now += 30
        while _expires(catalog) < clock.now + 60:
            threading.Event().wait(0.005)
    assert not any(thread.name == "bollard-lease" for thread in threading.enumerate())
    assert left(catalog) == (0, 0, 0)


def _expires(catalog: Catalog) -> float:
    with catalog.transaction() as session:
        return session.scalars(select(OwnerRow)).one().expires


RACER = """
import json, sys
from pathlib import Path
from bollard.core.catalog import Catalog
from bollard.core.service.intents import CatalogJournal
url, directory = sys.argv[1:]
journal = CatalogJournal(Catalog(url), Path(directory))
print("ready", flush=True)
sys.stdin.readline()
got = []
for entry in journal.abandoned():
    got.append(entry.fields["volume"])
    entry.done()
print(json.dumps(got), flush=True)
journal.close()
"""

pytest_plugins = ["catalog_fixture"]


def test_two_processes_share_what_was_left(catalog_url, catalog, machine, tmp_path):
    """Real processes race for forty entries: each is given out once, and none is lost."""
    a = machine("gone")
    for number in range(40):
        a.begin("grant", pool="p", volume=f"v-{number}", host="h").release()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, catalog_url, str(tmp_path / "here")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    got = [json.loads(process.communicate(timeout=200)[0]) for process in processes]

    assert sorted(got[0] + got[1]) == sorted(f"v-{number}" for number in range(40))
    assert left(catalog)[0] == 0
    assert Path(tmp_path / "here").exists()
