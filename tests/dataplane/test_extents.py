"""The arithmetic of extents, against a model that writes one letter per byte."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bollard.core.dataplane import align, clip, cover, intersect, merge, overlay, split
from bollard.core.spi import Extent, ExtentKind

SIZE = 48
KINDS = {"d": ExtentKind.DATA, "z": ExtentKind.ZERO, "h": ExtentKind.HOLE}
LETTERS = {kind: letter for letter, kind in KINDS.items()}


def to_extents(parts: list[tuple[int, str]]) -> list[Extent]:
    """Lay parts end to end; a blank part is a gap."""
    position, extents = 0, []
    for length, letter in parts:
        if letter in KINDS and length:
            extents.append(Extent(position, length, KINDS[letter]))
        position += length
    return extents


def paint(extents: list[Extent]) -> str:
    """Return the volume as a string; fails if extents are unsorted, overlap or are empty."""
    picture = ""
    for extent in extents:
        assert extent.length > 0
        assert extent.offset >= len(picture)
        picture = picture.ljust(extent.offset) + LETTERS[extent.kind] * extent.length
    return picture.ljust(SIZE)


def parts(letters: str) -> st.SearchStrategy[list[tuple[int, str]]]:
    """Parts that fit into SIZE bytes."""
    part = st.tuples(st.integers(1, 9), st.sampled_from(letters))
    return st.lists(part, max_size=5)


gappy = parts("dzh ").map(to_extents)
full = parts("dzh").map(lambda found: list(cover(to_extents(found), 0, SIZE)))
positions = st.integers(0, SIZE)


@given(gappy)
def test_merge_keeps_the_picture_and_leaves_nothing_to_merge(extents: list[Extent]) -> None:
    """Merging changes no byte, and neighbours that touch differ in kind."""
    merged = list(merge(extents))
    assert paint(merged) == paint(extents)
    assert all(a.end < b.offset or a.kind is not b.kind for a, b in pairwise(merged))


@given(gappy, positions, positions)
def test_clip_cuts_the_picture(extents: list[Extent], start: int, length: int) -> None:
    """Inside of the range nothing changes, outside nothing is left."""
    expected = paint(extents)[start : start + length].rjust(min(SIZE, start + length)).ljust(SIZE)
    assert paint(list(clip(extents, start, length)))[:SIZE] == expected[:SIZE]


@given(gappy, positions, positions, st.sampled_from(ExtentKind))
def test_cover_leaves_no_gap(extents: list[Extent], start: int, length: int, gap: ExtentKind) -> None:
    """Extents of a cover touch, span exactly the range, and gaps have the kind that was asked for."""
    covered = list(cover(extents, start, length, gap=gap))
    picture = paint(extents).ljust(2 * SIZE)[start : start + length].replace(" ", LETTERS[gap])
    assert "".join(LETTERS[e.kind] * e.length for e in covered) == picture
    assert [e.offset for e in covered] == [
        start + sum(e.length for e in covered[:i]) for i in range(len(covered))
    ]


@given(gappy, gappy)
def test_intersect_keeps_what_lies_in_windows(extents: list[Extent], inside: list[Extent]) -> None:
    """A byte survives if an extent and a window hold it."""
    windows = [(e.offset, e.length) for e in inside]
    mask = paint(inside)
    expected = "".join(p if m != " " else " " for p, m in zip(paint(extents), mask, strict=True))
    assert paint(list(intersect(extents, windows))) == expected


@given(full, full)
def test_overlay_pairs_equal_ranges(a: list[Extent], b: list[Extent]) -> None:
    """Both halves of every pair have one range, and each side keeps its picture."""
    pairs = list(overlay(a, b))
    assert all((x.offset, x.length) == (y.offset, y.length) for x, y in pairs)
    assert (paint([x for x, _ in pairs]), paint([y for _, y in pairs])) == (paint(a), paint(b))


@given(gappy, st.integers(1, 16))
def test_split_crosses_no_border(extents: list[Extent], step: int) -> None:
    """Pieces lie between multiples of the step and paint the same picture."""
    pieces = list(split(extents, step))
    assert paint(pieces) == paint(extents)
    assert all(piece.offset // step == (piece.end - 1) // step for piece in pieces)


@given(gappy, st.integers(1, 16), st.integers(1, SIZE))
def test_align_never_calls_data_or_the_unknown_empty(extents: list[Extent], granule: int, size: int) -> None:
    """A granule is empty only if each of its bytes is, and absent only if no extent touches it."""
    picture, expected = paint(extents)[:size], ""
    for start in range(0, size, granule):
        cell = picture[start : start + granule]
        letter = " " if not cell.strip() else "d" if set(cell) & set("d ") else "z" if "z" in cell else "h"
        expected += letter * len(cell)
    aligned = list(align(extents, granule, size))
    assert paint(aligned)[:size] == expected
    assert list(merge(aligned)) == aligned


def test_align_costs_nothing_for_a_huge_hole() -> None:
    """A hole of 64 TiB is one extent, not a billion granules."""
    hole = Extent(512, 2**46, ExtentKind.HOLE)
    assert list(align([hole], 65536, 2**47)) == [
        Extent(0, 65536, ExtentKind.DATA),
        Extent(65536, 2**46 - 65536, ExtentKind.HOLE),
        Extent(2**46, 65536, ExtentKind.DATA),
    ]
