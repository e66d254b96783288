"""The search explains what an order explains, and nothing else."""

from __future__ import annotations

import math

import pytest

from bollard.conformance.modelbased.linear import contradiction
from bollard.conformance.modelbased.volume_calls import Asked, Made, Shown, State, model
from bollard.core.spi import Busy, DeadlineExceeded, NotFound, Outcome, StorageError, Traits, Unavailable

SIZE = 1024
CREATE, DELETE, GET = Asked("create_volume", SIZE), Asked("delete_volume"), Asked("get_volume")
CUT, LOOK = Asked("create_snapshot"), Asked("get_snapshot")
ONE, TWO = Shown(SIZE, "identity 1"), Shown(SIZE, "identity 2")
CUT_1, CUT_2 = Shown(SIZE, "cut 1"), Shown(SIZE, "cut 2")


def _made(asked: Asked, began: float, ended: float, answer: Shown | StorageError | None) -> Made:
    return Made(caller=1, asked=asked, began=began, ended=ended, answer=answer)


EXPLAINED = {
    "two creates of one volume": [_made(CREATE, 0, 2, ONE), _made(CREATE, 1, 3, ONE)],
    "a get beside a create": [_made(CREATE, 0, 3, ONE), _made(GET, 1, 2, NotFound(""))],
    "anew after a delete": [
        _made(CREATE, 0, 1, ONE),
        _made(DELETE, 2, 3, None),
        _made(CREATE, 4, 5, TWO),
    ],
    "a lost request that comes late": [
        _made(CREATE, 0, 1, ONE),
        _made(DELETE, 2, math.inf, Unavailable("", outcome=Outcome.UNKNOWN)),
        _made(GET, 3, 4, ONE),
        _made(GET, 5, 6, NotFound("")),
    ],
    "a busy volume": [_made(CREATE, 0, 3, ONE), _made(CREATE, 1, 2, Busy(""))],
    "calls that had no time and no answer": [
        _made(CREATE, 0, 1, DeadlineExceeded("", outcome=Outcome.NOT_APPLIED)),
        _made(GET, 2, 3, Unavailable("", outcome=Outcome.NOT_APPLIED)),
        _made(GET, 4, 5, NotFound("")),
    ],
    "a cut asked for twice": [
        _made(CREATE, 0, 1, ONE),
        _made(CUT, 2, 4, CUT_1),
        _made(CUT, 3, 5, CUT_1),
        _made(LOOK, 6, 7, CUT_1),
    ],
}
UNEXPLAINED = {
    "two volumes of one id": [_made(CREATE, 0, 2, ONE), _made(CREATE, 1, 3, TWO)],
    "a get after a create": [_made(CREATE, 0, 1, ONE), _made(GET, 2, 3, NotFound(""))],
    "a create that finds nothing": [_made(CREATE, 0, 2, NotFound("")), _made(DELETE, 1, 3, None)],
    "a delete that did nothing": [
        _made(CREATE, 0, 1, ONE),
        _made(DELETE, 2, 3, None),
        _made(GET, 4, 5, ONE),
    ],
    "a busy call that ran": [_made(CREATE, 0, 1, Busy("")), _made(GET, 2, 3, ONE)],
    "a call that had no time and ran": [
        _made(CREATE, 0, 1, DeadlineExceeded("", outcome=Outcome.NOT_APPLIED)),
        _made(GET, 2, 3, ONE),
    ],
    "a later cut": [_made(CREATE, 0, 1, ONE), _made(CUT, 2, 3, CUT_1), _made(CUT, 4, 5, CUT_2)],
    "a volume gone from under its snapshot": [
        _made(CREATE, 0, 1, ONE),
        _made(CUT, 2, 3, CUT_1),
        _made(DELETE, 4, 5, None),
    ],
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_what_an_order_explains_is_no_contradiction(name: str) -> None:
    """A history that a single caller could have seen is accepted."""
    assert contradiction(EXPLAINED[name], State(), model(Traits())) == []


@pytest.mark.parametrize("name", UNEXPLAINED)
def test_what_no_order_explains_is_a_contradiction(name: str) -> None:
    """A history that no single caller could have seen is told with its calls."""
    assert contradiction(UNEXPLAINED[name], State(), model(Traits()))


def test_contradiction_has_only_what_it_needs() -> None:
    """Calls that came later, and those that only looked, are left out."""
    noise = [_made(GET, 0.1, 0.2, NotFound("")), _made(CREATE, 8, 9, ONE), _made(GET, 10, 11, ONE)]
    two = UNEXPLAINED["two volumes of one id"]
    assert contradiction([*noise[:1], *two, *noise[1:]], State(), model(Traits())) == two


def test_traits_decide_what_is_right() -> None:
    """Where a volume may go with its snapshots, its delete is explained."""
    calls = UNEXPLAINED["a volume gone from under its snapshot"]
    assert contradiction(calls, State(), model(Traits(delete_with_snapshots=True))) == []
