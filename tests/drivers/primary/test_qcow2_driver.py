"""The qcow2 driver on a real directory, with real images and QEMU's own tools as the judge."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bollard.core.spi import (
    TIB,
    Busy,
    Call,
    Conflict,
    DeadlineExceeded,
    HasDependents,
    InUse,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Outcome,
    StorageError,
    TemplateSpec,
    Unavailable,
    VolumeSpec,
    parse_options,
)
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.transfer_objects.ids import SnapshotId, TemplateId, VolumeId

MIB = 1024 * 1024
WEB, DB, COPY = VolumeId("web-1"), VolumeId("db-1"), VolumeId("copy-1")
S1, S2 = SnapshotId("s1"), SnapshotId("s2")
DEBIAN = TemplateId("debian-12")


def opened(path: Path, image_format: str = "qcow2", **options: object) -> Qcow2Driver:
    """Open the pool in `path`."""
    driver = Qcow2Driver(
        parse_options(Qcow2Driver.Options, {"path": path, "format": image_format, **options})
    )
    driver.open(Call.within(60))
    return driver


def call() -> Call:
    """A call with a minute to go."""
    return Call.within(60)


def qemu_io(path: Path, image_format: str, *commands: str) -> None:
    """Run commands of qemu-io on an image; a failed read or write fails the test."""
    arguments = [part for command in commands for part in ("-c", command)]
    done = subprocess.run(
        ["qemu-io", "-f", image_format, *arguments, path], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout, done.stdout


def equal(a: Path, b: Path, image_format: str) -> bool:
    """What `qemu-img compare` says; a longer image whose rest is zero counts as equal."""
    command = ["qemu-img", "compare", "-U", "-f", image_format, "-F", image_format, a, b]
    code = subprocess.run(command, capture_output=True, timeout=60).returncode
    assert code in (0, 1)
    return code == 0


def files(pool: Path) -> list[str]:
    """Return all files of a pool but its identity."""
    return sorted(
        str(path.relative_to(pool))
        for path in pool.rglob("*")
        if not path.is_dir() and path.name != "pool.json"
    )


@pytest.fixture(params=["qcow2", "raw"])
def image_format(request) -> str:
    """Both formats."""
    return str(request.param)


@pytest.fixture
def driver(tmp_path: Path, image_format: str) -> Iterator[Qcow2Driver]:
    """An open driver on an empty pool."""
    made = opened(tmp_path, image_format)
    yield made
    made.close()


def path_of(driver: Qcow2Driver, volume: VolumeId) -> Path:
    """Return the path of a volume."""
    return driver.locate_volume(volume, call()).path


def fill(driver: Qcow2Driver, volume: VolumeId, pattern: str, at: str = "0 64k") -> None:
    """Write a byte pattern into a volume."""
    place = driver.locate_volume(volume, call())
    qemu_io(place.path, place.format, f"write -P {pattern} {at}")


# -- volumes ------------------------------------------------------------------------------------------


def test_a_new_volume_reads_zeros_and_has_the_size(driver):
    """A created volume has the asked size, reads zeros, and is found where `locate` says."""
    volume = driver.create_volume(VolumeSpec(id=WEB, size=4 * MIB, name='Größe; "rm -rf"'), call())
    place = driver.locate_volume(WEB, call())
    qemu_io(place.path, place.format, f"read -P 0 0 {4 * MIB}")
    assert (volume.size, volume.name, volume.identity) == (4 * MIB, 'Größe; "rm -rf"', str(place.path))
    assert driver.get_volume(WEB, call()) == volume


def test_create_is_idempotent_and_never_resets_data(driver):
    """A repeated create returns the volume with its data; another size is a conflict."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    fill(driver, WEB, "0x5a")
    assert driver.create_volume(VolumeSpec(id=WEB, size=MIB), call()).size == MIB
    place = driver.locate_volume(WEB, call())
    qemu_io(place.path, place.format, "read -P 0x5a 0 64k")
    with pytest.raises(Conflict):
        driver.create_volume(VolumeSpec(id=WEB, size=2 * MIB), call())


@pytest.mark.parametrize(
    ("size", "error"), [(0, InvalidArgument), (-512, InvalidArgument), (64 * TIB + 512, LimitExceeded)]
)
def test_sizes_out_of_bounds_create_nothing(driver, tmp_path, size, error):
    """A size outside of the traits is refused and leaves no file."""
    with pytest.raises(error):
        driver.create_volume(VolumeSpec(id=WEB, size=size), call())
    assert files(tmp_path) == []


