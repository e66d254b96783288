"""What is known about an image before any tool opens it, judged by qemu-img."""

from __future__ import annotations

import struct
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.dataplane import open_qcow2_sink, open_qcow2_source, probe, refuse_hostile
from bollard.core.dataplane.image_info import _parse
from bollard.core.spi import DataLoss, InvalidArgument, StorageError, Unsupported

MIB = 1024 * 1024


def header(**fields: int) -> bytes:
    """Return a qcow2 version 3 header of 1 MiB with some fields changed."""
    values = {
        "version": 3,
        "backing": 0,
        "backing_length": 0,
        "size": MIB,
        "crypt": 0,
        "features": 0,
    } | fields
    head = struct.pack(
        ">4sIQIIQI",
        b"QFI\xfb",
        values["version"],
        values["backing"],
        values["backing_length"],
        16,
        values["size"],
        values["crypt"],
    )
    return (head.ljust(72, b"\0") + struct.pack(">QQQII", values["features"], 0, 0, 4, 104)).ljust(
        65536, b"\0"
    )


@pytest.mark.real
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("compat=0.10",),
        ("cluster_size=2M",),
        ("cluster_size=512",),
        ("extended_l2=on",),
        ("compression_type=zstd",),
        ("lazy_refcounts=on", "preallocation=metadata"),
    ],
)
def test_an_honest_image_is_read_as_qemu_reads_it(
    images: ModuleType, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Size and allocation equal qemu-img's, whatever the layout, and nothing is held against it."""
    path = images.create_qcow2(tmp_path / "a.qcow2", 3 * MIB + 512, *options)
    images.qemu_io(path, "qcow2", "write -P 7 1M 1M")
    truth, info = images.image_info(path, "qcow2"), probe(path, "qcow2")
    assert (info.virtual_size, info.allocated) == (truth["virtual-size"], truth["actual-size"])
    refuse_hostile(info, path)
    open_qcow2_source(path).close()


@pytest.mark.real
def test_files_that_an_image_refers_to_are_found_and_refused(images: ModuleType, tmp_path: Path) -> None:
    """A backing file, an external data file and encryption are seen, and never opened."""
    base = images.create_qcow2(tmp_path / "base.qcow2", MIB)
    overlay, external, locked = (tmp_path / f"{name}.qcow2" for name in ("overlay", "external", "locked"))
    images.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay)
    images.create_qcow2(external, MIB, f"data_file={tmp_path / 'data.raw'}", "data_file_raw=on")
    secret = (
        "--object",
        "secret,id=s,data=x",
        "-o",
        "encrypt.format=aes,encrypt.key-secret=s",
    )
    images.run("qemu-img", "create", "-q", "-f", "qcow2", *secret, locked, "1M")
    assert probe(overlay, "qcow2").backing == str(base)
    assert probe(external, "qcow2").data_file == str(tmp_path / "data.raw")
    assert probe(locked, "qcow2").encrypted
    for path in (overlay, external, locked):
        for opener in (open_qcow2_source, open_qcow2_sink):
            with pytest.raises(InvalidArgument):
                opener(path)


@pytest.mark.real
def test_a_raw_image_is_never_probed(images: ModuleType, tmp_path: Path) -> None:
    """A raw disk on which a guest wrote a qcow2 header is that disk (CVE-2024-32498)."""
    path = images.create_qcow2(tmp_path / "a.raw", 2**40)
    info = probe(path, "raw")
    assert (info.virtual_size, info.backing) == (path.stat().st_size, None)


@pytest.mark.real
def test_internal_snapshots_are_counted(images: ModuleType, tmp_path: Path) -> None:
    """A driver can see that an image carries more than its present content."""
    path = images.create_qcow2(tmp_path / "a.qcow2", MIB)
    images.run("qemu-img", "snapshot", "-c", "one", path)
    assert probe(path, "qcow2").snapshots == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"backing": 512, "backing_length": 9}, InvalidArgument),
        ({"features": 4}, InvalidArgument),
        ({"crypt": 1}, InvalidArgument),
        ({"features": 2}, DataLoss),
        ({"features": 1 << 40}, Unsupported),
        ({"version": 1}, Unsupported),
        ({"version": 4}, Unsupported),
        ({"size": 2**63}, InvalidArgument),
        ({"backing": 512, "backing_length": 1024}, InvalidArgument),
        ({"backing": 2**63, "backing_length": 9}, InvalidArgument),
    ],
)
def test_a_made_up_header_is_refused(
    tmp_path: Path, fields: dict[str, int], expected: type[StorageError]
) -> None:
    """Each danger has its own error, and a header that contradicts itself is not an image."""
    path = tmp_path / "a.qcow2"
    path.write_bytes(header(**fields))
    with pytest.raises(expected):
        refuse_hostile(probe(path, "qcow2"), path)


def test_the_made_up_header_is_fine_unchanged(tmp_path: Path) -> None:
    """The test above fails for its own reasons only; a dirty image is told, not refused."""
    path = tmp_path / "a.qcow2"
    path.write_bytes(header(features=1))
    info = probe(path, "qcow2")
    refuse_hostile(info, path)
    assert (info.virtual_size, info.dirty) == (MIB, True)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    """Too short, other magic, or a link."""
    path, link = tmp_path / "a.qcow2", tmp_path / "link"
    link.symlink_to(path)
    for content in (b"", b"QFI\xfb", b"\0" * 4096, b"KDMV" + header()[4:], header()[:100]):
        path.write_bytes(content)
        for place in (path, link):
            with pytest.raises(InvalidArgument):
                probe(place, "qcow2")


@given(st.binary(max_size=200), st.integers(0, 120))
def test_any_header_gives_an_answer_or_a_refusal(noise: bytes, at: int) -> None:
    """Rubbish in a header ends in InvalidArgument's cause or in an info, never in another exception."""
    from bollard.core.dataplane.image_info import _MalformedError  # the parser's own word

    content = header()[:at] + noise + header()[at + len(noise) :]
    try:
        assert _parse(content[:4096], 0).virtual_size < 2**63
    except (Unsupported, _MalformedError, struct.error):
        return
