"""`bollard conformance merge | diff | keygen | certify | verify`: what becomes of a result."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ..conformance.artefact import artefact_of
from ..conformance.certificate import (
    DAYS,
    Certificate,
    fingerprint,
    issue,
    mismatches,
    read_certificate,
)
from ..conformance.registry import all_checks
from ..conformance.reports import (
    difference,
    environment,
    merge_stored,
    mutation_score,
    read_result,
    result_bytes,
    result_json,
)
from ..conformance.reports.diff import Change, Difference
from ..conformance.reports.keys import read_private_key, read_public_key, write_key_pair
from ..conformance.reports.obstacles import Obstacle, claimed_profiles, obstacles
from ..conformance.reports.result import StoredResult, stored_result
from ..conformance.reports.text import visible
from ..core.spi import InvalidArgument
from .context import JsonFlag
from .output import err, out, print_json

# As `bollard conformance run`: the answer is no. Other codes mean that there is no answer.
NO = 10

_Old = Annotated[Path, typer.Argument(help="result.json of before.", dir_okay=False, exists=True)]
_New = Annotated[Path, typer.Argument(help="result.json of now.", dir_okay=False, exists=True)]
_Certificate = Annotated[Path, typer.Argument(help="What certify wrote.", dir_okay=False, exists=True)]


def merge_results(
    results: Annotated[
        list[Path], typer.Argument(help="result.json of each shard.", dir_okay=False, exists=True)
    ],
    output: Annotated[Path, typer.Option(help="Write the whole run's result.json there.", dir_okay=False)],
    json: JsonFlag = False,
) -> None:
    """Join the shards of one run. Exit code 0: the whole is conformant; 10: it is not."""
    merged = merge_stored([read_result(path) for path in results])
    output.write_bytes(result_bytes(merged.verdict, merged.environment))
    if json:
        print_json(result_json(merged.verdict, merged.environment))
    else:
        _say(merged.verdict.line())
    if not merged.verdict.conformant:
        raise typer.Exit(NO)


def diff_results(old: _Old, new: _New, json: JsonFlag = False) -> None:
    """Show what changed between two results. Exit code 0: nothing got worse; 10: something did."""
    found = difference(read_result(old).verdict, read_result(new).verdict)
    if json:
        print_json(_difference_json(found))
    else:
        _show_difference(found)
    if found.regressions:
        raise typer.Exit(NO)


def keygen(
    file: Annotated[
        Path, typer.Option("--out", help="The private key; the public one is FILE.pub.", dir_okay=False)
    ],
    json: JsonFlag = False,
) -> None:
    """Make the key pair that certificates are signed with. Keep the private one; publish the other."""
    public = write_key_pair(file)
    if json:
        print_json({"private_key": str(file), "public_key": str(public)})
    else:
        _say(f"{file} is private (mode 0600); give {public} to whoever verifies.")


def certify(
    result: Annotated[Path, typer.Option(help="result.json of the run.", dir_okay=False, exists=True)],
    key: Annotated[Path, typer.Option(help="Private key, see keygen.", dir_okay=False, exists=True)],
    file: Annotated[Path, typer.Option("--out", help="Write the certificate there.", dir_okay=False)],
    profile: Annotated[list[str] | None, typer.Option(help="Claim only these profiles, and core.")] = None,
    backend: Annotated[str, typer.Option(help="What the driver ran against: product and firmware.")] = "",
    days: Annotated[int, typer.Option(help="How long it is valid.", min=1, max=3650)] = DAYS,
    json: JsonFlag = False,
) -> None:
    """Sign a certificate. Exit code 0: issued; 10: refused, and said what stands in the way."""
    data = result.read_bytes()
    stored = stored_result(data, str(result))
    _demand_this_suite(stored)
    claimed = claimed_profiles(stored.verdict, profile or [])
    found = obstacles(stored.verdict, claimed, all_checks())
    if found:
        _refuse(found, as_json=json)
    signed = issue(
        stored,
        data,
        claimed=claimed,
        key=read_private_key(key),
        now_ms=_now_ms(),
        days=days,
        backend=backend,
        score=mutation_score(),
    )
    file.write_bytes(signed)
    if json:
        print_json({"issued": True, "certificate": str(file), "profiles": [p.name for p in claimed]})
        return
    titles = ", ".join(f"{p.title} {p.version}" for p in claimed)
    _say(f"CERTIFIED: {stored.verdict.distribution}: {titles} ({file})")


def verify(
    certificate: _Certificate,
    result: Annotated[Path | None, typer.Option(help="Is it about this result.json?", dir_okay=False)] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Is it about the driver installed here?")
    ] = False,
    public_key: Annotated[Path | None, typer.Option(help="Is it signed by this key?", dir_okay=False)] = None,
    json: JsonFlag = False,
) -> None:
    """Verify a certificate. Exit code 0: it holds; 10: it does not, and said why."""
    found, signed = read_certificate(certificate.read_bytes())
    wrong = mismatches(
        found,
        signed=signed,
        now_ms=_now_ms(),
        result=result.read_bytes() if result else None,
        installed=artefact_of(found.driver) if installed else None,
        trusted=read_public_key(public_key) if public_key else None,
    )
    if json:
        print_json({"valid": not wrong, "problems": wrong, "signed_by": fingerprint(found)})
    else:
        _show_certificate(found, wrong, known_key=public_key is not None)
    if wrong:
        raise typer.Exit(NO)


def _say(line: str) -> None:
    """Print one line; what a driver wrote is no markup and moves no cursor."""
    out.print(visible(line), markup=False, soft_wrap=True)


def _now_ms() -> int:
    return time.time_ns() // 10**6


def _demand_this_suite(stored: StoredResult) -> None:
    """Which checks a result must name is known to its own suite only."""
    ours, theirs = environment(), stored.environment
    if (ours.suite, ours.spec) != (theirs.suite, theirs.spec):
        raise InvalidArgument(
            f"the result is of suite {theirs.suite} (contract {theirs.spec}), this one is {ours.suite} "
            f"({ours.spec}): certify with the suite that ran"
        )


def _refuse(found: list[Obstacle], *, as_json: bool) -> NoReturn:
    """Say what stands in the way, and end with the exit code for no."""
    if as_json:
        print_json({"issued": False, "obstacles": [asdict(obstacle) for obstacle in found]})
    else:
        _show_obstacles(found)
    raise typer.Exit(NO)


def _show_obstacles(found: list[Obstacle]) -> None:
    for obstacle in found:
        if obstacle.check:
            _say(f"{obstacle.result} {obstacle.check}: {obstacle.sentence}")
            _say(f"     {obstacle.message or 'no message'}")
        else:
            _say(obstacle.message)
    _say(f"REFUSED: {len(found)} thing{'s' * (len(found) > 1)} in the way of a certificate")


def _show_certificate(found: Certificate, wrong: list[str], *, known_key: bool) -> None:
    titles = ", ".join(f"{p.get('name')} {p.get('version')}" for p in found.profiles)
    about = (
        f"{found.driver} ({found.distribution}): {titles}; suite {found.suite}, until {found.expires[:10]}"
    )
    _say(about)
    for problem in wrong:
        _say(f"     {problem}")
    if not known_key:
        err.print(f"Signed by key {fingerprint(found)}; whose that is was not asked (--public-key).")
    _say("NOT VALID" if wrong else "VALID")


def _show_difference(found: Difference) -> None:
    for title, changes in (("worse", found.regressions), ("better", found.fixes), ("changed", found.others)):
        for change in changes:
            _show_change(title, change)
    for title, outcomes in (("new", found.added), ("removed", found.removed)):
        for outcome in outcomes:
            _say(f"{title}: {outcome.check.id} ({outcome.result})")
    for measure in found.measures:
        told = f"{measure.old:.4g} -> {measure.new:.4g} {measure.unit} ({measure.percent:+.0f} %)"
        _say(f"figure: {measure.check.id}, {measure.name}: {told}")
    _say(f"{len(found.regressions)} worse, {len(found.fixes)} better")


def _show_change(title: str, change: Change) -> None:
    told = f"{title}: {change.check.id}: {change.old} -> {change.new}"
    _say(told)
    if change.regression and change.message:
        _say(f"     {change.message}")


def _difference_json(found: Difference) -> dict[str, object]:
    def told(change: Change) -> dict[str, str]:
        return {"id": change.check.id, "old": change.old, "new": change.new, "message": change.message}

    return {
        "regressions": [told(c) for c in found.regressions],
        "fixes": [told(c) for c in found.fixes],
        "changed": [told(c) for c in found.others],
        "new": [o.check.id for o in found.added],
        "removed": [o.check.id for o in found.removed],
        "measures": [
            {"id": m.check.id, "name": m.name, "unit": m.unit, "old": m.old, "new": m.new}
            for m in found.measures
        ],
    }