def test_odd_sizes_are_rounded_up(driver):
    """A size that is no multiple of 512 is rounded up, and the repeat finds the same volume."""
    assert driver.create_volume(VolumeSpec(id=WEB, size=MIB + 1), call()).size == MIB + 512
    assert driver.create_volume(VolumeSpec(id=WEB, size=MIB + 1), call()).size == MIB + 512


@pytest.mark.parametrize("bad", ["../x", "a/b", "", "-rf", "a.b", "UPPER", "a\nb", "x" * 65])
def test_what_is_no_id_never_becomes_a_path(driver, tmp_path, bad):
    """Ids outside of the alphabet are refused by every method, and nothing is made."""
    volume, snapshot = VolumeId(bad), SnapshotId(bad)
    acts: list[Callable[[], object]] = [
        lambda: driver.create_volume(VolumeSpec(id=volume, size=MIB), call()),
        lambda: driver.delete_volume(volume, call()),
        lambda: driver.get_volume(volume, call()),
        lambda: driver.locate_volume(volume, call()),
        lambda: driver.create_snapshot(volume, S1, call()),
        lambda: driver.create_snapshot(WEB, snapshot, call()),
        lambda: driver.get_snapshot(snapshot, call()),
        lambda: driver.delete_snapshot(snapshot, call()),
    ]
    for act in acts:
        with pytest.raises(InvalidArgument):
            act()
    assert files(tmp_path) == []


def test_delete_is_idempotent_and_leaves_no_file(driver, tmp_path):
    """A deleted volume is gone with its files; deleting it again, or one that never was, succeeds."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.delete_volume(WEB, call())
    driver.delete_volume(WEB, call())
    driver.delete_volume(DB, call())
    assert files(tmp_path) == []
    with pytest.raises(NotFound):
        driver.get_volume(WEB, call())


def test_listing_pages_through_all_and_only_ours(driver, tmp_path, image_format):
    """Pages contain every volume once, and no foreign file, template or snapshot."""
    ids = [VolumeId(f"v{number}") for number in range(7)]
    for volume in ids:
        driver.create_volume(VolumeSpec(id=volume, size=MIB), call())
    driver.prepare_template(TemplateSpec(id=DEBIAN, size=MIB), call())
    driver.create_snapshot(ids[0], S1, call())
    (tmp_path / "volumes" / f"foreign.{image_format}").write_bytes(b"not ours")
    (tmp_path / "volumes" / "other.json").write_text('{"hello": 1}')
    seen, after = [], None
    while True:
        page = driver.list_volumes(call(), after=after, limit=3)
        assert len(page.items) <= 3
        seen += [volume.id for volume in page.items]
        after = page.after
        if after is None:
            break
    assert seen == ids


def test_foreign_files_are_never_touched(driver, tmp_path, image_format):
    """A file of somebody else under the name of a volume is not found, replaced, deleted or swept."""
    foreign = tmp_path / "volumes" / f"{WEB}.{image_format}"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_bytes(b"precious")
    with pytest.raises(NotFound):
        driver.get_volume(WEB, call())
    with pytest.raises(Conflict):
        driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.delete_volume(WEB, call())
    opened(tmp_path, image_format).close()
    assert foreign.read_bytes() == b"precious"
    assert files(tmp_path) == [f"volumes/{foreign.name}"]


def test_resize_grows_keeps_data_and_never_shrinks(driver):
    """Old bytes stay, new ones read zero, the same size succeeds, a smaller one changes nothing."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    fill(driver, WEB, "0x77", f"{MIB - 512} 512")
    assert driver.resize_volume(WEB, 3 * MIB, call()).size == 3 * MIB
    assert driver.resize_volume(WEB, 3 * MIB, call()).size == 3 * MIB
    with pytest.raises(InvalidArgument):
        driver.resize_volume(WEB, 2 * MIB, call())
    place = driver.locate_volume(WEB, call())
    qemu_io(place.path, place.format, f"read -P 0x77 {MIB - 512} 512", f"read -P 0 {MIB} {2 * MIB}")
    with pytest.raises(NotFound):
        driver.resize_volume(DB, MIB, call())


def test_capacity_is_sane(driver):
    """The figures are bytes of the file system, and used never exceeds total."""
    found = driver.capacity(call())
    assert 0 <= found.used <= found.total
    assert found.total > MIB


