"""`core/service/sweep.py`: what nobody owns goes, what anybody owns stays, whatever fails beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from bollard.core.access import Mover
from bollard.core.journal import Journal
from bollard.core.pool import Pool
from bollard.core.service.leftovers import End, Report, Run
from bollard.core.service.seen import Seen
from bollard.core.service.sweep import DAY, Sweep
from bollard.core.service.sweep_state import StatePlace
from bollard.core.spi import Body, Call, Host, Unavailable, VolumeSpec
from bollard.core.store import Store, open_store
from bollard.transfer_objects.ids import HostId, VolumeId, new_id

from ..core.ram_driver import RamManaged, RamOptions

MINE = Host(id=HostId("mover"), iqn="iqn.x")
OTHER = Host(id=HostId("other"), iqn="iqn.y")
PART = "v1/vol-1/monday/run-1/0000000000000000.00000000000000000000000000000000.zip"

ROOT = Path(__file__).parents[2]

OWNER = """
import sys
from pathlib import Path
from bollard.core.journal import Journal
kind, pool, directory, *volumes = sys.argv[1:]
entries = [Journal(Path(directory)).begin(kind, pool=pool, volume=v, host="mover") for v in volumes]
print("begun", flush=True)
sys.stdin.readline()
"""


class Clock:
    """A wall clock that stands until it is put on."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.now


class Site:
    """Two managed pools, a store, and this machine."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = Clock()
        self.mover = Mover(host=MINE, journal=Journal(home / "journal"))
        self.broken: set[str] = set()

    def pool(self, name: str) -> Pool:
        """Open one."""
        if name in self.broken:
            raise Unavailable(f"{name} does not answer")
        return Pool(name, RamManaged(RamOptions(directory=self.home / name)), sleep=lambda _: None)

    def store(self) -> Store:
        """Open it."""
        (self.home / "store").mkdir(exist_ok=True)
        return open_store("nightly", "nfs", {"path": str(self.home / "store")})

    def sweep(self, *, dry_run: bool = False) -> Report:
        """Sweep everything."""
        work = Sweep(
            pools={name: partial(self.pool, name) for name in ("ssd-1", "ssd-2")},
            stores={"nightly": self.store},
            mover=self.mover,
            seen=Seen(self.home / "swept"),
        )
        run = Run(call=Call.within(60), dry_run=dry_run, older_than=DAY, clock=self.clock)
        return work.run(run)

    @contextmanager
    def owner(self, kind: str, pool: str, *volumes: str) -> Iterator[subprocess.Popen[str]]:
        """A process that has begun something and is still at it; killed in the end."""
        with self.pool(pool) as opened:
            identity = opened.info.identity
        arguments = [sys.executable, "-c", OWNER, kind, identity, str(self.home / "journal"), *volumes]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "begun\n"
            try:
                yield process
            finally:
                process.kill()

    def volumes(self, pool: str) -> list[str]:
        """What is there."""
        with self.pool(pool) as opened:
            return sorted(v.id for v in opened.volumes.list())


@pytest.fixture
def site(tmp_path) -> Site:
    """A site with nothing on it."""
    return Site(tmp_path)


def make(site: Site, pool: str, volume: str, *, name: str = "", host: Host | None = None) -> str:
    """Make a volume, granted to a host if one is given."""
    with site.pool(pool) as opened:
        opened.volumes.create(VolumeSpec(id=VolumeId(volume), size=4096, name=name))
        if host:
            opened.volumes.grant(VolumeId(volume), host)
    return volume


def ends(report: Report) -> dict[tuple[str, str], End]:
    """What became of each find."""
    return {(one.leftover.kind, one.leftover.name): one.end for one in report.swept}


def test_nothing_is_found_where_nothing_was_left(site):
    """A user's volumes and objects are no leftovers, whatever they are called."""
    make(site, "ssd-1", "tmp-mine", name="temp of a thing")
    make(site, "ssd-1", new_id("tmp"), name="my temporary files")
    with closing(site.store()) as store:
        store.put("v1/notes.txt", Body.of(b"mine"), Call.within(30))

    for _ in range(2):
        assert site.sweep().swept == []
        site.clock.now += 2 * DAY


