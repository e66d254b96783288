"""Random histories find what is wrong, say it in few steps, and leave a script that shows it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bollard.conformance.checks.model import (
    check_long_histories,
    check_random_histories,
    check_store_histories,
)
from bollard.conformance.lab import ContractBroken, Lab
from bollard.conformance.modelbased.planner import run_histories
from bollard.conformance.modelbased.pool_planner import PoolPlanner, unit_of
from bollard.conformance.modelbased.reproducer import reproducer_for_pool
from bollard.conformance.run import RunOptions, run_suite
from bollard.conformance.store_lab import StoreLab
from bollard.core.spi import (
    Body,
    Call,
    InvalidArgument,
    Snapshot,
    StoredObject,
    StoreTraits,
    Unsupported,
)
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.simulators.array import ArraySimulator
from bollard.transfer_objects.ids import SnapshotId, VolumeId

pytestmark = pytest.mark.timeout(240)


class LaterCut(ArrayDriver):
    """Takes a snapshot anew when it is asked for again."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        """Cut again."""
        self.delete_snapshot(snapshot, call)
        return super().create_snapshot(volume, snapshot, call)


class ForgetsPut(NfsDriver):
    """Keeps the old object where a key is put again."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Put only once."""
        for stored in self.list(key, call).items:
            if stored.key == key and not if_absent:
                return StoredObject(key=key, size=body.size)
        return super().put(key, body, call, if_absent=if_absent)


def _short_run(lab: Lab, histories: int) -> None:
    unit = unit_of(lab.pool.traits)
    run_histories(
        partial(PoolPlanner, lab),
        lab.notes,
        histories=histories,
        steps=12,
        seconds=60,
        novelty=4,
        script=lambda failure: reproducer_for_pool(failure, unit),
    )


def test_a_healthy_array_passes(pool_lab: Callable[[type[Any]], Lab]) -> None:
    """Histories on a healthy array end as the model says, and leave nothing on it."""
    lab = pool_lab(ArrayDriver)
    _short_run(lab, 3)
    assert {m.name: m.value for m in lab.notes.measures}["histories"] == 3
    assert not list(lab.pool.volumes.list())


@pytest.mark.slow
def test_a_later_cut_is_found(pool_lab: Callable[[type[Any]], Lab]) -> None:
    """A driver that returns a later cut for a repeated snapshot fails within a few steps."""
    lab = pool_lab(LaterCut)
    with pytest.raises(ContractBroken, match="Take snapshot s") as caught:
        check_random_histories(lab)
    assert "after 3 steps" in str(caught.value) or "after 4 steps" in str(caught.value)


def test_a_lost_write_is_found_and_the_script_shows_it(
    pool_lab: Callable[[type[Any]], Lab],
    array: ArraySimulator,
    array_options: dict[str, Any],
    tmp_path: Path,
) -> None:
    """The reproducer exits 1 with the difference on the defective array, and 0 once it is healthy."""
    lab = pool_lab(ArrayDriver)
    array.defects.set("writes_lost_after_flush")
    with pytest.raises(ContractBroken, match=r"after 3 steps: .* is zero, generation 1 was written"):
        check_random_histories(lab)
    script, config = tmp_path / "reproducer.py", tmp_path / "array.toml"
    script.write_text(lab.notes.reproducer)
    options = [f"{key} = {json.dumps(value)}" for key, value in array_options.items()]
    config.write_text("\n".join(['driver = "array"', "test_pool = true", "[options]", *options]))
    config.chmod(0o600)
    command = [sys.executable, str(script), "--config", str(config)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (shown.returncode, shown.stderr) == (1, "")
    assert "is zero, generation 1 was written" in shown.stdout
    array.defects.clear()
    healed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert healed.returncode == 0, healed.stdout + healed.stderr
    assert not list(lab.pool.volumes.list())


@pytest.mark.slow
def test_the_same_seed_plays_the_same_history(pool_lab: Callable[[type[Any]], Lab]) -> None:
    """Two runs with one seed fail in the same words: a failure can be had again."""
    lab = pool_lab(LaterCut)
    words = []
    for _ in range(2):
        with pytest.raises(ContractBroken) as caught:
            check_random_histories(lab)
        words.append(str(caught.value).partition("The steps:")[2])
    assert words[0] == words[1]


def test_long_histories_end_with_their_time(pool_lab: Callable[[type[Any]], Lab]) -> None:
    """The long histories spend what the user gives them, and not a quarter of an hour."""
    lab = pool_lab(ArrayDriver)
    lab.notes.deep_seconds = 1.0
    began = time.monotonic()
    check_long_histories(lab)
    assert time.monotonic() - began < 60


def test_no_time_for_long_histories_is_refused() -> None:
    """Nobody gets a pass from the deep tier without a single history."""
    with pytest.raises(InvalidArgument, match="--deep-seconds must be at least 1, got 0"):
        run_suite("array", options=RunOptions(deep_seconds=0))


def test_a_healthy_store_passes(store_lab: Callable[[type[Any]], StoreLab]) -> None:
    """Histories on a healthy store end as a dictionary would, and leave nothing in it."""
    lab = store_lab(NfsDriver)
    check_store_histories(lab)
    assert not lab.store.list("", lab.call()).items


class WithoutConditions(NfsDriver):
    """A store whose puts are never conditional, as real Swift."""

    def traits(self) -> StoreTraits:
        """Say so."""
        return replace(super().traits(), conditional_put=False)

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Refuse a condition."""
        if if_absent:
            raise Unsupported("this store has no conditional put")
        return super().put(key, body, call)


class Overwrites(WithoutConditions):
    """Takes a condition that its traits do not promise, and overwrites."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Put in any case."""
        del if_absent
        return super().put(key, body, call)


def test_a_store_without_conditions_refuses_them(store_lab: Callable[[type[Any]], StoreLab]) -> None:
    """Where the traits promise no condition, a put with one must be Unsupported."""
    check_store_histories(store_lab(WithoutConditions))


def test_a_condition_that_is_not_promised_is_found(store_lab: Callable[[type[Any]], StoreLab]) -> None:
    """A store that takes such a put all the same fails."""
    with pytest.raises(ContractBroken, match="expected Unsupported"):
        check_store_histories(store_lab(Overwrites))


def test_a_forgotten_put_is_found(store_lab: Callable[[type[Any]], StoreLab]) -> None:
    """A store that keeps the old object fails, with a script that says so in Python."""
    lab = store_lab(ForgetsPut)
    with pytest.raises(ContractBroken, match="Put generation"):
        check_store_histories(lab)
    compile(lab.notes.reproducer, "reproducer.py", "exec")
    assert "play_on_store(settings, history)" in lab.notes.reproducer