# -- snapshots, revert, clones ------------------------------------------------------------------------


def test_a_snapshot_is_immutable_and_reverts_exactly(driver):
    """Later writes and a resize do not change a snapshot; revert brings back bytes and size."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    fill(driver, WEB, "0x11")
    taken = driver.create_snapshot(WEB, S1, call())
    fill(driver, WEB, "0x22")
    driver.resize_volume(WEB, 2 * MIB, call())
    assert driver.create_snapshot(WEB, S1, call()) == taken
    newer = driver.create_snapshot(WEB, S2, call())
    place = driver.locate_snapshot(S1, call())
    assert place.read_only
    assert (taken.size, newer.size) == (MIB, 2 * MIB)
    qemu_io(place.path, place.format, "read -P 0x11 0 64k")

    assert driver.revert_volume(WEB, S1, call()).size == MIB
    assert equal(path_of(driver, WEB), place.path, place.format)
    assert [s.id for s in driver.list_snapshots(WEB, call()).items] == [S1, S2]
    assert driver.revert_volume(WEB, S2, call()).size == 2 * MIB
    qemu_io(path_of(driver, WEB), place.format, "read -P 0x22 0 64k")


def test_snapshot_ids_belong_to_one_volume(driver):
    """A snapshot id of another volume is a conflict, and reverting to it is refused."""
    for volume in (WEB, DB):
        driver.create_volume(VolumeSpec(id=volume, size=MIB), call())
    driver.create_snapshot(WEB, S1, call())
    with pytest.raises(Conflict):
        driver.create_snapshot(DB, S1, call())
    with pytest.raises(InvalidArgument):
        driver.revert_volume(DB, S1, call())
    with pytest.raises(NotFound):
        driver.revert_volume(DB, S2, call())
    with pytest.raises(NotFound):
        driver.create_snapshot(COPY, S2, call())
    assert driver.list_snapshots(DB, call()).items == []


def test_similar_names_do_not_mix_up_snapshots(driver):
    """Volumes and snapshots whose ids are prefixes of each other stay apart, page by page."""
    for volume in (VolumeId("a"), VolumeId("a-b"), VolumeId("ab")):
        driver.create_volume(VolumeSpec(id=volume, size=512), call())
        for number in range(3):
            driver.create_snapshot(volume, SnapshotId(f"{volume}-s{number}"), call())
    for volume in (VolumeId("a"), VolumeId("a-b"), VolumeId("ab")):
        first = driver.list_snapshots(volume, call(), limit=2)
        rest = driver.list_snapshots(volume, call(), limit=2, after=first.after)
        ids = [snapshot.id for snapshot in (*first.items, *rest.items)]
        assert ids == [f"{volume}-s{number}" for number in range(3)]
        assert rest.after is None
    with pytest.raises(NotFound):
        driver.get_snapshot(SnapshotId("s1"), call())


def test_a_volume_with_snapshots_stays(driver, tmp_path):
    """Delete and release need the snapshots gone; deleting one keeps the others and the volume."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.create_snapshot(WEB, S1, call())
    driver.create_snapshot(WEB, S2, call())
    for act in (driver.delete_volume, driver.release_volume):
        with pytest.raises(HasDependents):
            act(WEB, call())
    driver.delete_snapshot(S1, call())
    driver.delete_snapshot(S1, call())
    assert driver.get_snapshot(S2, call()).volume == WEB
    driver.delete_snapshot(S2, call())
    driver.delete_volume(WEB, call())
    assert files(tmp_path) == []


