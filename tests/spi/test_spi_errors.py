"""The taxonomy is closed, drawn, and survives a trip to another process."""

from __future__ import annotations

import pickle
import re

import pytest

from bollard.core.spi import TAXONOMY, Internal, Outcome, StorageError, error_class, errors


def test_taxonomy_has_exactly_the_fifteen_subclasses():
    """`TAXONOMY` names every subclass of `StorageError` in the module, and there are fifteen."""
    classes = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, StorageError)}

    assert classes - {StorageError} == set(TAXONOMY)
    assert len(TAXONOMY) == len(set(TAXONOMY)) == 15


def test_codes_are_unique_and_follow_the_names():
    """Each class has its own code: its name in snake case, so that reports and code read alike."""
    classes: tuple[type[StorageError], ...] = (*TAXONOMY, StorageError)
    codes = {cls: cls.code for cls in classes}

    assert len(set(codes.values())) == 16
    assert all(code == re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower() for cls, code in codes.items())


def test_docstring_draws_all_of_them():
    """The tree in the module's docstring shows the fifteen, in the order of `TAXONOMY`."""
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")

    assert drawn == [cls.__name__ for cls in TAXONOMY]


def test_retryable_ones_are_those_that_the_tree_marks():
    """What the drawn tree calls "(retry…)" is retryable, and nothing else is."""
    drawn = re.findall(r"[├└]── (\w+) .*\(retry", errors.__doc__ or "")

    assert drawn == [cls.__name__ for cls in TAXONOMY if cls.retryable]


@pytest.mark.parametrize("cls", TAXONOMY)
def test_code_leads_back_to_its_class(cls):
    """A peer that reads a code out of JSON finds the class again."""
    error = cls("no", outcome=Outcome.APPLIED)

    assert error_class(str(error.to_json()["code"])) is cls
    assert error.to_json() == {
        "code": cls.code,
        "message": "no",
        "outcome": "applied",
        "retryable": cls.retryable,
    }


def test_code_of_a_newer_peer_is_internal():
    """A code that this version does not know is taken as a bug, never as success or as retryable."""
    assert error_class("quota_of_2030") is Internal


@pytest.mark.parametrize("cls", TAXONOMY)
def test_default_outcome_is_honest(cls):
    """Only errors that may strike after the request was sent start as unknown."""
    maybe_sent = {"unavailable", "deadline_exceeded", "internal"}

    assert cls("x").outcome is (Outcome.UNKNOWN if cls.code in maybe_sent else Outcome.NOT_APPLIED)


@pytest.mark.parametrize("cls", TAXONOMY)
def test_errors_cross_process_borders(cls):
    """The engine's executor may live in another process: nothing of an error is lost on the way."""
    sent = cls("m", outcome=Outcome.APPLIED, detail="d", retry_after=1.5)

    got = pickle.loads(pickle.dumps(sent))  # noqa: S301 - our own bytes

    assert type(got) is cls
    assert (str(got), got.outcome, got.detail, got.retry_after) == ("m", Outcome.APPLIED, "d", 1.5)


def test_a_message_can_be_written_anywhere():
    """Half surrogates (of a file's name that is no UTF-8) and NUL become ASCII; what is too long is cut."""
    told = Internal("vol-1.\udcff, \0, Größe")
    assert len(Internal("é" * 100_000).message.encode()) < 65_536
    assert (told.message, str(told)) == (r"vol-1.\udcff, \0, Größe",) * 2
