"""The page about the catalog shows the state machines as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from bollard.core.catalog.machines import MACHINES, markdown

PAGE = Path(__file__).parents[2] / "docs" / "catalog.md"


@pytest.mark.parametrize("kind", MACHINES)
def test_page_draws_the_machine_as_it_is(kind):
    """Drawing and ways out; `bollard catalog states KIND` prints what belongs there."""
    assert markdown(MACHINES[kind]) in PAGE.read_text()


@pytest.mark.parametrize("kind", MACHINES)
def test_every_transient_state_has_its_ways_out(kind):
    """One row each, with at least one way that is not the state itself."""
    rows = [line for line in markdown(MACHINES[kind]).splitlines() if line.startswith("| ")][1:]

    assert [row.split(" | ")[0].strip("| ") for row in rows] == sorted(MACHINES[kind].transient)
    assert all(row.count("→") > row.count("→ the same") for row in rows)