def test_clones_are_equal_independent_and_may_be_larger(driver):
    """A copy of a volume or snapshot equals it, reads zeros behind it, and goes its own way."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    fill(driver, WEB, "0x33")
    driver.create_snapshot(WEB, S1, call())
    clone = driver.clone_volume(WEB, VolumeSpec(id=COPY, size=2 * MIB), call())
    restored = driver.create_volume_from_snapshot(S1, VolumeSpec(id=DB, size=MIB), call())
    assert (clone.size, restored.size) == (2 * MIB, MIB)
    place = driver.locate_volume(COPY, call())
    assert equal(place.path, path_of(driver, WEB), place.format)
    assert equal(path_of(driver, DB), path_of(driver, WEB), place.format)
    fill(driver, COPY, "0x44")
    qemu_io(path_of(driver, WEB), place.format, "read -P 0x33 0 64k")
    driver.delete_snapshot(S1, call())
    driver.delete_volume(WEB, call())
    qemu_io(path_of(driver, DB), place.format, "read -P 0x33 0 64k")
    assert driver.clone_volume(WEB, VolumeSpec(id=COPY, size=2 * MIB), call()).id == COPY


def test_a_clone_is_never_an_empty_volume_of_the_right_name(driver):
    """An id that was made empty, or from something else, is a conflict and not a clone."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.create_volume(VolumeSpec(id=COPY, size=MIB), call())
    driver.create_snapshot(WEB, S1, call())
    with pytest.raises(Conflict):
        driver.clone_volume(WEB, VolumeSpec(id=COPY, size=MIB), call())
    with pytest.raises(Conflict):
        driver.create_volume_from_snapshot(S1, VolumeSpec(id=COPY, size=MIB), call())
    with pytest.raises(InvalidArgument):
        driver.clone_volume(WEB, VolumeSpec(id=WEB, size=MIB), call())


def test_copies_smaller_than_their_source_are_refused(driver, tmp_path):
    """A target smaller than the source is an invalid argument and leaves nothing."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.create_snapshot(WEB, S1, call())
    before = files(tmp_path)
    with pytest.raises(InvalidArgument):
        driver.clone_volume(WEB, VolumeSpec(id=COPY, size=MIB - 512), call())
    with pytest.raises(InvalidArgument):
        driver.create_volume_from_snapshot(S1, VolumeSpec(id=COPY, size=512), call())
    with pytest.raises(NotFound):
        driver.create_volume_from_snapshot(S2, VolumeSpec(id=COPY, size=MIB), call())
    assert files(tmp_path) == before


def test_no_image_has_a_backing_file(driver, tmp_path):
    """Every image in the pool stands alone, and `qemu-img check` finds nothing wrong."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    fill(driver, WEB, "0x11")
    driver.create_snapshot(WEB, S1, call())
    driver.clone_volume(WEB, VolumeSpec(id=COPY, size=2 * MIB), call())
    driver.revert_volume(WEB, S1, call())
    for image in tmp_path.rglob("*.qcow2"):
        told = subprocess.run(
            ["qemu-img", "info", "-f", "qcow2", image], capture_output=True, text=True, check=True
        )
        assert "backing file" not in told.stdout
        subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", image], check=True)


def test_revert_keeps_owner_and_mode(driver):
    """What libvirt gave to the QEMU user on a volume's file survives a revert."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.create_snapshot(WEB, S1, call())
    path = path_of(driver, WEB)
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 64055, 64055)
    before = path.stat()
    driver.revert_volume(WEB, S1, call())
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino


# -- in use, busy, late -------------------------------------------------------------------------------


@pytest.fixture
def serve(tmp_path_factory) -> Iterator[Callable[..., None]]:
    """Start a qemu-nbd on an image, as a running VM or an archive reader would open it."""
    running = []

    def start(path: Path, image_format: str, *arguments: str) -> None:
        socket_path = tmp_path_factory.mktemp("nbd") / "s"
        command = ["qemu-nbd", "-t", "-k", str(socket_path), "-f", image_format, *arguments, str(path)]
        running.append(subprocess.Popen(command))
        until = time.monotonic() + 10
        while not _answers(socket_path):
            assert time.monotonic() < until
            assert running[-1].poll() is None

    yield start
    for process in running:
        process.terminate()
        process.wait(10)


def _answers(path: Path) -> bool:
    """Whether the server greets: it listens before it has opened, and locked, the image."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(10)
        return probe.connect_ex(str(path)) == 0 and probe.recv(8) == b"NBDMAGIC"


