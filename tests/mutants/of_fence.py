"""The defects of the simulated BMC and of a Redfish emulator, broken fence drivers, and what finds them.

What a careful driver makes up for (a BMC that is late) shows through a driver that does not; on a healthy BMC
that driver passes.
"""

from __future__ import annotations

from catalogue import Mutant

# defect, class of broken/ or "" for Bollard's own -> checks that find it, words of a verdict, the mistake
BMC: dict[tuple[str, str], tuple[tuple[str, ...], str, str]] = {
    ("deaf", ""): (
        ("fence.off_is_true",),
        "the BMC agreed to switch the power off, and 1 s later it is on",
        "BMCs that acknowledge a chassis command which their firmware never carries out",
    ),
    ("refuse_power", ""): (
        ("fence.off_is_true",),
        "the BMC refuses to switch the power off",
        "completion code D5h until the BMC is reset",
    ),
    ("says_off=99", ""): (
        ("fence.on_is_true",),
        "",
        "a BMC that lost the link to its board tells zeros, and zero is off",
    ),
    ("late=3.0", "BelievesYes"): (
        ("fence.off_is_true",),
        "power_off returned, and the host reads on",
        "fence agents that take the BMC's answer for the deed",
    ),
    ("late=2.0", "BelievesYesToOn"): (
        ("fence.on_is_true",),
        "power_on returned, and the host reads off",
        "a cluster waits for a node that was told to start",
    ),
    ("comes_back=0.2", "BelievesOneReading"): (
        ("fence.off_is_true",),
        "",
        "a restore policy or watchdog gives the power back at once",
    ),
    ("few_sessions=4", "KeepsItsSession"): (
        ("fence.sessions_are_given_back",),
        "the BMC has no session free",
        "monitoring that never logs out takes all sessions of a BMC, and fencing finds none",
    ),
}

# class of broken/ -> checks that find it, words of a verdict, the mistake
IPMI: dict[str, tuple[tuple[str, ...], str, str]] = {
    "CyclesPower": (
        ("fence.off_is_true",),
        "power_off returned, and the host reads on",
        "an agent's default is a power cycle: the host is back, and writes",
    ),
    "RemembersState": (
        ("fence.state_is_read",),
        "and this one reads",
        "the state of a cache answers for a host",
    ),
    "SecondTimeIsConflict": (
        ("fence.off_twice", "fence.on_twice"),
        "already",
        "a repeat after a lost answer fails for ever",
    ),
    "PressesTheButton": (
        ("fence.off_twice", "fence.on_twice"),
        "after a repeated power_",
        "the command is a button: fencing twice switches on",
    ),
    "SwallowsErrors": (
        ("fence.wrong_password", "fence.unknown_user", "fence.unreachable_in_time", "fence.frozen_in_time"),
        "but the call succeeded",
        "silence counts as off",
    ),
    "LoginFailsInternally": (
        ("fence.wrong_password",),
        "expected Unauthenticated, got Internal",
        "a wrong password looks like a bug",
    ),
    "UnknownUserTurnsUnknown": (
        ("fence.unknown_user",),
        "claims outcome unknown",
        "a refused login keeps an orchestrator waiting for a host that nobody touched",
    ),
    "IgnoresTheDeadline": (
        ("fence.unreachable_in_time", "fence.frozen_in_time"),
        "a call with 2 s returned after",
        "a library's own time-outs decide",
    ),
    "IgnoresCancel": (
        ("fence.cancel_ends_call",),
        "",  # it ends too late, or beside others by its own timeout: then it is no DeadlineExceeded
        "an agent that cannot be stopped",
    ),
    "LostAnswersAreNothing": (
        ("fence.lost_answers_are_told",),
        "and the host is o",
        "a lost answer is taken for a lost command",
    ),
    "CanBeClosedOnce": (
        ("fence.close_and_open_again",),
        "it is closed",
        "clean-up that runs twice fails the second time",
    ),
    "OnlyOneAtATime": (
        ("fence.concurrent_off",),
        "somebody else is fencing",
        "two nodes fence a third at the same time",
    ),
    "PasswordInArguments": (
        ("sec.secret_canary",),
        "",
        "CVE-2013-2214 class: fence agents that show the password in the process list",
    ),
    "TellsThePassword": (
        ("sec.secret_canary",),
        "",
        "an error shows the URL with its credentials",
    ),
}

_OCCASIONS = {"PasswordInArguments": "fence.off_is_true", "TellsThePassword": "fence.unreachable_in_time"}

# what becomes of power commands, or who is let in -> the same
REDFISH: dict[str, tuple[tuple[str, ...], str, str]] = {
    "open": (
        ("fence.wrong_password", "fence.unknown_user"),
        "but the call succeeded",
        "CVE-2018-7078 class: a BMC that lets everybody in",
    ),
    "deaf": (
        ("fence.off_is_true",),
        "and 1 s later it is on",
        "a reset action that answers 204 and does nothing",
    ),
    "fails": (("fence.off_is_true",), "status 500", "a BMC whose reset action ends in an error of its own"),
}


def _of_bmc(defect: str, driver: str) -> Mutant:
    checks, words, bug = BMC[defect, driver]
    name = f".{driver}" if driver else ""
    return Mutant(
        id=f"bmc.{defect.partition('=')[0]}{name}",
        backend="bmc",
        defect=defect,
        driver=f"broken_fence:{driver}" if driver else "",
        options=(("settle", "10.0"),) if driver else (),  # it gives up later than the BMC is late
        killed_by=checks,
        words=words,
        field_bug=bug,
    )


MUTANTS = (
    *(_of_bmc(*key) for key in BMC),
    *(
        Mutant(
            id=f"ipmi-driver.{name}",
            backend="bmc",
            driver=f"broken_fence:{name}",
            killed_by=checks,
            words=words,
            during=(_OCCASIONS[name],) if name in _OCCASIONS else (),
            field_bug=bug,
        )
        for name, (checks, words, bug) in IPMI.items()
    ),
    *(
        Mutant(
            id=f"redfish.{defect}",
            backend="redfish",
            defect=defect,
            killed_by=checks,
            words=words,
            field_bug=bug,
        )
        for defect, (checks, words, bug) in REDFISH.items()
    ),
    Mutant(
        id="redfish-driver.LostReplyCountsAsDone",
        backend="redfish",
        driver="broken_fence:LostReplyCountsAsDone",
        killed_by=("fence.lost_answers_are_told", "fence.unreachable_in_time"),
        words="told success, and the host is on",
        field_bug="a reset whose answer is lost is taken for done",
    ),
)
