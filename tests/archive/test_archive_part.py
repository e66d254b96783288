"""Parts: the same bytes for the same content, and no hostile ZIP gets through."""

from __future__ import annotations

import hashlib
import io
import subprocess
import zipfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bollard.core.archive.digest import HASH, ZERO, granule_hash
from bollard.core.archive.packing import DEFLATED, STORED, ZSTD, Packer, PackingError, unpack
from bollard.core.archive.part import HASHES, MAX_FRAME, SUMS, Member, Part, Region, build
from bollard.core.archive.pieces import Joined
from bollard.core.spi import DataLoss

REGION = Region(offset=8192, length=4096, granule=512)
HASHES_OF_NOTHING = ZERO * REGION.granules


def opened(data: bytes, region: Region = REGION) -> Part:
    """A part from bytes."""
    return Part(io.BytesIO(data), len(data), region, "the-part")


def content(joined: Joined) -> bytes:
    """All bytes of a part."""
    with joined.open() as reader:
        return reader.read()


def hashes_of(place: int, data: bytes, region: Region = REGION) -> bytes:
    """HASHES of a window in which one granule holds something."""
    hashes = bytearray(ZERO * region.granules)
    hashes[place * HASH : (place + 1) * HASH] = granule_hash(memoryview(data), region.granule)
    return bytes(hashes)


def simple() -> bytes:
    """A good part with one data and one zero member."""
    members = [Member(8192, 512, memoryview(b"a" * 512)), Member(9216, 1024, None)]
    return content(build(members, hashes_of(0, b"a" * 512)))


def test_round_trip():
    """What was put in comes out, in order, and HASHES too."""
    part = opened(simple())
    found = [(m.offset, m.length, bytes(m.data) if m.data is not None else None) for m in part.members()]
    assert found == [(8192, 512, b"a" * 512), (9216, 1024, None)]
    assert part.hashes() == hashes_of(0, b"a" * 512)


@pytest.mark.parametrize("place", [1, 2])
def test_members_are_compared_with_hashes(place):
    """Data and zeros that are not what HASHES says are refused, and still read without that comparison."""
    members = [Member(8192, 512, memoryview(b"a" * 512)), Member(9216, 1024, None)]
    data = content(build(members, hashes_of(place, b"a" * 512)))
    with pytest.raises(DataLoss, match="not what HASHES says"):
        list(opened(data).members())
    assert len(list(opened(data).members(sums=False))) == 2


def test_same_content_same_bytes():
    """Building twice gives the same bytes, and the digest and size are theirs."""
    members = [Member(8192, 512, memoryview(b"a" * 512))]
    one, two = build(members, HASHES_OF_NOTHING), build(members, HASHES_OF_NOTHING)
    assert (one.sha256, one.size) == (two.sha256, two.size)
    assert content(one) == content(two)
    assert len(content(one)) == one.size