def test_an_image_that_a_vm_writes_to_is_left_alone(driver, serve, image_format):
    """While a QEMU has a volume open for writing, no copy, revert, resize or delete of it happens."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.create_snapshot(WEB, S1, call())
    serve(path_of(driver, WEB), image_format)
    acts: list[Callable[[], object]] = [
        lambda: driver.create_snapshot(WEB, S2, call()),
        lambda: driver.clone_volume(WEB, VolumeSpec(id=COPY, size=MIB), call()),
        lambda: driver.revert_volume(WEB, S1, call()),
        lambda: driver.resize_volume(WEB, 2 * MIB, call()),
        lambda: driver.delete_volume(WEB, call()),
        lambda: driver.release_volume(WEB, call()),
    ]
    for act in acts[:-2]:
        with pytest.raises(InUse) as error:
            act()
        assert error.value.outcome is Outcome.NOT_APPLIED
    driver.delete_snapshot(S1, call())
    for act in acts[-2:]:
        with pytest.raises(InUse):
            act()
    assert driver.get_volume(WEB, call()).size == MIB


def test_a_reader_suffers_copies_but_no_replacement(driver, serve, image_format):
    """While an archive reads a volume, it can be copied, and neither reverted nor deleted."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    serve(path_of(driver, WEB), image_format, "-r")
    driver.create_snapshot(WEB, S1, call())
    with pytest.raises(InUse):
        driver.revert_volume(WEB, S1, call())
    driver.delete_snapshot(S1, call())
    with pytest.raises(InUse):
        driver.delete_volume(WEB, call())


def test_no_vm_starts_on_an_image_that_is_being_copied(driver, image_format):
    """The lock that a copy holds makes QEMU refuse to open the image for writing."""
    from bollard.drivers.primary.qcow2 import image_lock

    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    path = path_of(driver, WEB)
    with image_lock.reading(path):
        command = ["qemu-io", "-f", image_format, "-c", "write 0 512", path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert 'Failed to get "write" lock' in done.stderr
    qemu_io(path, image_format, "write 0 512")


@pytest.fixture
def slow_qemu_img(tmp_path_factory, monkeypatch) -> Path:
    """Put a qemu-img on the PATH that says it has started and then waits for a file before it works."""
    place = tmp_path_factory.mktemp("bin")
    real = subprocess.run(["which", "qemu-img"], capture_output=True, text=True, check=True).stdout.strip()
    program = place / "qemu-img"
    program.write_text(
        "#!/bin/sh\n"
        f'echo $$ > "{place}/pid.new" && mv "{place}/pid.new" "{place}/pid"\n'
        f'while [ ! -e "{place}/go" ]; do sleep 0.02; done\n'
        f'exec {real} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    return place


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.005)


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_late_call_ends_at_its_deadline_and_leaves_nothing(tmp_path, slow_qemu_img):
    """A hanging qemu-img is killed at the deadline; the volume does not exist and no file stays."""
    driver = opened(tmp_path)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded) as error:
        driver.create_volume(VolumeSpec(id=WEB, size=MIB), Call.within(0.5))
    assert time.monotonic() - started < 2
    assert error.value.outcome is Outcome.NOT_APPLIED
    assert _gone(int((slow_qemu_img / "pid").read_text()))
    assert files(tmp_path) == []


def test_a_cancelled_call_ends_at_once(tmp_path, slow_qemu_img):
    """Setting the cancel event ends a running qemu-img, and the retry makes the volume."""
    driver, cancelled = opened(tmp_path), Call.within(60)
    timer = threading.Thread(target=lambda: (_wait_for(slow_qemu_img / "pid"), cancelled.cancel.set()))
    timer.start()
    with pytest.raises(DeadlineExceeded):
        driver.create_volume(VolumeSpec(id=WEB, size=MIB), cancelled)
    timer.join()
    (slow_qemu_img / "go").touch()
    assert driver.create_volume(VolumeSpec(id=WEB, size=MIB), call()).size == MIB


def test_two_callers_of_one_object_do_not_mix(tmp_path, slow_qemu_img):
    """While one caller works on a volume another gets Busy for it, and works on any other object."""
    driver, second = opened(tmp_path), opened(tmp_path, "raw")
    first = threading.Thread(target=driver.create_volume, args=(VolumeSpec(id=WEB, size=MIB), call()))
    first.start()
    _wait_for(slow_qemu_img / "pid")
    with pytest.raises(Busy):
        second.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    with pytest.raises(Busy):
        second.create_snapshot(WEB, S1, call())
    second.create_volume(VolumeSpec(id=DB, size=MIB), call())
    (slow_qemu_img / "go").touch()
    first.join()
    assert [volume.id for volume in second.list_volumes(call()).items] == [DB, WEB]
    assert not any(name.startswith(".bollard") for name in files(tmp_path))


