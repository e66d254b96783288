"""One step of ours, as a program: `ours_worker.py JOB`, a file with a JSON object (see ours.py)."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from bollard.core.archive import Archive, CreateOptions, Level, Workers
from bollard.core.dataplane import open_sink, open_source
from bollard.core.spi import Call, Extent, FileLocation
from bollard.core.store import open_store


def create(archive: Archive, job: dict[str, Any], path: str) -> None:
    """Archive one image; volumes bear their files' names."""
    parent = job.get("parent")
    changed = [Extent(offset, length) for offset, length in job["changed"]] if parent else None
    many = len(job["images"]) > 1
    with open_source(FileLocation(path=Path(path), format="raw")) as source:
        archive.create(
            source,
            Call.within(3600),
            volume=Path(path).stem if many else "bench",
            snapshot=job["tag"],
            parent=parent,
            changed=changed,
            options=CreateOptions(compression="auto"),
        )


def restore(archive: Archive, job: dict[str, Any]) -> None:
    """Restore into a new sparse file."""
    call = Call.within(3600)
    size = archive.show(call, volume="bench", snapshot=job["tag"]).size
    target = Path(job["target"])
    with target.open("xb") as file:
        file.truncate(size)
    with open_sink(FileLocation(path=target, format="raw")) as sink:
        archive.restore(sink, call, volume="bench", snapshot=job["tag"], sink_is_zero=True)
        sink.flush()


def verify(archive: Archive, job: dict[str, Any]) -> None:
    """Read all of it, and fail if anything is wrong."""
    report = archive.verify(Call.within(3600), volume="bench", snapshot=job["tag"], level=Level.DIGEST)
    if not report.ok:
        raise SystemExit(f"verify found {report.problems}")


def main() -> None:
    """Do the step."""
    job = json.loads(Path(sys.argv[1]).read_text())
    with closing(open_store("bench", job["driver"], job["options"])) as store:
        many = len(job.get("images", ())) > 1
        workers = Workers(count=1 if many else job["workers"])
        archive = Archive(store, workers=workers)
        if job["step"] == "full":
            with ThreadPoolExecutor(job["workers"]) as pool:
                list(pool.map(lambda path: create(archive, job, path), job["images"]))
        elif job["step"] != "start":
            {"restore": restore, "verify": verify}[job["step"]](archive, job)


if __name__ == "__main__":
    main()