def test_ordinary_tools_read_it(tmp_path: Path):
    """`unzip` and Python's zipfile accept a part and get its members out."""
    path = tmp_path / "part.zip"
    path.write_bytes(simple())
    done = subprocess.run(["unzip", "-t", path], check=True, timeout=30, capture_output=True, text=True)
    assert "No errors" in done.stdout
    subprocess.run(["unzip", "-q", path], cwd=tmp_path, check=True, timeout=30)
    assert (tmp_path / "0000000000002000.00000200.data").read_bytes() == b"a" * 512
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_very_many_members(tmp_path: Path):
    """More members than a plain ZIP can count are read by `unzip` and by us."""
    region, one = Region(0, 70_000 * 512, 512), memoryview(b"b" * 512)
    members = [Member(i * 512, 512, one) for i in range(70_000)]
    joined = build(members, granule_hash(one, 512) * 70_000)
    path = tmp_path / "part.zip"
    path.write_bytes(content(joined))
    done = subprocess.run(["unzip", "-Z1", path], check=True, timeout=60, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 70_001
    with path.open("rb") as file:
        assert len(Part(file, joined.size, region, "the-part").infos) == 70_000


def test_data_is_not_copied():
    """A stored part refers to the caller's buffer: a window needs its memory once."""
    buffer = bytearray(b"a" * 512)
    joined = build([Member(8192, 512, memoryview(buffer))], HASHES_OF_NOTHING)
    before = content(joined)
    buffer[0] = 0
    assert content(joined) != before


def test_readers_are_independent():
    """Each `open` starts anew and can seek, as retries of a driver need."""
    joined = build([Member(8192, 512, memoryview(b"a" * 512))], HASHES_OF_NOTHING)
    one, two = joined.open(), joined.open()
    one.read(100)
    assert two.read() == content(joined)
    two.seek(-10, io.SEEK_END)
    assert two.read() == content(joined)[-10:]
    assert two.tell() == joined.size
    assert two.read(1) == b""


def hostile(
    members: list[tuple[str, bytes]], *, hashes: bytes = HASHES_OF_NOTHING, compression: int = 0
) -> bytes:
    """A ZIP with a right SHA256SUMS over whatever members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        everything = [*members, (HASHES, hashes)]
        for name, data in everything:
            archive.writestr(name, data)
        sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in everything)
        archive.writestr(SUMS, sums)
    return file.getvalue()


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("../../etc/passwd", b"x")], "unexpected member"),
        ([("/0000000000002000.00000200.data", b"a" * 512)], "unexpected member"),
        ([("0000000000002000.00000200.data\n", b"a" * 512)], "unexpected member"),
        ([("0000000000002000.00000200.exe", b"a" * 512)], "unexpected member"),
        ([("0000000000001000.00000200.data", b"a" * 512)], "outside of the window"),
        ([("0000000000002f00.00000200.data", b"a" * 512)], "outside of the window"),
        ([("0000000000002000.00002000.zero", b"")], "outside of the window"),
        ([("0000000000002000.00000000.zero", b"")], "outside of the window"),
        (
            [("0000000000002000.00000200.data", b"a" * 512), ("0000000000002100.00000200.data", b"a" * 512)],
            "out of order",
        ),
        (
            [("0000000000002400.00000200.data", b"a" * 512), ("0000000000002000.00000200.data", b"a" * 512)],
            "out of order",
        ),
        ([("0000000000002000.00000200.data", b"a" * 511)], "wrong length"),
        ([("0000000000002000.00000200.data", b"a" * 10**7)], "wrong length"),
        ([("0000000000002000.00000200.zero", b"a")], "wrong length"),
    ],
)
def test_hostile_members(members, why):
    """Slips, bombs, overlaps and lies about lengths are refused before anything is unpacked."""
    with pytest.raises(DataLoss, match=f"the-part is damaged: .*{why}"):
        opened(hostile(members, compression=zipfile.ZIP_DEFLATED))


def test_frames_are_limited():
    """A member larger than a frame is refused even if the window has room for it."""
    region = Region(0, 8 * MAX_FRAME, 65536)
    name = f"{0:016x}.{MAX_FRAME + 1:08x}.data"
    data = hostile([(name, bytes(MAX_FRAME + 1))], hashes=ZERO * region.granules, compression=8)
    with pytest.raises(DataLoss, match="wrong length"):
        opened(data, region)


def test_unknown_compression_is_refused():
    """LZMA and bzip2 are not in the format; an encrypted member neither."""
    members = [("0000000000002000.00000200.data", b"a" * 512)]
    with pytest.raises(DataLoss, match="compression"):
        list(opened(hostile(members, compression=zipfile.ZIP_LZMA)).members())


PACKED = b"The quick brown fox. " * 1000


def packed_part(compression: str, size: int) -> tuple[bytes, Region]:
    """A part with one compressed member of so many bytes."""
    region, data = Region(0, size, size), PACKED[:size]
    return content(
        build([Member(0, size, memoryview(data))], hashes_of(0, data, region), compression)
    ), region


@pytest.mark.parametrize("compression", ["deflate", "zstd", "auto"])
def test_compressed_members(compression):
    """Each method shrinks text and gives it back; what does not shrink is stored as it is."""
    data, region = packed_part(compression, 16384)
    assert len(data) < 2000
    (member,) = opened(data, region).members()
    assert bytes(member.data or b"") == PACKED[:16384]
    noise = memoryview(hashlib.shake_128(b"noise").digest(16384))
    members = [Member(0, 16384, noise)]
    stored, plain = build(members, ZERO, compression), build(members, ZERO)
    assert content(stored) == content(plain)


@pytest.mark.parametrize("method", [DEFLATED, ZSTD])
@pytest.mark.parametrize("length", [0, 1, 16383, 16385, 10**6])
def test_bombs_are_not_unpacked(method, length):
    """What unpacks to another length than its member's is refused; so is a second frame behind the first."""
    packed = Packer("deflate" if method == DEFLATED else "zstd").pack(memoryview(PACKED[:16384]))[1]
    with pytest.raises(PackingError):
        unpack(method, packed, length)
    assert unpack(method, packed, 16384) == PACKED[:16384]
    with pytest.raises(PackingError):
        unpack(method, packed[:-1], 16384)
    if method == ZSTD:
        with pytest.raises(PackingError):
            unpack(method, bytes(packed) * 2, 16384)


def test_a_zstd_frame_that_hides_its_length_is_refused():
    """The library would have to guess how much memory it takes; ours always say it."""
    hiding = zstandard.ZstdCompressor(write_content_size=False).compress(PACKED)
    with pytest.raises(PackingError, match="does not say"):
        unpack(ZSTD, hiding, len(PACKED))


def test_compression_is_decided_frame_by_frame():
    """With "auto" a part of text and noise has both kinds of members."""
    noise = memoryview(hashlib.shake_128(b"noise").digest(16384))
    text = memoryview(PACKED[:16384])
    region = Region(0, 32768, 16384)
    joined = build([Member(0, 16384, text), Member(16384, 16384, noise)], ZERO * 2, "auto")
    assert [info.compress_type for info in opened(content(joined), region).infos] == [ZSTD, STORED]


def test_wrong_hashes_length_and_sums():
    """HASHES of another window size, and SHA256SUMS that tell of other members, are refused."""
    with pytest.raises(DataLoss, match="HASHES has a wrong length"):
        opened(hostile([], hashes=ZERO))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(HASHES, HASHES_OF_NOTHING)
        archive.writestr(SUMS, f"{'0' * 64}  {HASHES}\n")
    with pytest.raises(DataLoss, match="not what SHA256SUMS says"):
        list(opened(file.getvalue()).members())
    assert list(opened(file.getvalue()).members(sums=False)) == []


@settings(max_examples=300)
@given(st.data())
def test_damaged_parts_never_surprise(data):
    """Any damage gives `DataLoss` or the same content, never another exception and never other bytes."""
    good = simple()
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(bad)), st.integers(0, len(bad))))
    try:
        found = list(opened(bytes(bad[:cut])).members())
    except DataLoss:
        pass
    else:
        assert [(m.offset, m.length, m.data and bytes(m.data)) for m in found] == [
            (8192, 512, b"a" * 512),
            (9216, 1024, None),
        ]


def test_short_granule_is_padded(kit):
    """The last granule of a volume hashes as if zeros followed, so growing does not change it."""
    data = kit.noise(1, 300)
    padded = memoryview(data + bytes(212))
    assert granule_hash(memoryview(data), 512) == granule_hash(padded, 512)
    assert granule_hash(memoryview(bytes(300)), 512) == ZERO