def test_sixteen_creators_make_one_volume(tmp_path):
    """Any number of callers at once make one volume: each gets it, or Busy."""
    drivers = [opened(tmp_path, "raw") for _ in range(16)]
    results: list[object] = []

    def create(driver: Qcow2Driver) -> None:
        try:
            results.append(driver.create_volume(VolumeSpec(id=WEB, size=MIB), call()).id)
        except Busy:
            results.append(Busy)

    threads = [threading.Thread(target=create, args=(driver,)) for driver in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) <= {WEB, Busy}
    assert len(results) == 16
    assert WEB in results
    assert files(tmp_path) == ["volumes/web-1.json", "volumes/web-1.raw"]


# -- templates ----------------------------------------------------------------------------------------


def test_a_sealed_template_gives_equal_volumes(driver):
    """A seed is writable until it is sealed; volumes come from sealed ones only and equal them."""
    seed = driver.prepare_template(TemplateSpec(id=DEBIAN, size=MIB), call())
    assert driver.prepare_template(TemplateSpec(id=DEBIAN, size=MIB), call()) == seed
    assert driver.get_volume(seed.id, call()) == seed
    with pytest.raises(NotFound):
        driver.create_volume_from_template(DEBIAN, VolumeSpec(id=WEB, size=MIB), call())
    with pytest.raises(Conflict):
        driver.prepare_template(TemplateSpec(id=DEBIAN, size=2 * MIB), call())
    fill(driver, seed.id, "0x66")
    driver.seal_template(DEBIAN, call())
    driver.seal_template(DEBIAN, call())
    place = driver.locate_volume(seed.id, call())
    assert place.read_only
    for volume in (WEB, DB):
        driver.create_volume_from_template(DEBIAN, VolumeSpec(id=volume, size=2 * MIB), call())
        assert equal(path_of(driver, volume), place.path, place.format)
    with pytest.raises(InvalidArgument):
        driver.delete_volume(seed.id, call())
    driver.evict_template(DEBIAN, call())
    driver.evict_template(DEBIAN, call())
    with pytest.raises(NotFound):
        driver.seal_template(DEBIAN, call())
    assert driver.create_volume_from_template(DEBIAN, VolumeSpec(id=WEB, size=2 * MIB), call()).id == WEB


def test_a_seed_that_points_elsewhere_is_not_sealed(tmp_path):
    """A template whose writer put a backing file into it never becomes usable."""
    driver = opened(tmp_path)
    seed = driver.prepare_template(TemplateSpec(id=DEBIAN, size=MIB), call())
    path = path_of(driver, seed.id)
    subprocess.run(
        ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", path], check=True
    )
    with pytest.raises(InvalidArgument):
        driver.seal_template(DEBIAN, call())
    with pytest.raises(NotFound):
        driver.create_volume_from_template(DEBIAN, VolumeSpec(id=WEB, size=MIB), call())


# -- adoption -----------------------------------------------------------------------------------------