def test_the_dead_ones_leftovers_go_from_every_pool(site):
    """Clones and half-filled volumes of a killed process go; a dry run tells the same before."""
    clone = make(site, "ssd-1", "tmp-1", host=MINE)
    half = make(site, "ssd-2", "v-2")
    make(site, "ssd-2", "v-3")
    for kind, pool, volume in (("temp-clone", "ssd-1", clone), ("fill", "ssd-2", half)):
        with site.owner(kind, pool, volume):
            pass
    expected = {("temp-clone", clone), ("fill", half)}

    assert ends(site.sweep(dry_run=True)) == dict.fromkeys(expected, End.FOUND)
    assert site.volumes("ssd-1") == [clone]
    report = site.sweep()
    assert ends(report) == dict.fromkeys(expected, End.REMOVED)
    assert {one.leftover.size for one in report.swept} == {4096}
    assert all(one.leftover.owner and one.leftover.why for one in report.swept)
    assert (site.volumes("ssd-1"), site.volumes("ssd-2")) == ([], ["v-3"])
    assert site.sweep().swept == []


def test_a_living_process_keeps_all_of_its_own(site):
    """Beside a living owner nothing of his goes, and once he is killed all of it does."""
    volumes = [make(site, "ssd-1", f"tmp-{n}", host=MINE) for n in range(3)]
    with site.owner("temp-clone", "ssd-1", *volumes):
        assert site.sweep().swept == []
        assert site.volumes("ssd-1") == volumes

    assert ends(site.sweep()) == {("temp-clone", volume): End.REMOVED for volume in volumes}
    assert site.volumes("ssd-1") == []


def test_what_a_living_one_uses_as_well_is_kept_and_told(site):
    """A dead reader's access stays for as long as a living one reads the volume."""
    make(site, "ssd-1", "v-1", host=MINE)
    with site.owner("grant", "ssd-1", "v-1"):
        with site.owner("grant", "ssd-1", "v-1"):
            pass
        [kept] = site.sweep().swept
        assert (kept.end, kept.reason) == (End.KEPT, "somebody living works on the volume")
    assert {one.end for one in site.sweep().swept} == {End.REMOVED}


