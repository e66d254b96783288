"""A night's site in a directory: pools of raw files, a store, a configuration, and what is in the archive."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bollard.core.archive import Archive
from bollard.core.dataplane import FileSink, FileSource, compare
from bollard.core.fleet import Engine, Fleet, Job, Limits, Row, site_of
from bollard.core.spi import Call, FileLocation, VolumeSpec
from bollard.core.store import open_store
from bollard.transfer_objects.ids import VolumeId

MIB = 2**20
WINDOW = 64 * MIB


@dataclass(frozen=True, slots=True)
class Night:
    """One site: `make` volumes, `run` a fleet, `restored` bytes."""

    home: Path
    pools: tuple[str, ...] = ("ssd-1",)

    @property
    def config(self) -> Path:
        """Where the configuration is."""
        return self.home / "bollard.toml"

    def setup(self, **stores: str) -> None:
        """Write pools, a directory as store, and the configuration; `stores`: further ones, as TOML."""
        for name in (*self.pools, "store"):
            (self.home / name).mkdir()
        lines = [
            f'[pools.{name}]\ndriver = "qcow2"\noptions = {{ path = "{self.home}/{name}", format = "raw" }}'
            for name in self.pools
        ]
        lines.append(f'[stores.nightly]\ndriver = "nfs"\noptions = {{ path = "{self.home}/store" }}')
        lines += [f"[stores.{name}]\n{body}" for name, body in stores.items()]
        self.config.write_text("\n".join(lines))
        self.config.chmod(0o600)

    def make(self, volume: str, *, windows: int = 1, pool: str = "", length: int = 65536) -> Path:
        """Make a volume with some noise in each of its windows; return its file."""
        opened = site_of(self.config).pool(pool or self.pools[0])
        opened.volumes.create(VolumeSpec(id=VolumeId(volume), size=windows * WINDOW))
        location = opened.volumes.locate(VolumeId(volume))
        assert isinstance(location, FileLocation)
        noise = random.Random(volume)  # noqa: S311 - test data
        with location.path.open("r+b") as file:
            for window in range(windows):
                file.seek(window * WINDOW + 4096 * window)
                file.write(noise.randbytes(length))
        return location.path

    def fleet(self, engine: Engine, *, limits: Limits | None = None, run: str = "mon", **share: Any) -> Fleet:
        """A fleet to the one store."""
        return Fleet(
            site=site_of(self.config),
            engine=engine,
            run=run,
            store=share.pop("store", "nightly"),
            limits=limits or Limits(),
            share={"config": self.config, "batch": 1, **share},
        )

    def run(self, engine: Engine, jobs: Sequence[Job], **more: Any) -> dict[str, Row]:
        """Run a fleet to its end; the rows by volume."""
        return {row.job.volume: row for row in self.fleet(engine, **more).rows(jobs, Call.within(300))}

    def job(self, volume: str, **more: Any) -> Job:
        """A job of the first pool."""
        return Job(volume=VolumeId(volume), pool=more.pop("pool", self.pools[0]), **more)

    @contextmanager
    def archive(self) -> Iterator[Archive]:
        """The archive, opened apart from the fleet."""
        options = {"path": str(self.home / "store")}
        with closing(open_store("nightly", "nfs", options)) as store:
            yield Archive(store)

    def same(self, volume: Path, row: Row) -> bool:
        """Tell whether what a row says is in the archive is what the volume holds."""
        assert row.manifest, row.error
        return self.holds(volume, row.job.volume, row.snapshot)

    def holds(self, file: Path, volume: str, snapshot: str) -> bool:
        """Restore a snapshot and compare it with a file."""
        target = self.home / "restored.raw"
        with target.open("wb") as empty:
            empty.truncate(file.stat().st_size)
        with self.archive() as archive, FileSink.open(target) as sink:
            archive.restore(sink, Call(), volume=volume, snapshot=snapshot, sink_is_zero=True)
        with FileSource.open(file) as a, FileSource.open(target) as b:
            return compare(a, b) is None
