"""Dying at any call to the store: the next run finishes the work, and a collect leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bollard.core.archive import Archive, Level, Timing
from bollard.core.spi import Busy, Call, Conflict, DataLoss, DeadlineExceeded
from bollard.drivers.secondary.nfs import NfsDriver, NfsOptions

TIMING = Timing(lease=100, grace=50)


class Bench:
    """An archive with s0 and s1 in it, and the increment s2 to work on; dies at a chosen call."""

    def __init__(self, kit: Any, small: Any, inline: Callable[..., Archive]) -> None:
        self.kit = kit
        self.small = small
        self.clock = kit.FakeClock()
        self.store = kit.MemoryStore()
        self.attempts = iter(range(10**6))
        self.inline = inline
        self.contents: dict[str, bytes] = {}
        for name, parent in [("s0", None), ("s1", "s0")]:
            self.create(name, parent)

    def archive(self) -> Archive:
        """A new process: nothing is remembered."""
        return self.inline(
            self.store,
            writer="job-1",
            clock=self.clock,
            new_attempt=lambda: f"t{next(self.attempts)}",
            timing=TIMING,
        )

    def create(self, name: str, parent: str | None) -> None:
        """Archive a snapshot of a volume that differs a little from one to the next."""
        data = bytearray(self.kit.noise(7, 8192))
        data[int(name[1]) * 700] ^= 1
        data[6000] = int(name[1])
        self.contents[name] = bytes(data)
        self.archive().create(
            self.kit.Ram(data, cell=512),
            Call(),
            volume="vol-1",
            snapshot=name,
            parent=parent,
            options=self.small,
        )

    def die_at(self, number: int, when: str) -> None:
        """Crash before or after the call of this number (0: the next)."""
        left = [number]

        def hook(moment: str, method: str, key: str) -> None:
            if moment == "after" and when == "before":
                return
            if moment == "before":
                left[0] -= 1
            if left[0] == -1 and moment == when:
                raise self.kit.Crash
            if left[0] < -1:
                raise self.kit.Crash  # dead processes make no calls

        self.store.hook = hook

    def alive_again(self) -> None:
        """A new process may call the store."""
        self.store.calm()

    def assert_clean(self, snapshots: list[str]) -> None:
        """Once the leases are over, exactly these snapshots are there, whole, and nothing else."""
        self.clock.now += TIMING.lease + TIMING.grace + 1
        archive = self.archive()
        archive.collect(Call(), volume="vol-1")
        needed = {"README.txt", "RESTORE.sh", "RESTORE.py"}
        for name in snapshots:
            sink = self.kit.Ram(8192)
            manifest = archive.restore(sink, Call(), volume="vol-1", snapshot=name)
            assert sink.data == self.contents[name]
            needed |= {manifest.key_of(w, p) for w, p in manifest.parts()}
            needed.add(f"v1/vol-1/{name}/manifest.json")
        assert set(self.store.objects) == needed


@pytest.fixture
def bench(kit: Any, small: Any, inline: Any) -> Callable[[], Bench]:
    """Make a bench."""
    return lambda: Bench(kit, small, inline)


def crash_everywhere(
    bench: Callable[[], Bench], operation: Callable[[Bench], Any], then: Callable[[Bench], None]
) -> int:
    """Run an operation, dying at its first call, its second, ...; `then` looks. Returns how many calls."""
    for when in ("before", "after"):
        for number in range(10_000):
            one = bench()
            one.die_at(number, when)
            try:
                operation(one)
            except one.kit.Crash:
                one.alive_again()
                then(one)
                continue
            break
    return number


def test_create_dies_anywhere(bench):
    """A backup killed at any call: nothing half-made is visible, the retry completes it."""

    def then(one: Bench) -> None:
        visible = [entry.snapshot for entry in one.archive().list(Call())]
        assert visible in (["s0", "s1"], ["s0", "s1", "s2"])
        one.create("s2", "s1")
        one.assert_clean(["s0", "s1", "s2"])

    assert crash_everywhere(bench, lambda one: one.create("s2", "s1"), then) > 10


def test_create_dies_and_is_given_up(bench):
    """A backup killed at any call and never tried again leaves nothing once its lease is over."""

    def then(one: Bench) -> None:
        there = [entry.snapshot for entry in one.archive().list(Call())]
        one.assert_clean(there)

    crash_everywhere(bench, lambda one: one.create("s2", "s1"), then)


def test_delete_dies_anywhere(bench):
    """A deletion killed at any call is complete after another one, and never hurts the increment."""

    def delete(one: Bench) -> None:
        one.archive().delete(Call(), volume="vol-1", snapshot="s0")

    def then(one: Bench) -> None:
        delete(one)
        one.assert_clean(["s1"])

    assert crash_everywhere(bench, delete, then) > 5


def test_collect_dies_anywhere(bench):
    """A collection killed at any call is complete after another one."""

    def dirty() -> Bench:
        one = bench()
        one.die_at(12, "after")
        with pytest.raises(one.kit.Crash):
            one.create("s2", "s1")
        one.alive_again()
        one.clock.now += TIMING.lease + TIMING.grace + 1
        return one

    def collect(one: Bench) -> None:
        one.archive().collect(Call(), volume="vol-1")

    assert crash_everywhere(dirty, collect, lambda one: one.assert_clean(["s0", "s1"])) > 5


def test_resume_sends_only_what_is_missing(kit, small, inline, memory):
    """After a crash in the middle the same writer takes the finished parts over, at once."""
    volume = kit.Ram(kit.noise(1, 40 * 2048), cell=512)

    def die_after_20_parts(when: str, method: str, key: str) -> None:
        if when == "after" and sum(key.endswith(".zip") for key in memory.objects) == 20:
            raise kit.Crash

    memory.hook = die_after_20_parts
    with pytest.raises(kit.Crash):
        inline(memory, writer="job").create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    memory.calm()
    first, memory.sent = memory.sent, 0
    archive = inline(memory, writer="job")
    manifest = archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    assert memory.sent < 0.6 * (first + memory.sent)
    assert len(manifest.layers()) == 2
    assert archive.verify(Call(), volume="vol-1", snapshot="s0", level=Level.IMAGE).ok


def test_other_writer_waits_for_the_lease(kit, small, inline, memory):
    """Another writer is told to wait while the lease runs, and takes over when it is over."""
    clock, volume = kit.FakeClock(), kit.Ram(b"\1" * 8192, cell=512)

    def die_at_manifest(when: str, method: str, key: str) -> None:
        if method == "put" and key.endswith("manifest.json"):
            raise kit.Crash

    memory.hook = die_at_manifest
    with pytest.raises(kit.Crash):
        inline(memory, writer="a", clock=clock).create(
            volume, Call(), volume="vol-1", snapshot="s0", options=small
        )
    memory.calm()
    other = inline(memory, writer="b", clock=clock)
    with pytest.raises(Busy) as raised:
        other.create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    assert raised.value.retry_after == pytest.approx(900, abs=1)
    clock.now += 901
    other.create(volume, Call(), volume="vol-1", snapshot="s0", options=small)


def during(memory: Any, method: str, ending: str, action: Callable[[], None], when: str = "before") -> None:
    """Do something just before (or after) the first call of this kind."""
    done: list[bool] = []

    def hook(moment: str, name: str, key: str) -> None:
        if (moment, name) == (when, method) and key.endswith(ending) and not done:
            done.append(True)
            action()

    memory.hook = hook


def test_no_commit_after_the_lease(kit, small, inline, memory):
    """A writer that slept through its lease does not commit, whether it was collected or not."""
    clock, volume = kit.FakeClock(), kit.Ram(b"\1" * 8192, cell=512)
    archive = inline(memory, clock=clock, timing=TIMING)

    def sleep() -> None:
        clock.now += TIMING.lease + 1

    during(memory, "list", "/", lambda: None)
    for name, ending in [("s0", ".zip"), ("s1", "manifest.json")]:
        during(memory, "put", ending, sleep)
        call = Call(clock=clock)
        with pytest.raises(DeadlineExceeded):
            archive.create(volume, call, volume="vol-1", snapshot=name, options=small)

    def sleep_long_and_collect() -> None:
        clock.now += TIMING.lease + TIMING.grace + 1
        inline(memory, clock=clock, timing=TIMING).collect(Call(), volume="vol-1")

    during(memory, "list", "/", lambda: None)
    for name, ending in [("s2", ".zip"), ("s3", "manifest.json")]:
        during(memory, "put", ending, sleep_long_and_collect)
        with pytest.raises((Conflict, DeadlineExceeded)):
            archive.create(volume, Call(clock=clock), volume="vol-1", snapshot=name, options=small)
    memory.calm()
    clock.now += 1000
    archive.collect(Call(), volume="vol-1")
    assert not [key for key in memory.objects if key.startswith("v1/")]


def test_lease_is_renewed(kit, small, inline, memory):
    """A backup that takes much longer than a lease goes through, because it renews it."""
    clock, volume = kit.FakeClock(), kit.Ram(kit.noise(1, 50 * 2048), cell=512)

    def time_goes_by(when: str, method: str, key: str) -> None:
        if when == "after" and key.endswith(".zip"):
            clock.now += TIMING.lease / 4

    memory.hook = time_goes_by
    archive = inline(memory, clock=clock, timing=TIMING)
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    renewals = sum(call == ("put", key) for call in memory.calls for key in [call[1]] if "begin.json" in key)
    assert renewals > 20


def test_lost_answer_of_the_commit(kit, small, inline, memory):
    """If the manifest was stored but the answer lost, a repetition finds the snapshot complete."""
    volume = kit.Ram(b"\1" * 8192, cell=512)

    def crash() -> None:
        raise kit.Crash

    during(memory, "put", "manifest.json", crash, when="after")
    with pytest.raises(kit.Crash):
        inline(memory).create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    memory.calm()
    memory.sent = 0
    inline(memory).create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    assert memory.sent == 0


@pytest.mark.parametrize("conditional", [True, False])
def test_two_runs_at_once(kit, small, inline, conditional):
    """Two runs of one job on one snapshot end with one complete snapshot, on any kind of store."""
    memory = kit.MemoryStore(kit.MemoryOptions(conditional_put=conditional))
    volume = kit.Ram(kit.noise(1, 8192), cell=512)

    def other_run() -> None:
        inline(memory, writer="job").create(volume, Call(), volume="vol-1", snapshot="s0", options=small)

    for ending in (".zip", "manifest.json"):
        during(memory, "put", ending, other_run)
        archive = inline(memory, writer="job")
        archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
        sink = kit.Ram(8192)
        archive.restore(sink, Call(), volume="vol-1", snapshot="s0")
        assert sink.data == volume.data
        archive.delete(Call(), volume="vol-1", snapshot="s0")


def test_two_runs_with_other_content(kit, small, inline, memory):
    """If somebody committed other content under the same id, that is a conflict and not a success."""
    mine, theirs = kit.Ram(b"\1" * 8192, cell=512), kit.Ram(b"\2" * 8192, cell=512)

    def other_run() -> None:
        inline(memory, writer="job").create(theirs, Call(), volume="vol-1", snapshot="s0", options=small)

    during(memory, "put", "manifest.json", other_run)
    with pytest.raises(Conflict):
        inline(memory, writer="job").create(mine, Call(), volume="vol-1", snapshot="s0", options=small)


CHILD = textwrap.dedent("""
    import os, sys, time
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from inline import noise
    from ram import Ram
    from bollard.core.archive import Archive, CreateOptions, Workers
    from bollard.core.spi import Call
    from bollard.drivers.secondary.nfs import NfsDriver, NfsOptions

    class Counting(NfsDriver):
        sent = 0
        def put(self, key, body, call, *, if_absent=False):
            if key.endswith(".zip") and Counting.sent >= stop:
                os.write(1, b"half\\n")
                time.sleep(600)
            result = super().put(key, body, call, if_absent=if_absent)
            Counting.sent += body.size
            return result

    stop = int(sys.argv[3])
    store = Counting(NfsOptions(path=Path(sys.argv[2])))
    store.open(Call())
    source = Ram(noise(4, 16 * 2**20))
    # One worker: another would be killed in the middle of a put, and its hidden file stays for 15 minutes.
    archive = Archive(store, writer="job-7", workers=Workers(count=1))
    archive.create(source, Call(), volume="vol-1", snapshot="s0", options=CreateOptions(window_size=2**20))
    print("sent", Counting.sent, flush=True)
