"""Fencing through what is broken: nobody answers, the BMC freezes, an answer is lost on its way."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ...core.spi import (
    Busy,
    Call,
    DeadlineExceeded,
    FenceDriver,
    Outcome,
    PowerState,
    StorageError,
    Unavailable,
)
from ..fence_gate import Gate, nobody
from ..fence_lab import FenceLab
from ..lab import must, not_applicable
from ..model import Tier
from ..registry import check
from ..tampering import options_of, tampered
from .faults import GRACE, attempt
from .fences import FENCE

# Seconds: longer than a process takes to start on a slow machine; waited for by whoever is never answered.
SHORT = 2.0
# Seconds between the cancel and the end of the call.
_CANCELLED = 5.0
_POLL = 0.02


@check(
    "fence.unreachable_in_time",
    rule="fence.unreachable",
    kinds=FENCE,
    tier=Tier.STANDARD,
    field_bug="a host without power has a BMC without power: fencing took its silence for 'off'",
)
def check_unreachable_in_time(lab: FenceLab) -> None:
    """A BMC that never answers, or whose port is closed, is an error by the deadline, and nothing is applied.

    "but the call succeeded": silence counts as off. "after": the driver's own time-outs are longer than
    the call's deadline, or a library repeats for ever.
    """
    known = options_of(lab.driver)
    for silent in (True, False):
        with nobody(lab.suite, known, silent=silent) as elsewhere, tampered(lab.driver, elsewhere) as other:
            words = "silent" if silent else "closed"
            for act in (other.power_off, other.power_state) if silent else (other.power_off,):
                error = _in_time(act, f"{words} port")
                must(error is not None, f"{words} port: expected Unavailable, but the call succeeded")
                told = f"{words} port: {type(error).__name__}"
                must(isinstance(error, Unavailable | DeadlineExceeded), f"{told}, expected Unavailable")
                must(error and error.outcome is Outcome.NOT_APPLIED, f"{told}: nobody heard it")


def _in_time(act: Callable[[Call], object], where: str) -> StorageError | None:
    """Make a call with a short deadline, and see that it is kept."""
    began = time.monotonic()
    error = attempt(act, Call.within(SHORT))
    took = time.monotonic() - began
    must(took < SHORT + GRACE, f"{where}: a call with {SHORT:.0f} s returned after {took:.1f} s")
    return error


def _answers(gate: Gate, act: Callable[[Call], object], call: Call) -> int:
    """Return how many answers a call consists of; they all go through the gate."""
    gate.open()
    act(call)
    return gate.answers or not_applicable(
        "nothing goes through the gate: the BMC speaks neither HTTP nor UDP"
    )


@check(
    "fence.frozen_in_time",
    rule="any.deadline",
    kinds=FENCE,
    tier=Tier.STANDARD,
    field_bug="pyghmi waits for minutes for a BMC that froze after the login",
)
def check_frozen_in_time(lab: FenceLab) -> None:
    """A BMC that freezes at its first answer, or half-way, is an error by the deadline plus two seconds."""
    lab.is_on()
    with lab.gated() as (gate, behind):
        count = _answers(gate, behind.power_state, lab.call())
        for number in sorted({1, count // 2 + 1}):
            gate.freeze_from(number)
            error = _in_time(behind.power_state, f"frozen from answer {number} of {count}")
            must(error, f"the BMC froze at answer {number} of {count}, and a reading succeeded")


@check(
    "fence.cancel_ends_call",
    rule="any.deadline",
    kinds=FENCE,
    tier=Tier.STANDARD,
    field_bug="an operator who fences by hand waits for an agent that cannot be stopped",
)
def check_cancel_ends_call(lab: FenceLab) -> None:
    """A power_off that waits for a frozen BMC ends within 5 s of its cancel, as `DeadlineExceeded`."""
    lab.is_on()
    with lab.gated() as (gate, behind), ThreadPoolExecutor(1) as pool:
        _answers(gate, behind.power_state, lab.call())
        gate.freeze_from(1)
        call = lab.call()
        waiting = pool.submit(attempt, behind.power_off, call)
        _until_shut(gate, waiting, lab.settings.patience)
        began = time.monotonic()
        call.cancel.set()
        error = waiting.result()
        took = time.monotonic() - began
    must(took < _CANCELLED, f"it ended {took:.1f} s after it was cancelled")
    must(isinstance(error, DeadlineExceeded), f"expected DeadlineExceeded, got {_told(error)}")


def _until_shut(gate: Gate, waiting: Future[Any], patience: float) -> None:
    until = time.monotonic() + patience
    while not (gate.shut or waiting.done()) and time.monotonic() < until:
        time.sleep(_POLL)


def _told(error: StorageError | None) -> str:
    return "success" if error is None else f"{type(error).__name__} with outcome {error.outcome}"


@check(
    "fence.lost_answers_are_told",
    rule="fence.outcome",
    kinds=FENCE,
    tier=Tier.STANDARD,
    field_bug="BMCs that share the host's port lose the link with the host's power, and the answer with it",
)
def check_lost_answers_are_told(lab: FenceLab) -> None:
    """Wherever the answers to a power_off or power_on are cut off, what is told of the host is true.

    Success: it is as was wanted. "Not applied": it is as before. The suite looks for the answer with which
    the power goes, and cuts there, before it and after it.
    """
    lab.is_on()
    with lab.gated() as (gate, behind):
        before, after = 0, _answers(gate, behind.power_off, lab.call())
        host = _cut(lab, gate, behind, after, PowerState.OFF)
        must(host is PowerState.ON, "with only its last answer lost, a call has done nothing")
        while after - before > 1:
            middle, old = (before + after) // 2, host
            host = _cut(lab, gate, behind, middle, old)
            before, after = (middle, after) if host is old else (before, middle)
        for number in (max(1, after - 1), after, after + 1):
            lab.is_on()  # a lie about "off" is the one that costs a volume
            _cut(lab, gate, behind, number, PowerState.ON)


def _cut(lab: FenceLab, gate: Gate, behind: FenceDriver[Any], number: int, old: PowerState) -> PowerState:
    """Switch with the answers lost from a number on, judge what is told; returns what the host is then."""
    off = old is PowerState.ON
    gate.lose_from(number)
    error = _cut_off(lab, gate, behind.power_off if off else behind.power_on)
    gate.open()
    new = lab.state()
    words = f"power_{'off' if off else 'on'} told {_told(error)}, and the host is {new}"
    told = f"answers lost from {number} on: {words}"
    if error is None or error.outcome is Outcome.APPLIED:
        must(new is not old, told)
    elif error.outcome is Outcome.NOT_APPLIED and not isinstance(error, Busy):
        must(new is old, told)
    return new


def _cut_off(lab: FenceLab, gate: Gate, act: Callable[[Call], object]) -> StorageError | None:
    """Make a call, and cancel it some time after its first answer was lost."""
    call = lab.call()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(attempt, act, call)
        _until_shut(gate, waiting, lab.settings.patience)
        until = time.monotonic() + gate.repeats
        while not waiting.done() and time.monotonic() < until:
            time.sleep(_POLL)
        call.cancel.set()
        return waiting.result()
