"""Whether this machine is alone or one of a fleet: where its records and its journal are.

without [catalog]   records in a SQLite file of this machine's state, the journal in files beside it
with [catalog]      both in the catalog that it names, so that any machine ends what another has left
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from ...transfer_objects.secret import Secret
from ..access import Mover
from ..catalog import Catalog
from ..catalog.place import default_url
from ..config import Config
from ..journal import Journal
from ..mover import mover_host, state_directory
from ..spi import InvalidArgument, option, parse_options
from .intents import CatalogJournal


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogPlace:
    """[catalog] of the configuration."""

    url: Secret = option(help="SQLAlchemy's URL: sqlite:///PATH or postgresql://…", secret=True)
    password: Secret | None = option(help="Of the URL's user, apart from it", secret=True, default=None)


def catalog_url(config: Config) -> Secret:
    """Return where the catalog is, password included.

    Raises:
        InvalidArgument: [catalog] names no database, or a reference of it leads nowhere.
    """
    if config.catalog is None:
        return Secret(default_url())
    place = parse_options(CatalogPlace, config.catalog)
    try:
        url = make_url(place.url.reveal())
    except (ArgumentError, ValueError):
        # Not chained: the exception's text is the URL.
        raise InvalidArgument(f"{config.path}: catalog.url is no URL of a database") from None
    if place.password is not None:
        url = url.set(password=place.password.reveal())
    return Secret(url.render_as_string(hide_password=False))


def open_catalog(config: Config) -> Catalog:
    """Open the catalog; close it."""
    return Catalog(catalog_url(config).reveal())


def open_mover(config: Config) -> tuple[Mover, Callable[[], None]]:
    """Return this machine as what moves data, and what ends that: in order, or it looks dead to the fleet."""
    state = state_directory()
    host = mover_host(state)
    if config.catalog is None:
        return Mover(host=host, journal=Journal(state / "journal")), lambda: None
    with ExitStack() as stack:
        catalog = open_catalog(config)
        stack.callback(catalog.close)
        journal = CatalogJournal(catalog, state / "owners")
        stack.callback(journal.close)
        return Mover(host=host, journal=journal), stack.pop_all().close
    raise AssertionError