""")


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a Unix thing")
def test_kill_9_at_half(kit, tmp_path):
    """A real process killed with -9 at 50 %: nothing is visible, the next sends less than 60 %."""
    root = tmp_path / "store"
    root.mkdir()
    total = 16 * 2**20
    arguments = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(root)]
    with subprocess.Popen([*arguments, str(total // 2)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        try:
            assert child.stdout.readline() == "half\n"
        finally:
            child.send_signal(signal.SIGKILL)
    store = NfsDriver(NfsOptions(path=root))
    store.open(Call())
    archive = Archive(store, writer="job-7")
    assert list(archive.list(Call())) == []
    second = subprocess.run(
        [*arguments, str(10 * total)], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(second.stdout.split()[1]) < 0.6 * total
    sink = kit.Ram(total)
    archive.restore(sink, Call(), volume="vol-1", snapshot="s0")
    assert sink.data == kit.noise(4, total)
    archive.delete(Call(), volume="vol-1", snapshot="s0")
    later = Archive(store, clock=lambda: 10**10)
    later.collect(Call(), volume="vol-1")
    # The other worker may have died within its put, which is too young for collect by the store's own clock.
    store.abort_uploads("v1/vol-1/", Call(), older_than=0)
    assert not (root / "v1").exists() or not any((root / "v1").rglob("*"))
    assert not [path for path in root.rglob("*") if path.is_file() and path.parent != root]
    store.close()


def test_damaged_intent_stops_collect(bench):
    """An intent that cannot be read may protect anything: nothing is collected."""
    one = bench()
    (key,) = [key for key in one.store.objects if key.endswith("begin.json") and "/s1/" in key]
    one.store.objects[key] = one.store.objects[key][:-10]
    before = dict(one.store.objects)
    with pytest.raises(DataLoss, match=key):
        one.archive().collect(Call(), volume="vol-1")
    assert one.store.objects == before
