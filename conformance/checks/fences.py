"""Fencing as it is used: off is off, on is on, whoever asks; who may not is told so."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...core.spi import (
    Busy,
    Call,
    DeadlineExceeded,
    FenceDriver,
    PermissionDenied,
    PowerState,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from ...transfer_objects.ids import new_id
from ...transfer_objects.secret import Secret
from ..fence_lab import FenceLab
from ..lab import ContractBroken, must, not_applicable, refused
from ..model import Tier
from ..registry import check
from ..tampering import options_of, tampered

FENCE = ("fence",)
_USERS = ("username", "user", "user_name", "login")
# More than most BMCs have sessions.
_MANY = 6


@check(
    "fence.state_is_read",
    rule="fence.read",
    kinds=FENCE,
    field_bug="pyghmi: a session that is kept answers for a BMC that has changed meanwhile",
)
def check_state_is_read(lab: FenceLab) -> None:
    """What one instance switches, another one that was open before reads at once; nothing is remembered.

    If it fails: the state was kept from an earlier call, or a session's cache answered.
    """
    lab.is_on()
    for switch, wanted in (
        (lab.witness.power_off, PowerState.OFF),
        (lab.witness.power_on, PowerState.ON),
    ):
        lab.driver.power_state(lab.call())
        switch(lab.call())
        found = lab.driver.power_state(lab.call())
        must(found is wanted, f"another instance switched the host {wanted}, and this one reads {found!r}")


@check(
    "fence.off_is_true",
    rule="fence.confirmed",
    kinds=FENCE,
    field_bug="ClusterLabs/fence-agents: 'off' answered by the BMC before, or without, the host going off",
)
def check_off_is_true(lab: FenceLab) -> None:
    """When power_off returns the host is off, as another instance reads it, and it stays off for a second.

    If it fails with an error: the BMC does not do what it says, and the driver has found that out. If the
    host reads on: the driver believes a BMC's "yes", or one reading of a host that comes back.
    """
    lab.is_on()
    lab.driver.power_off(lab.call())
    lab.stays(PowerState.OFF, "power_off returned")


@check(
    "fence.on_is_true",
    rule="fence.on",
    kinds=FENCE,
    field_bug="ClusterLabs/fence-agents: a node was reported as rebooted, and stayed off",
)
def check_on_is_true(lab: FenceLab) -> None:
    """When power_on returns the host is on, as another instance reads it, and it stays on for a second."""
    lab.is_on()
    lab.driver.power_off(lab.call())
    lab.driver.power_on(lab.call())
    lab.stays(PowerState.ON, "power_on returned")


@check(
    "fence.off_twice",
    rule="fence.again",
    kinds=FENCE,
    field_bug="BMCs answer D5h (not in this state) to 'off' of a host that is off; fencing then never ended",
)
def check_off_twice(lab: FenceLab) -> None:
    """A host that is off is fenced again with success, by the same instance and by another; it stays off.

    Whoever lost the answer repeats. If the host is on afterwards: the command is a button, not a state.
    """
    lab.is_on()
    lab.driver.power_off(lab.call())
    for fence in (lab.driver, lab.witness):
        fence.power_off(lab.call())
        must(lab.state() is PowerState.OFF, "the host reads on after a repeated power_off returned")


@check(
    "fence.on_twice",
    rule="fence.again",
    kinds=FENCE,
    field_bug="Redfish ResetType On is refused by a host that is on, and the caller took it for a failure",
)
def check_on_twice(lab: FenceLab) -> None:
    """A host that is on is switched on again with success, and stays on."""
    lab.is_on()
    for fence in (lab.driver, lab.witness):
        fence.power_on(lab.call())
        must(lab.state() is PowerState.ON, "the host reads off after a repeated power_on returned")


@check(
    "fence.wrong_password",
    rule="fence.login",
    kinds=FENCE,
    field_bug="CVE-2013-4786 class: BMCs whose authentication anybody passes",
)
def check_wrong_password(lab: FenceLab) -> None:
    """A wrong password is `Unauthenticated` for each method, nothing is applied, and the host stays on.

    "but the call succeeded": the driver swallowed the error, or the BMC lets everybody in.
    """
    lab.is_on()
    secrets = {name: value for name, value in options_of(lab.driver).items() if isinstance(value, Secret)}
    if not secrets:
        not_applicable("none of the options that are set is a secret")
    wrong = {name: Secret(_other(value.reveal())) for name, value in secrets.items()}
    with tampered(lab.driver, wrong) as other:
        for act in (other.power_off, other.power_on, other.power_state):
            with refused(Unauthenticated):
                act(lab.call())
    must(lab.state() is PowerState.ON, "wrong passwords were refused, and the host reads off")


def _other(secret: str) -> str:
    """Return another secret, no longer than this one: IPMI takes 20 bytes."""
    return new_id()[: max(1, min(len(secret), 16))]


@check(
    "fence.unknown_user",
    rule="fence.login",
    kinds=FENCE,
    field_bug="pyghmi: the login of a user whom the BMC does not know is repeated for ever",
)
def check_unknown_user(lab: FenceLab) -> None:
    """A user whom the BMC does not know is an error within the deadline, and the host stays on.

    Some BMCs are silent then, so a time-out will do; nothing is applied in any case.
    """
    lab.is_on()
    name = next((n for n in _USERS if options_of(lab.driver).get(n)), None)
    if name is None:
        not_applicable(f"none of the options {', '.join(_USERS)} is set")
    with (
        tampered(lab.driver, {name: f"bct{new_id()[:8]}"}) as other,
        refused(Unauthenticated, PermissionDenied, Unavailable, DeadlineExceeded),
    ):
        other.power_off(lab.call())
    must(lab.state() is PowerState.ON, "an unknown user was refused, and the host reads off")


@check("fence.close_and_open_again", rule="drv.close-twice", kinds=FENCE)
def check_close_and_open_again(lab: FenceLab) -> None:
    """An instance is closed twice, and the next one works; the others have not noticed."""
    lab.driver.power_state(lab.call())
    for _ in range(2):
        with lab.second() as other:
            other.power_state(lab.call())
            other.close()
    lab.driver.power_state(lab.call())


@check(
    "fence.sessions_are_given_back",
    rule="fence.sessions",
    kinds=FENCE,
    tier=Tier.STANDARD,
    field_bug="BMCs with four sessions, which keep one that nobody closed for a minute or more",
)
def check_sessions_are_given_back(lab: FenceLab) -> None:
    """Six readings one after the other succeed, also where the BMC has only a few sessions.

    "Busy": a call has not logged out.
    """
    for number in range(1, _MANY + 1):
        try:
            lab.driver.power_state(lab.call())
        except StorageError as error:
            raise ContractBroken(f"reading {number} of {_MANY}: {type(error).__name__}: {error}") from error


@check(
    "fence.concurrent_off",
    rule="any.concurrent",
    kinds=FENCE,
    tier=Tier.STANDARD,
    field_bug="two nodes of a cluster fence a third at the same time, and one of them fails for good",
)
def check_concurrent_off(lab: FenceLab) -> None:
    """Two instances that fence one host at the same time both succeed, or one is `Busy`; the host is off."""
    lab.is_on()
    start = threading.Barrier(2)
    with lab.second() as other, ThreadPoolExecutor(2) as pool:
        results = [pool.submit(_off, fence, start, lab.call()) for fence in (lab.driver, other)]
        errors = [found for result in results if (found := result.result()) is not None]
    wrong = [e for e in errors if not isinstance(e, Busy)]
    must(not wrong, "; ".join(f"{type(e).__name__} [{e.outcome}]: {e.message}" for e in wrong))
    must(len(errors) < 2, "both were told that the other one is busy with it")
    must(lab.state() is PowerState.OFF, "two fenced the host at the same time, and it reads on")


def _off(fence: FenceDriver[Any], start: threading.Barrier, call: Call) -> StorageError | None:
    start.wait()
    try:
        fence.power_off(call)
    except StorageError as error:
        return error
    return None
