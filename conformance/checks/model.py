"""Random histories against a reference model: what no list of histories thinks of."""

from __future__ import annotations

from functools import partial

from ..lab import Lab
from ..model import Tier
from ..modelbased.planner import run_histories
from ..modelbased.pool_planner import PoolPlanner, unit_of
from ..modelbased.reproducer import reproducer_for_pool, reproducer_for_store
from ..modelbased.store_planner import StorePlanner
from ..registry import check
from ..store_lab import StoreLab

_BUG = "dell/csm#1425, cloudstack#11490, cloudstack#9446: each needs three or more calls in the right order"


def _play(lab: Lab, *, histories: int, steps: int, seconds: float) -> None:
    unit = unit_of(lab.pool.traits)
    run_histories(
        partial(PoolPlanner, lab),
        lab.notes,
        histories=histories,
        steps=steps,
        seconds=seconds,
        novelty=4,
        script=lambda failure: reproducer_for_pool(failure, unit),
    )


@check("model.random_histories", rule="any.history", tier=Tier.STANDARD, field_bug=_BUG)
def check_random_histories(lab: Lab) -> None:
    """After any sequence of calls, each answer, each refusal and each byte is what the contract implies.

    The suite draws random sequences over the abilities that the driver declares (create, write, discard,
    resize, clone, snapshot, revert, changed blocks, grants, limits, adoption), asks a reference model how
    each call must end, and reads every volume and snapshot at the end. Bugs that need three calls in the
    right order are found here: a clone that is emptied when it is asked for again, a snapshot that moves
    with a later revert, an id that is used again and shows the bytes of its predecessor.

    A failure names the shortest sequence that still shows the difference; the last step is where it
    showed, the cause may be any step before. The reproducer plays exactly this sequence. Only what the
    contract leaves no choice in is judged. No more than a minute is spent.
    """
    _play(lab, histories=30, steps=12, seconds=60)


@check("model.long_histories", rule="any.history", tier=Tier.DEEP, field_bug=_BUG)
def check_long_histories(lab: Lab) -> None:
    """After a long sequence of calls, too, each answer and each byte is what the contract implies.

    As `model.random_histories`, with many more and longer sequences: chains of snapshots of clones of
    snapshots, ids that are used again and again. At most fifteen minutes are spent (`--deep-seconds`).
    """
    _play(lab, histories=300, steps=50, seconds=lab.notes.deep_seconds)


@check("model.store_histories", rule="any.history", kinds=("image-store",), tier=Tier.STANDARD)
def check_store_histories(lab: StoreLab) -> None:
    """After any sequence of puts, deletes and refused puts, each object and each list is what it should be.

    Keys that are prefixes of others, empty objects, overwriting with less, `if_absent`, ranges, bodies
    with a wrong digest, and lists in pages are mixed at random and compared with a dictionary. A failure
    names the shortest sequence that still shows the difference. No more than 40 seconds are spent.
    """
    run_histories(
        partial(StorePlanner, lab),
        lab.notes,
        histories=30,
        steps=15,
        seconds=40,
        novelty=0,
        script=reproducer_for_store,
    )
