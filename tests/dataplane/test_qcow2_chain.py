"""Backing chains of real qcow2 files: read from top to base, written at the top, never led astray."""

from __future__ import annotations

import pytest

from bollard.core.dataplane import open_chain_sink, open_chain_source
from bollard.core.spi import DataLoss, InvalidArgument, NotFound

pytestmark = pytest.mark.real

KIB = 1024
MIB = 1024 * KIB


def read(source) -> bytes:
    """All of a source."""
    content = bytearray(source.size)
    source.read_into(0, memoryview(content))
    return bytes(content)


@pytest.fixture
def chain(images, tmp_path):
    """A base full of ones, and above it a file that is half a MiB larger, with nothing of its own."""
    base = images.create_qcow2(tmp_path / "base", MIB)
    images.qemu_io(base, "qcow2", "write -P 1 0 1M")
    command = ("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "base", "-F", "qcow2")
    images.run(*command, tmp_path / "top", "1536k")
    return [tmp_path / "top", base]


def test_chain_reads_as_one_image(chain):
    """What the top does not hold comes from the base, and zeros from where the base ends."""
    with open_chain_source(chain) as source:
        assert read(source) == b"\1" * MIB + bytes(512 * KIB)


def test_only_the_top_is_written(chain):
    """Data, parts of a cluster and zeros above old data land in the top; the base stays as it was."""
    before = chain[1].read_bytes()

    with open_chain_sink(chain) as sink:
        sink.write(10, b"new")
        sink.zero(128 * KIB, 64 * KIB)
        sink.flush()

    with open_chain_source(chain) as source:
        content = read(source)
    expected = bytearray(b"\1" * MIB + bytes(512 * KIB))
    expected[10:13] = b"new"
    expected[128 * KIB : 192 * KIB] = bytes(64 * KIB)
    assert content == expected
    assert chain[1].read_bytes() == before


def test_files_can_be_renamed_while_they_are_open(chain):
    """They went over as descriptors: a rename in between changes nothing."""
    with open_chain_source(chain) as source:
        chain[1].rename(chain[1].with_name("elsewhere"))
        assert read(source)[:MIB] == b"\1" * MIB


def test_header_that_names_another_file_is_refused(chain, images, tmp_path):
    """A header is compared with the records and never followed."""
    images.create_qcow2(tmp_path / "other", MIB)
    images.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "other", chain[0])

    with pytest.raises(DataLoss, match="not on 'base' as recorded"):
        open_chain_source(chain)


def test_missing_base_is_an_error(chain):
    """A chain without its base is not read as one full of zeros."""
    with pytest.raises(DataLoss, match="not on None"):
        open_chain_source(chain[:1])

    chain[1].unlink()
    with pytest.raises(NotFound):
        open_chain_source(chain)


def test_base_that_is_no_qcow2_image_is_refused(chain):
    """Each file is judged before QEMU sees it."""
    chain[1].write_bytes(b"rubbish" * 1000)

    with pytest.raises(InvalidArgument, match="not a qcow2 image"):
        open_chain_source(chain)
