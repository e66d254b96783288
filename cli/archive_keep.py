"""`bollard archive retain`: keep some snapshots, delete the others, and say why."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..core.archive import Policy, Retained
from ..core.backends import LONGEST
from ..core.spi import Call, InvalidArgument, StorageError
from . import context
from .context import JsonFlag, StoreName
from .jobs import TrustListing, known, open_archive
from .output import EXIT_CODES, err, out, print_json, report, show_rows, size_text

_PERIOD = "Keep the last of each of so many {} that have one."


def retain(
    ctx: typer.Context,
    volume: Annotated[str, typer.Argument(help="The volume's id.")] = "",
    every: Annotated[bool, typer.Option("--all", help="All volumes of the store.")] = False,
    store: StoreName = "",
    last: Annotated[int, typer.Option("--keep-last", help="Keep the newest ones.")] = 0,
    hourly: Annotated[int, typer.Option("--keep-hourly", help=_PERIOD.format("hours"))] = 0,
    daily: Annotated[int, typer.Option("--keep-daily", help=_PERIOD.format("days"))] = 0,
    weekly: Annotated[int, typer.Option("--keep-weekly", help=_PERIOD.format("weeks"))] = 0,
    monthly: Annotated[int, typer.Option("--keep-monthly", help=_PERIOD.format("months"))] = 0,
    yearly: Annotated[int, typer.Option("--keep-yearly", help=_PERIOD.format("years"))] = 0,
    within: Annotated[
        str, typer.Option("--keep-within", help="Keep what is so much older than the newest: 12h, 3d, 1y6m.")
    ] = "",
    keep: Annotated[list[str] | None, typer.Option("--keep", help="Keep this snapshot.")] = None,
    zone: Annotated[str, typer.Option("--zone", help="Whose days: Europe/Berlin; UTC by default.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Say it, do nothing.")] = False,
    trust: TrustListing = False,
    json: JsonFlag = False,
) -> None:
    """Delete the snapshots that no rule keeps; the rules of the options, else those of the configuration."""
    if bool(volume) == every:
        raise InvalidArgument("name one volume, or say --all")
    given = {
        "last": last, "hourly": hourly, "daily": daily, "weekly": weekly, "monthly": monthly,
        "yearly": yearly, "within": within, "keep": keep, "zone": zone,
    }  # fmt: skip
    policy = _policy(ctx, store, {key: value for key, value in given.items() if value})
    with open_archive(ctx, store) as archive:
        call = Call.within(LONGEST)
        done, failures = [], []
        for one in archive.volumes(call) if every else [volume]:
            try:
                ids = known(archive, one, trust, call)
                done.append(archive.retain(call, volume=one, policy=policy, dry_run=dry_run, known=ids))
            except StorageError as error:  # the other volumes get their turn
                error.add_note(one)
                failures.append(error)
    _tell(done, failures, dry_run, json)


def _policy(ctx: typer.Context, store: str, given: dict[str, Any]) -> Policy:
    if given:
        return Policy.parse(given, "the options")
    backend = context.config(ctx).store(store)
    if backend.keep is None:
        raise InvalidArgument(
            f"say what to keep, such as --keep-daily 7, or write it into [stores.{backend.name}.keep]"
        )
    return backend.keep


def _tell(done: list[Retained], failures: list[StorageError], dry_run: bool, json: bool) -> None:
    rows = [
        {
            "volume": one.volume,
            "snapshot": verdict.snapshot,
            "created": verdict.created.isoformat(timespec="seconds"),
            "keep": verdict.keep,
            "reasons": list(verdict.reasons),
        }
        for one in done
        for verdict in one.verdicts
    ]
    freed = sum(one.collected.size for one in done if one.collected)
    if json:
        errors = [error.to_json() | {"volume": error.__notes__[-1]} for error in failures]
        print_json({"dry_run": dry_run, "snapshots": rows, "freed": freed, "errors": errors})
    else:
        _table(rows, freed, dry_run)
        for error in failures:
            err.print(f"volume {error.__notes__[-1]}:", end=" ")
            report(error, as_json=False)
    if failures:
        raise typer.Exit(max(EXIT_CODES.get(error.code, 1) for error in failures))


def _table(rows: list[dict[str, Any]], freed: int, dry_run: bool) -> None:
    gone = "would go" if dry_run else "deleted"
    shown = [row | {"keep": "kept" if row["keep"] else gone} for row in rows]
    show_rows(shown, as_json=False, empty="There are no snapshots.")
    count = sum(not row["keep"] for row in rows)
    if count:
        tail = "" if dry_run else f", {size_text(freed)} freed"
        out.print(f"{count} of {len(rows)} snapshots {gone}{tail}")