def test_two_sweeps_at_once_share_the_work(site):
    """What one sweep has in hand the other leaves; together they remove each thing once."""
    volumes = [make(site, "ssd-1", f"tmp-{n}", host=MINE) for n in range(8)]
    with site.owner("temp-clone", "ssd-1", *volumes):
        pass
    script = "import sys; from pathlib import Path; from tests.sync.test_sweep import Site"
    script += "; print(len(Site(Path(sys.argv[1])).sweep().swept))"
    command = [sys.executable, "-c", script, str(site.home)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [int(process.communicate(timeout=200)[0]) for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert sum(counts) == len(volumes)
    assert site.volumes("ssd-1") == []


def test_a_pool_that_does_not_answer_keeps_nobody_waiting(site):
    """The other pool is swept, the failure is told, and the next sweep does the rest."""
    for pool in ("ssd-1", "ssd-2"):
        with site.owner("fill", pool, make(site, pool, f"v-{pool}")):
            pass
    site.broken = {"ssd-1"}
    report = site.sweep()

    assert [failure.place for failure in report.failures] == ["pool ssd-1"]
    assert ends(report) == {("fill", "v-ssd-1"): End.KEPT, ("fill", "v-ssd-2"): End.REMOVED}
    site.broken = set()
    assert ends(site.sweep()) == {("fill", "v-ssd-1"): End.REMOVED}


def test_a_clone_of_a_lost_journal_goes_after_a_day_without_access(site):
    """Nobody has it in his journal: it goes once it was seen for longer than the limit, and not granted."""
    clone = make(site, "ssd-1", new_id("tmp"), name="temp of s-1", host=OTHER)
    assert site.sweep().swept == []
    site.clock.now += DAY / 2
    assert site.sweep().swept == []
    site.clock.now += DAY / 2
    assert ends(site.sweep()) == {("orphan-clone", clone): End.KEPT}
    with site.pool("ssd-1") as pool:
        pool.volumes.revoke(VolumeId(clone), OTHER.id)

    assert ends(site.sweep(dry_run=True)) == {("orphan-clone", clone): End.FOUND}
    assert ends(site.sweep()) == {("orphan-clone", clone): End.REMOVED}
    assert site.volumes("ssd-1") == []


def test_a_clone_that_a_living_process_has_in_its_journal_is_no_orphan(site):
    """It is read by several machines in turns: for a moment none has access, though it is days old."""
    clone = make(site, "ssd-1", new_id("tmp"), name="temp of s-1")
    with site.owner("temp-clone", "ssd-1", clone):
        for _ in range(2):
            assert site.sweep().swept == []
            site.clock.now += 2 * DAY
        assert site.volumes("ssd-1") == [clone]
    assert ends(site.sweep()) == {("temp-clone", clone): End.REMOVED}


def test_a_dry_run_does_not_make_anything_older(site):
    """Only a real sweep remembers what it saw first."""
    make(site, "ssd-1", new_id("tmp"), name="temp of s-1")
    site.sweep(dry_run=True)
    site.clock.now += 2 * DAY
    assert site.sweep().swept == []


def test_unfinished_uploads_and_parts_of_killed_backups_go(site):
    """An upload that stands still for a day, and a part that no manifest names; a fresh upload stays."""
    with closing(site.store()) as store:
        store.put(PART, Body.of(b"x" * 1000), Call.within(30))
    uploads = site.home / "store" / ".bollard-tmp"
    for name in ("_v1%2Fvol-1%2Fmonday%2Fmanifest.json,aa", "_v1%2Ftheirs,bb"):
        (uploads / name).parent.mkdir(exist_ok=True)
        (uploads / name).write_bytes(b"half")
    report = site.sweep(dry_run=True)
    assert ends(report) == {("archive-parts", "vol-1"): End.FOUND}
    assert report.swept[0].leftover.size == 1000
    for path in uploads.iterdir():
        long_ago = time.time() - 2 * DAY
        os.utime(path, (long_ago, long_ago))

    expected = {("upload", "v1/vol-1/monday/manifest.json"), ("archive-parts", "vol-1")}
    assert ends(site.sweep(dry_run=True)) == dict.fromkeys(expected, End.FOUND)
    assert ends(site.sweep()) == dict.fromkeys(expected, End.REMOVED)
    assert [path.name for path in uploads.iterdir()] == ["_v1%2Ftheirs,bb"]
    assert site.sweep().swept == []


def test_a_draft_of_this_machines_identity_goes_after_a_day(site, tmp_path):
    """It holds a secret, and whoever was to link it died; a fresh one may be linked just now."""
    draft, mine = tmp_path / ".mover-abc", tmp_path / "mover.json"
    for path in (draft, mine):
        path.write_text("{}")
    place = StatePlace(directory=tmp_path)

    def ends_after(seconds: float, *, dry_run: bool) -> list[End]:
        run = Run(call=Call.within(60), dry_run=dry_run, older_than=DAY, clock=lambda: time.time() + seconds)
        return [one.end for one in place.sweep(run)]

    assert ends_after(0, dry_run=False) == []
    assert ends_after(2 * DAY, dry_run=True) == [End.FOUND]
    assert ends_after(2 * DAY, dry_run=False) == [End.REMOVED]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["mover.json"]


def test_a_void_claim_goes_without_a_word(site):
    """It kept others out while its owner lived, and names nothing; a dry run leaves even that."""
    site.mover.journal.begin("service.claim", what="snapshot", subject="s-1").release()
    assert site.sweep(dry_run=True).swept == []
    assert len(list((site.home / "journal").glob("*.intent"))) == 1
    assert site.sweep().swept == []
    assert not list((site.home / "journal").glob("*.intent"))
