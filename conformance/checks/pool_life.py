"""Opening a pool: rightly, wrongly, and twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...core.spi import Adopts, Unauthenticated
from ...transfer_objects.secret import Secret
from ..lab import Lab, expected, must, not_applicable, refused
from ..model import Tier
from ..registry import check
from ._bytes import exists
from ._operations import SIZE, foreign, written


def _options(lab: Lab) -> dict[str, Any]:
    """Return the options that the pool was opened with."""
    options = lab.pool.driver.options
    return {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}


def _with_wrong_secrets(options: Mapping[str, Any]) -> dict[str, Any]:
    wrong = {k: Secret("wrong-" + v.reveal()[::-1]) for k, v in options.items() if isinstance(v, Secret)}
    if not wrong:
        not_applicable("the configuration has no secret option")
    return {**options, **wrong}


@check("pool.attach_wrong_credentials", rule="pool.open-typed", tier=Tier.STANDARD)
def check_attach_wrong_credentials(lab: Lab) -> None:
    """With wrong secrets the pool does not open: `Unauthenticated`, not applied; and the first one works on.

    Orchestrators alarm an operator on this error, and wait on others. A pool that opens, and fails at
    its first volume, is put into production.
    """
    wrong = _with_wrong_secrets(_options(lab))
    with refused(Unauthenticated), lab.second(options=wrong):
        pass
    must(exists(lab.pool, written(lab).id), "the pool that was open before no longer works")


@check("pool.two_instances_isolated", rule="drv.isolated", tier=Tier.STANDARD)
def check_two_instances_isolated(lab: Lab) -> None:
    """Closing one instance leaves the other working; each sees at once what the other made and deleted.

    Shared sessions and caches in module variables are what fails here.
    """
    with lab.second() as other:
        volume = lab.volume(SIZE)
        must(exists(other, volume.id), "another instance does not see a new volume")
        must(volume.id in {v.id for v in other.volumes.list()}, "another instance does not list it")
    lab.write(volume, 1)
    lab.verify(volume.id, expected(SIZE, 1))
    with lab.second() as other:
        other.volumes.delete(volume.id)
        must(not exists(lab.pool, volume.id), "the first instance still shows what another one deleted")


@check("pool.open_creates_nothing", rule="pool.open-creates-nothing", tier=Tier.STANDARD)
def check_open_creates_nothing(lab: Lab) -> None:
    """Opening and closing a pool makes no volume, and changes none that is there."""
    volume = written(lab)
    before = {v.id for v in lab.pool.volumes.list()}
    for _ in range(3):
        with lab.second() as other:
            must(other.info.identity == lab.pool.info.identity, "the pool has another identity")
    new = {v.id for v in lab.pool.volumes.list()} - before
    # Workers of this run, or another run, may make volumes meanwhile: those have the suite's prefix.
    made = sorted(v for v in new if not v.startswith(lab.prefix.partition("-")[0]))
    must(not made, f"opening the pool made {made}")
    lab.verify(volume.id, expected(SIZE, 1))


@check("pool.foreign_not_listed", rule="vol.list-foreign", needs=(Adopts,), tier=Tier.STANDARD)
def check_foreign_not_listed(lab: Lab) -> None:
    """What others keep in the pool is not listed, not found by any id of ours, and not deleted.

    An orchestrator deletes what it lists and does not know: a foreign LUN in the list is a lost LUN.
    """
    with foreign(lab) as (native, former):
        listed = {v.id for v in lab.pool.volumes.list()}
        must(former not in listed, "a foreign object is listed under its former id")
        must(native not in listed, "a foreign object is listed under its native name")
        lab.pool.volumes.delete(former)
        ours = lab.volume(SIZE)
        lab.pool.volumes.delete(ours.id)


@check("pool.unavailable_only_narrows", rule="drv.narrow")
def check_unavailable_only_narrows(lab: Lab) -> None:
    """An instance may lack capabilities that its class declares, each with a reason, and adds none.

    What only an instance knows of is never tested by its negative twin, nor seen by who chooses a driver.
    """
    driver = lab.pool.driver
    lacking = driver.unavailable(lab.call())
    more = set(lacking) - type(driver).declared()
    must(not more, f"said to be unavailable and never declared: {sorted(more)}")
    silent = sorted(c for c, why in lacking.items() if not why.strip())
    must(not silent, f"unavailable without a reason: {silent}")
