"""Values and errors between suite and host."""

from __future__ import annotations

import json
from datetime import UTC
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.conformance.hosting import wire
from bollard.conformance.hosting.failures import DriverRaised, decode_error, encode_error
from bollard.conformance.hosting.wire import NotCarried, decode, encode
from bollard.core import spi
from bollard.core.spi import Body, Capability, NotFound, Outcome, Page, StorageError, Volume
from bollard.transfer_objects.secret import Secret

_SECRETS = st.builds(Secret, st.text())
_PATHS = st.builds(Path, st.text())
_KEYS = st.one_of(st.text(), st.integers(), st.sampled_from(Capability), st.tuples(st.text(), st.booleans()))
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters()),  # with lone surrogates
    st.binary(),
    st.builds(bytearray, st.binary()),
    st.datetimes(timezones=st.none() | st.just(UTC)),
    _SECRETS,
    _PATHS,
    *(st.sampled_from(cls) for cls in (Capability, Outcome, spi.ExtentKind, spi.ObjectKind)),
)


_CHAP = {"chap_secret": st.none() | _SECRETS}
_LOCATIONS = (spi.FileLocation, spi.IscsiLocation)
# Fields that Hypothesis cannot make by their types.
_SPECIAL: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    spi.Host: _CHAP,
    spi.IscsiLocation: _CHAP,
    spi.FileLocation: {"path": _PATHS},
    spi.NbdLocation: {"export": _SECRETS, "address": st.one_of(_PATHS, st.tuples(st.text(), st.integers()))},
    spi.Introduction: {"location": st.deferred(lambda: st.one_of(*map(_of, _LOCATIONS)))},
    spi.VmDisk: {"location": st.deferred(lambda: st.one_of(*map(_of, _LOCATIONS)))},
    spi.BackupDisk: {"location": st.deferred(lambda: _of(spi.NbdLocation))},
}


def _of(cls: type) -> st.SearchStrategy[Any]:
    return st.builds(cls, **_SPECIAL.get(cls, {}))


_DATACLASSES = [cls for cls in wire._FIELDS if cls is not Page]
_VALUES = st.recursive(
    st.one_of(_SCALARS, *(_of(cls) for cls in _DATACLASSES)),
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.frozensets(_KEYS),
        st.sets(_KEYS),
        st.dictionaries(_KEYS, inner),
        st.builds(MappingProxyType, st.dictionaries(_KEYS, inner)),
        st.builds(Page, items=st.lists(inner), after=st.none() | st.text()),
    ),
    max_leaves=8,
)


@given(_VALUES)
def test_values_round_trip(value: Any) -> None:
    """Whatever the SPI speaks of comes out equal and of the same type, through real JSON."""
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value
    assert type(back) is type(value)


def test_every_dataclass_and_enum_of_the_spi_is_known() -> None:
    """A value that the SPI gains is carried without a change here; a call and a body are lent instead."""
    assert {"Volume", "Page", "Extent", "NbdLocation", "ExtentKind", "Outcome"} <= wire._SPI.keys()
    assert {"Call", "Body", "Secret"}.isdisjoint(wire._SPI)


class AcmeState(StrEnum):
    """A vendor's enum."""

    WARM = "warm"


class AcmeVolume(Volume):
    """A vendor's volume."""

    colour = "blue"


def test_a_vendors_own_types_go_as_what_the_spi_says_of_them() -> None:
    """A subclass of a value arrives as that value, a vendor's enum as its text."""
    back = decode(encode(AcmeVolume(id="v", size=1, private={"state": AcmeState.WARM})))
    assert back == Volume(id="v", size=1, private={"state": "warm"})
    assert type(back.private["state"]) is str


@pytest.mark.parametrize("value", [object(), len, iter([]), Body.of(b""), Volume.__new__(Volume)])
def test_what_is_no_value_is_refused(value: object) -> None:
    """An object, a function, a generator, a half-made value: refused by type, whatever it is in."""
    with pytest.raises(NotCarried):
        encode({"deep": [value]})


def test_an_unknown_kind_is_refused() -> None:
    """Data of a kind that this side does not know is no value."""
    with pytest.raises(NotCarried, match="'Teapot'"):
        decode({"$": "Teapot", "v": 1})


_TEXTS = st.text(max_size=50)


@given(
    st.sampled_from(spi.TAXONOMY),
    _TEXTS,
    st.sampled_from(Outcome),
    _TEXTS,
    st.none() | st.floats(allow_nan=False),
    st.lists(_TEXTS, max_size=3),
)
def test_errors_of_the_taxonomy_round_trip(
    cls: Any, message: str, outcome: Outcome, detail: str, retry_after: float | None, notes: list[str]
) -> None:
    """Class, message, outcome, detail, waiting time and notes arrive as they were."""
    error = cls(message, outcome=outcome, detail=detail, retry_after=retry_after)
    for note in notes:
        error.add_note(note)
    back = decode_error(json.loads(json.dumps(encode_error(error))))
    assert type(back) is cls
    assert isinstance(back, StorageError)
    assert (back.message, back.outcome, back.detail, back.retry_after) == (
        error.message,
        outcome,
        detail,
        retry_after,
    )
    assert getattr(back, "__notes__", []) == notes
    assert str(back) == error.message


def test_causes_and_contexts_travel() -> None:
    """What an error hangs on is there, too: a search for secrets looks at all of it."""
    error = NotFound("gone")
    error.__cause__, error.__context__ = KeyError("lun 7"), ValueError("before")
    back = decode_error(encode_error(error))
    assert isinstance(back.__cause__, DriverRaised)
    assert (repr(back.__cause__), type(back.__cause__).__name__) == ("KeyError('lun 7')", "KeyError")
    assert str(back.__context__) == "before"
    assert back.__suppress_context__


def test_a_circle_of_causes_ends() -> None:
    """Two errors that are each other's cause are told some times, and no more."""
    one, two = NotFound("one"), NotFound("two")
    one.__cause__, two.__cause__ = two, one
    assert str(decode_error(encode_error(one)).__cause__) == "two"