def _image(path: Path, image_format: str, *arguments: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", image_format, *arguments, path, "1M"], check=True)
    return path


def test_a_foreign_file_can_be_adopted_and_released(driver, tmp_path, image_format):
    """Adoption keeps every byte and works once; release gives a file back that can be adopted anew."""
    native = _image(tmp_path / "old disk.img", image_format)
    qemu_io(native, image_format, "write -P 0x42 0 64k")
    spec = VolumeSpec(id=WEB, size=MIB)
    assert driver.adopt_volume("old disk.img", spec, call()).size == MIB
    assert driver.adopt_volume("old disk.img", spec, call()).id == WEB
    for name in ("old disk.img", f"{WEB}.{image_format}"):
        with pytest.raises(InUse):
            driver.adopt_volume(name, VolumeSpec(id=DB, size=MIB), call())
    qemu_io(path_of(driver, WEB), image_format, "read -P 0x42 0 64k")

    name = driver.release_volume(WEB, call())
    assert driver.release_volume(WEB, call()) == name
    assert files(tmp_path) == [name]
    with pytest.raises(NotFound):
        driver.get_volume(WEB, call())
    driver.adopt_volume(name, VolumeSpec(id=DB, size=MIB), call())
    qemu_io(path_of(driver, DB), image_format, "read -P 0x42 0 64k")


def test_adoption_refuses_the_wrong_size_and_what_is_missing(driver, tmp_path, image_format):
    """Another size than the spec's is a conflict and a missing file not found; nothing moves."""
    _image(tmp_path / "a.img", image_format)
    with pytest.raises(Conflict):
        driver.adopt_volume("a.img", VolumeSpec(id=WEB, size=2 * MIB), call())
    with pytest.raises(NotFound):
        driver.adopt_volume("b.img", VolumeSpec(id=WEB, size=MIB), call())
    with pytest.raises(NotFound):
        driver.release_volume(WEB, call())
    assert files(tmp_path) == ["a.img"]


@pytest.mark.parametrize("name", ["", ".", "..", "../a.img", "/etc/passwd", "a\nb", "x" * 300, "volumes"])
def test_adoption_refuses_names_that_are_no_file_here(driver, name):
    """Only a plain file that stands in the pool directory itself can be adopted."""
    driver.create_volume(VolumeSpec(id=DB, size=MIB), call())
    with pytest.raises(StorageError) as error:
        driver.adopt_volume(name, VolumeSpec(id=WEB, size=MIB), call())
    assert error.value.code in {"invalid_argument", "limit_exceeded", "not_found"}
    assert error.value.outcome is Outcome.NOT_APPLIED


def test_hostile_images_are_not_adopted(tmp_path):
    """Backing files, data files, links, pipes and second names are refused, and left where they are."""
    driver = opened(tmp_path)
    base = _image(tmp_path / "base.qcow2", "qcow2")
    _image(tmp_path / "backed.qcow2", "qcow2", "-b", str(base), "-F", "qcow2")
    _image(tmp_path / "split.qcow2", "qcow2", "-o", f"data_file={tmp_path}/data.bin")
    (tmp_path / "link.qcow2").symlink_to(base)
    os.mkfifo(tmp_path / "pipe.qcow2")
    (tmp_path / "garbage.qcow2").write_bytes(b"QFI\xfb" + bytes(2000))
    _image(tmp_path / "two.qcow2", "qcow2")
    os.link(tmp_path / "two.qcow2", tmp_path / "names.qcow2")
    before = files(tmp_path)
    for name in ("backed", "split", "link", "pipe", "garbage", "two"):
        with pytest.raises(StorageError) as error:
            driver.adopt_volume(f"{name}.qcow2", VolumeSpec(id=WEB, size=MIB), call())
        assert error.value.code in {"invalid_argument", "unsupported"}, name
    assert files(tmp_path) == before


def test_a_raw_volume_with_a_qcow2_header_stays_raw(tmp_path):
    """What a guest writes into a raw volume never makes a copy follow it (the format is not probed)."""
    driver = opened(tmp_path, "raw")
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    evil = _image(tmp_path / "evil", "qcow2", "-b", "/etc/passwd", "-F", "raw", "-u")
    content = evil.read_bytes()[:65536]
    with path_of(driver, WEB).open("r+b") as file:
        file.write(content)
    driver.create_snapshot(WEB, S1, call())
    driver.revert_volume(WEB, S1, call())
    assert path_of(driver, WEB).read_bytes()[:65536] == content


# -- the pool -----------------------------------------------------------------------------------------


def test_opening_creates_nothing_and_identity_is_stable(tmp_path):
    """Opening leaves an empty directory empty; the identity stays, also when the pool moves."""
    pool = tmp_path / "pool; $(touch x), 'quoted' -name"
    pool.mkdir()
    driver = Qcow2Driver(parse_options(Qcow2Driver.Options, {"path": pool}))
    first = driver.open(call()).identity
    assert list(pool.iterdir()) == []
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.create_snapshot(WEB, S1, call())
    assert driver.open(call()).identity == first
    moved = pool.rename(tmp_path / "moved")
    other = Qcow2Driver(parse_options(Qcow2Driver.Options, {"path": moved}))
    assert other.open(call()).identity == first
    assert other.get_volume(WEB, call()).size == MIB


def test_a_missing_or_unmounted_pool_is_told(tmp_path):
    """A missing directory is not found, a required mount that is absent unavailable."""
    options = {"path": tmp_path / "nowhere"}
    with pytest.raises(NotFound):
        Qcow2Driver(parse_options(Qcow2Driver.Options, options)).open(call())
    options = {"path": tmp_path, "must_be_mounted": True}
    with pytest.raises(Unavailable):
        Qcow2Driver(parse_options(Qcow2Driver.Options, options)).open(call())


def test_a_closed_driver_says_so(tmp_path):
    """Use after close is a typed error, and closing twice is harmless."""
    driver = opened(tmp_path)
    driver.close()
    driver.close()
    with pytest.raises(StorageError) as error:
        driver.get_volume(WEB, call())
    assert error.value.outcome is Outcome.NOT_APPLIED
