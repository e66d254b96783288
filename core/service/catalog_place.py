"""[catalog] of the configuration: where the records are."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from ...transfer_objects.secret import Secret
from ..catalog import Catalog
from ..catalog.place import default_url
from ..config import Config
from ..spi import InvalidArgument, option, parse_options


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
