"""Our archive beside what others use, on the same images and the same server, and beside the limits.

    BENCH_SCALE=0.05 python bench/compare.py [--group life …] [--rounds 3] [--output FILE]

Everybody stores through one S3 server on loopback (Swift's s3api; borg and nbdcopy, which have no S3, in a
directory, where they are compared with ours in a directory), with 4 requests at a time, in turn. Writes
bench/results/latest.json and, unless an output was named, the table and plots of bench/README.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / name) for name in ("", "tests/lib", "tests")]

import swiftclient

from bench.cases import GROUPS, LIMITS, OURS_DENSE, Arena, Measured
from bench.peers.borg import Borg
from bench.peers.cinder import Cinder
from bench.peers.contestant import Contestant, Place
from bench.peers.limits import Raw
from bench.peers.ours import Ours, OursInDirectory
from bench.peers.qemu import Bitmaps, ConvertAndAws, ConvertAndRclone, Nbdcopy
from bench.peers.restic import Restic
from bench.peers.tools import Missing, version
from bench.report import publish
from bench.rows import RESULTS, Row, compared, document, kept_rows, machine, problems
from real_swift import RealSwift

PEERS: tuple[type[Contestant], ...] = (
    ConvertAndRclone,
    ConvertAndAws,
    Restic,
    Cinder,
    Bitmaps,
    Borg,
    Nbdcopy,
)
_PROMISED_MIB = 256
_NEEDED_BYTES = 40 * 2**30  # of disk, at scale 1


@contextmanager
def server(home: Path) -> Iterator[Place]:
    """Start the S3 server with a bucket."""
    home.mkdir()
    with RealSwift(home) as swift:
        account = {"user": "test:tester", "key": swift.key}
        connection = swiftclient.Connection(authurl=swift.auth_url, **account)
        connection.put_container("bench")
        connection.close()
        yield Place(home=home, s3=swift.s3_url, access="test:tester", secret=swift.key, bucket="bench")


def entrants(home: Path, place: Place, against: Sequence[str], missing: dict[str, str]) -> list[Contestant]:
    """Let all who are asked for and there prepare; of the others, `missing` says why not."""
    found: list[Contestant] = []
    ours: list[type[Contestant]] = [Ours, OursInDirectory]
    for cls in [*ours, *(cls for cls in PEERS if cls.name in against)]:
        words = {"s3": place.s3, "access": place.access, "secret": place.secret, "bucket": place.bucket}
        one = cls(Place(home=home / cls.__name__, **words))
        try:
            for tool in one.tools:
                if shutil.which(tool) is None:
                    raise Missing(f"{tool} is not installed")
            one.prepare()
        except Missing as error:
            missing[cls.name] = str(error)
        else:
            found.append(one)
    return found


def measure(given: argparse.Namespace, scale: float, missing: dict[str, str]) -> Measured:
    """Run everything that was asked for."""
    measured = Measured()
    for number in range(given.rounds):
        for group in GROUPS:
            if group.__name__ not in given.group:
                continue
            print(f"round {number + 1} of {given.rounds}: {group.__doc__}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="bollard-bench-") as name:
                home = Path(name)
                with server(home / "server") as place:
                    there = entrants(home / "work", place, given.against, missing)
                    (home / "images").mkdir()
                    arena = Arena(
                        home=home / "images",
                        entrants=there,
                        raw=Raw(place),
                        measured=measured,
                        number=number,
                        scale=scale,
                    )
                    arena.start()
                    group(arena)
    return measured


def rows_of(measured: Measured, missing: dict[str, str]) -> list[Row]:
    """Return the comparisons, case by case."""
    cases = list(dict.fromkeys(case for case, _ in measured.series))
    return [row for case in cases for row in _rows_of(case, measured, missing)]


def _rows_of(case: str, measured: Measured, missing: dict[str, str]) -> Iterator[Row]:
    peak = round(measured.peaks.get(case, 0.0), 1)
    stores = {cls.name: cls.store for cls in PEERS}
    for against in [*stores, *LIMITS]:
        ours = measured.of(case, (OursInDirectory if stores.get(against) == "directory" else Ours).name)
        theirs = measured.of(case, against)
        kind = "scale" if against == OURS_DENSE else "limit" if against in LIMITS else "peer"
        if theirs.seconds:
            yield compared(case, kind, against, ours.seconds, theirs.seconds, peak, theirs.note)
        elif against in missing:
            yield Row(
                case=case,
                kind=kind,
                against=against,
                ratio=None,
                peak_mib=peak,
                runs=0,
                note=missing[against],
            )
    runs = len(measured.of(case, Ours.name).seconds)
    ratio = round(_PROMISED_MIB / peak, 3) if peak else None
    note = "" if peak else "the process ended before it was looked at"
    against = f"{_PROMISED_MIB} MiB"
    yield Row(case=case, kind="memory", against=against, ratio=ratio, peak_mib=peak, runs=runs, note=note)


def versions() -> dict[str, str]:
    """Return what takes part, with versions; "missing" for what is not there."""
    commands = {
        "qemu-img": ("qemu-img", "--version"),
        "rclone": ("rclone", "version"),
        "aws": (os.environ.get("BENCH_AWS", "aws"), "--version"),
        "restic": ("restic", "version"),
        "borg": ("borg", "--version"),
        "nbdcopy": ("nbdcopy", "--version"),
    }
    found = {name: version(*command) or "missing" for name, command in commands.items()}
    return {"bollard": importlib.metadata.version("bollard"), **found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, and say where it lies."""
    names = [group.__name__ for group in GROUPS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--group", nargs="+", choices=names, default=names, help="what to measure")
    peers = [cls.name for cls in PEERS]
    parser.add_argument("--against", nargs="*", choices=peers, default=peers, help="which peers")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the rows go")
    given = parser.parse_args(arguments)
    scale = float(os.environ.get("BENCH_SCALE", "1"))
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    if free < _NEEDED_BYTES * scale:
        parser.error(f"{place} has {free / 2**30:.0f} GiB free: set BENCH_SCALE lower, or TMPDIR")
    missing: dict[str, str] = {}
    measured = measure(given, scale, missing)
    about = machine(versions(), scale)
    about["our_start_seconds"] = round(statistics.median(measured.starts), 3)
    rows = [replace(row, scale=scale) for row in rows_of(measured, missing)]
    whole = document(about, rows, kept_rows(given.output, rows))
    wrong = problems(whole)
    given.output.parent.mkdir(exist_ok=True)
    given.output.write_text(json.dumps(whole, indent=1) + "\n")
    print(f"{len(whole['rows'])} rows in {given.output}")
    if given.output == RESULTS:
        publish(whole)
    for one in wrong:
        print(one, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
