"""The guests' block pattern proves one instant, and notices when copies are not."""

import tempfile
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from bollard.simulators.hypervisor.pattern import BLOCK, Block, examine, layout_of, position

DISKS, SLOTS, WRITES = st.integers(1, 4), st.integers(1, 5), st.integers(1, 60)


def block(generation: int, disks: int, slots: int, first: int = 1) -> tuple[int, Block]:
    """The disk and the block that a guest writes as ``generation``."""
    index, slot = position(generation - first, disks, slots)
    return index, Block(
        generation=generation,
        offset=slot * BLOCK,
        first=first,
        disk_index=index,
        disk_count=disks,
        slots=slots,
        layout=layout_of([f"d{number}" for number in range(disks)], slots),
        vm="vm",
        disk=f"d{index}",
    )


def images(disks: int, slots: int, generations: list[list[int]], directory: str) -> dict[str, Path]:
    """Disk images; disk i has received ``generations[i]``."""
    paths = {}
    for index in range(disks):
        path = Path(directory, f"d{index}")
        with path.open("wb") as file:
            file.truncate(slots * BLOCK)
            for generation in generations[index]:
                _, one = block(generation, disks, slots)
                file.seek(one.offset)
                file.write(one.pack())
        paths[f"d{index}"] = path
    return paths


def history(disks: int, slots: int, last: int) -> list[list[int]]:
    """The generations up to ``last``, per disk."""
    return [
        [one for one in range(1, last + 1) if position(one - 1, disks, slots)[0] == disk]
        for disk in range(disks)
    ]


@given(DISKS, SLOTS, WRITES)
def test_every_prefix_is_one_instant(disks, slots, last):
    """Copies taken between two writes have no problem and show the newest generation."""
    with tempfile.TemporaryDirectory() as directory:
        cut = examine(images(disks, slots, history(disks, slots, last), directory))
    assert (cut.generation, cut.problems) == (last, ())


@given(DISKS, SLOTS, WRITES, st.data())
def test_a_missing_write_is_noticed(disks, slots, last, data):
    """Leaving out any write that is not the newest and was not overwritten is a problem."""
    writes = history(disks, slots, last)
    lost = data.draw(st.integers(1, last))
    assume(lost < last and lost + disks * slots > last)
    with tempfile.TemporaryDirectory() as directory:
        kept = [[one for one in per_disk if one != lost] for per_disk in writes]
        assert examine(images(disks, slots, kept, directory)).problems


@given(st.integers(2, 4), SLOTS, WRITES, st.integers(2, 20))
def test_copies_of_different_times_are_noticed(disks, slots, early, later):
    """One disk copied some rounds later than the others is a problem."""
    late = early + later * disks
    with tempfile.TemporaryDirectory() as directory:
        mixed = history(disks, slots, early)
        mixed[-1] = history(disks, slots, late)[-1]
        assert examine(images(disks, slots, mixed, directory)).problems


@given(st.integers(0, BLOCK - 1), st.integers(1, 255))
def test_a_flipped_byte_is_noticed(at, flip):
    """Any change of a block is a torn block, or no block at all."""
    data = bytearray(block(1, 1, 1)[1].pack())
    data[at] ^= flip
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "d0")
        path.write_bytes(data)
        cut = examine({"d0": path})
    assert cut.problems or cut.generation == 0


def test_a_misdirected_block_is_noticed(tmp_path):
    """A block at another place or on another disk than it says is a problem."""
    path = tmp_path / "d0"
    path.write_bytes(bytes(BLOCK) + block(1, 1, 2)[1].pack())
    assert "belongs to d0 at 0" in examine({"d0": path}).problems[0]
    path.write_bytes(block(1, 1, 2)[1].pack())
    assert "belongs to d0" in examine({"d1": path}).problems[0]
