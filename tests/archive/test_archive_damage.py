"""Whatever is wrong with the bytes on the store is found, and the error names the object."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest

from bollard.core.archive import Archive, Level, Manifest
from bollard.core.spi import Call, DataLoss, InvalidArgument, StorageError, Unsupported

SIZE = 10_000
MANIFEST = "v1/vol-1/s1/manifest.json"


@pytest.fixture
def archived(kit: Any, memory: Any, small: Any) -> Archive:
    """A full and an increment."""
    archive, volume = Archive(memory), kit.Ram(kit.noise(5, SIZE), cell=512)
    archive.create(volume, Call(), volume="vol-1", snapshot="s0", options=small)
    volume.data[600] ^= 1
    volume.data[4096:4608] = bytes(512)
    archive.create(volume, Call(), volume="vol-1", snapshot="s1", parent="s0")
    return archive


def parts_of(archive: Archive) -> list[str]:
    """The keys of all parts of s1."""
    manifest = archive.show(Call(), volume="vol-1", snapshot="s1")
    return [manifest.key_of(window, part) for window, part in manifest.parts()]


def assert_found(kit: Any, archive: Archive, name: str, level: Level = Level.DIGEST) -> None:
    """Restore refuses, and verify reports exactly this object, from `level` on."""
    with pytest.raises(DataLoss, match=re.escape(name)):
        archive.restore(kit.Ram(SIZE), Call(), volume="vol-1", snapshot="s1")
    for one in Level:
        report = archive.verify(Call(), volume="vol-1", snapshot="s1", level=one)
        assert report.ok == (one < level)
        assert all(name in problem.message for problem in report.problems)


def test_bit_flips_anywhere_in_a_part(kit, memory, archived):
    """One flipped bit at any place of a part is found by restore and by verify at level 4."""
    key = parts_of(archived)[1]
    good = memory.objects[key]
    for position in range(0, len(good), 7):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        memory.objects[key] = bytes(bad)
        with pytest.raises(DataLoss, match=re.escape(key)):
            archived.restore(kit.Ram(SIZE), Call(), volume="vol-1", snapshot="s1")
        (problem,) = archived.verify(Call(), volume="vol-1", snapshot="s1", level=Level.DIGEST).problems
        assert key in problem.message


def test_flipped_data_is_found_by_crc_already(kit, memory, archived):
    """A flip in the data itself does not need a digest: level 2 finds it, level 1 cannot."""
    key = parts_of(archived)[0]
    bad = bytearray(memory.objects[key])
    bad[200] ^= 1
    memory.objects[key] = bytes(bad)
    assert_found(kit, archived, key, Level.CRC)


def test_missing_part(kit, memory, archived):
    """A part that is gone is found at every level."""
    key = parts_of(archived)[2]
    del memory.objects[key]
    assert_found(kit, archived, key, Level.EXISTS)


@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_length(kit, memory, archived, change):
    """A part that is cut off or has something behind it is found at every level."""
    key = parts_of(archived)[0]
    memory.objects[key] = (memory.objects[key] + b"x")[: len(memory.objects[key]) + change]
    assert_found(kit, archived, key, Level.EXISTS)


def test_swapped_parts(kit, memory, archived):
    """Two good parts in each other's place are found: by their members' offsets or by their digest."""
    first, second = parts_of(archived)[2:4]
    memory.objects[first], memory.objects[second] = memory.objects[second], memory.objects[first]
    with pytest.raises(DataLoss, match=f"{re.escape(first)}|{re.escape(second)}"):
        archived.restore(kit.Ram(SIZE), Call(), volume="vol-1", snapshot="s1")
    report = archived.verify(Call(), volume="vol-1", snapshot="s1")
    assert {key for key in (first, second) for p in report.problems if key in p.message} == {first, second}


def test_manifest_bit_flips(memory, archived):
    """One flipped bit anywhere in a manifest is refused."""
    good = memory.objects[MANIFEST]
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        with pytest.raises((DataLoss, Unsupported)):
            Manifest.from_bytes(bytes(bad), "vol-1", "s1")


def test_truncated_manifest(kit, memory, archived):
    """A manifest cut off anywhere is refused, and the error names the snapshot."""
    good = memory.objects[MANIFEST]
    for length in range(0, len(good), 3):
        with pytest.raises(DataLoss, match="vol-1/s1"):
            Manifest.from_bytes(good[:length], "vol-1", "s1")
    memory.objects[MANIFEST] = good[:-5]
    with pytest.raises(DataLoss, match="vol-1/s1"):
        archived.restore(kit.Ram(SIZE), Call(), volume="vol-1", snapshot="s1")


def test_manifest_of_another_snapshot(memory, archived):
    """A manifest under another snapshot's key is refused."""
    memory.objects["v1/vol-1/s7/manifest.json"] = memory.objects[MANIFEST]
    with pytest.raises(DataLoss, match="is that of vol-1/s1"):
        archived.show(Call(), volume="vol-1", snapshot="s7")


