"""The fixtures `catalog_url` and `catalog`, on each kind of database in turn, for test modules that say
`pytest_plugins = ["catalog_fixture"]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bollard.core.catalog import Catalog
from postgres import Postgres

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.real)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real server."""
    with Postgres() as server:
        yield server


@pytest.fixture
def postgresql_url(postgres: Postgres) -> Iterator[str]:
    """A new catalog on it."""
    url = postgres.catalog_url()
    yield url
    postgres.drop(url)


@pytest.fixture(params=["sqlite", POSTGRESQL])
def catalog_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new catalog on each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalog.db"
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture
def catalog(catalog_url: str) -> Iterator[Catalog]:
    """It, opened."""
    opened = Catalog(catalog_url)
    yield opened
    opened.close()