def resealed(data: bytes, change: Any) -> bytes:
    """A manifest that somebody altered with care: the seal is right again."""
    text = data.decode()
    body = change(text[: text.rindex('"sha256":')])
    return f'{body}"sha256":"{hashlib.sha256(body.encode()).hexdigest()}"}}\n'.encode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r'"offset":2048', '"offset":2049'),
        (r'"offset":2048', '"offset":0'),
        (r'"size":10000', '"size":100'),
        (r'"window_size":2048', '"window_size":99999999999'),
        (r'"granule":512', '"granule":600'),
        (r'"granule":512', '"granule":true'),
        (r'"parent":"s0"', '"parent":"../s0"'),
        (r'"s0/', '"../'),
        (r'"created":"2', '"created":"x'),
        (r'"created":"\d{4}-\d\d', '"created":"2026-13'),
        (r"\[0,\d+,", "[7,100,"),
        (r"\[0,\d+,", "[0,99999999,"),
        (r"\[0,\d+,", "[-1,100,"),
        (r"\[0,\d+,", "[false,100,"),
        (r'"layers":', '"origin":"","layers":'),
        (r'"origin":""', '"origin": ""'),
        (r'"origin":"",\n', ""),
        (r'"origin":""', '"origin":"a\\\\nb"'),
        (r'("digest":")[0-9a-f]{4}', r"\g<1>0000"),
        (r'"format":"bollard-archive"', '"format":"other"'),
    ],
)
def test_altered_manifest(memory, archived, old, new):
    """A manifest altered by hand is refused even with a right seal: rules, spelling, image digest."""
    altered = resealed(memory.objects[MANIFEST], lambda text: re.sub(old, new, text, count=1))
    assert altered != memory.objects[MANIFEST]
    with pytest.raises(DataLoss, match="vol-1/s1"):
        Manifest.from_bytes(altered, "vol-1", "s1")


def test_newer_format(memory, archived):
    """A manifest of a later version says so, and is not called damaged."""
    altered = memory.objects[MANIFEST].replace(b'"version":2', b'"version":3')
    with pytest.raises(Unsupported, match="version 3, not 1 or 2"):
        Manifest.from_bytes(altered, "vol-1", "s1")


def test_layers_in_wrong_order(kit, memory, archived):
    """Good parts applied in the wrong order do not pass: the window's digest does not come out."""
    manifest = json.loads(memory.objects[MANIFEST])
    window = next(w for w in manifest["windows"] if len(w["parts"]) == 2)
    first, second = (json.dumps(part, separators=(",", ":")) for part in window["parts"])

    def swap(text: str) -> str:
        return text.replace(f"{first},\n{second}", f"{second},\n{first}")

    memory.objects[MANIFEST] = resealed(memory.objects[MANIFEST], swap)
    with pytest.raises(DataLoss, match="window at 0 of vol-1/s1"):
        archived.restore(kit.Ram(SIZE), Call(), volume="vol-1", snapshot="s1")
    assert archived.verify(Call(), volume="vol-1", snapshot="s1", level=Level.DIGEST).ok
    report = archived.verify(Call(), volume="vol-1", snapshot="s1", level=Level.IMAGE)
    assert ["window at 0" in problem.message for problem in report.problems] == [True]


def test_every_problem_is_reported(memory, archived):
    """Verify goes on after the first bad part and names all, in order."""
    keys = parts_of(archived)
    for key in (keys[0], keys[-1]):
        del memory.objects[key]
    report = archived.verify(Call(), volume="vol-1", snapshot="s1", level=Level.EXISTS)
    assert [key in p.message for key, p in zip((keys[0], keys[-1]), report.problems, strict=True)] == [
        True
    ] * 2
    assert report.parts == len(keys)


def test_samples(memory, archived):
    """A sample is chosen by its seed: the same again for the same seed, all windows over enough seeds."""
    keys = parts_of(archived)
    del memory.objects[keys[-1]]

    def found(seed: int) -> bool:
        report = archived.verify(
            Call(), volume="vol-1", snapshot="s1", level=Level.EXISTS, percent=20, seed=seed
        )
        assert report.windows == 1
        return not report.ok

    outcomes = [found(seed) for seed in range(40)]
    assert outcomes == [found(seed) for seed in range(40)]
    assert set(outcomes) == {True, False}
    with pytest.raises(InvalidArgument):
        archived.verify(Call(), volume="vol-1", snapshot="s1", percent=0)


def test_damaged_parent_does_not_damage_the_child(kit, memory, archived):
    """An increment whose parent lost its hashes stores the window whole; one whose layers are gone fails."""
    volume = kit.Ram(SIZE, cell=512)
    archived.restore(volume, Call(), volume="vol-1", snapshot="s1")
    volume.data[0] ^= 1
    newest = next(key for key in parts_of(archived) if "/s1/" in key)
    good = memory.objects[newest]
    memory.objects[newest] = good.replace(b"HASHES", b"HASHEZ")
    manifest = archived.create(volume, Call(), volume="vol-1", snapshot="s2", parent="s1")
    assert len(manifest.windows[0].parts) == 1
    memory.objects[newest] = good
    del memory.objects[parts_of(archived)[-1]]
    with pytest.raises(DataLoss, match="missing"):
        archived.create(volume, Call(), volume="vol-1", snapshot="s3", parent="s1")
    with pytest.raises(StorageError):
        archived.show(Call(), volume="vol-1", snapshot="s3")
