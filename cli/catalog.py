"""`bollard catalog …`: the tables of the catalog, by revisions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Annotated

import typer
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from ..core.catalog import Catalog, schema, transitions
from ..core.catalog.engines import open_engine, parse_url
from ..core.catalog.failures import storage_error
from ..core.catalog.machines import MACHINES, markdown
from ..core.catalog.place import default_url
from ..core.catalog.revision import NEWEST, reading
from ..core.catalog.revision import current as current_revision
from ..core.spi import NotFound
from ..transfer_objects.errors import did_you_mean
from .context import JsonFlag
from .output import show, show_rows

app = typer.Typer(
    help="The catalog's tables: which revision a database has, and how it gets the newest.",
    no_args_is_help=True,
)

CatalogUrl = Annotated[
    str,
    typer.Option(
        "--url",
        help="sqlite:///PATH or postgresql://USER@HOST/DATABASE; else $BOLLARD_CATALOG, else the user's own. "
        "A password belongs into PGPASSFILE: other users see the command line.",
    ),
]


@app.command()
def upgrade(url: CatalogUrl = "", json: JsonFlag = False) -> None:
    """Bring the tables to the newest revision, all or nothing.

    SQLite's are brought there by whatever opens them. A fleet's on PostgreSQL are not: stop the orchestrators
    of the older version first.
    """
    with _database(url) as engine:
        with engine.connect() as connection:
            before = current_revision(connection)
        after = schema.upgrade(engine)
    show({"before": before, "after": after}, as_json=json)


@app.command()
def current(url: CatalogUrl = "", json: JsonFlag = False) -> None:
    """Show the revision of the tables, and the newest."""
    with _connected(url) as connection:
        found = current_revision(connection)
    show({"current": found, "newest": NEWEST}, as_json=json)


@app.command()
def history(json: JsonFlag = False) -> None:
    """List all revisions, oldest first."""
    rows = [{"revision": number, "about": about} for number, about in schema.revisions()]
    show_rows(rows, as_json=json, empty="")


@app.command()
def check(url: CatalogUrl = "", json: JsonFlag = False) -> None:
    """Compare the tables with those that this version works with; exit code 1 if they differ."""
    with _connected(url) as connection:
        rows = [{"difference": one} for one in schema.differences(connection)]
    show_rows(rows, as_json=json, empty="The tables are those of this version.")
    if rows:
        raise typer.Exit(1)


@app.command()
def prune(
    days: Annotated[int, typer.Option(min=1, help="Forget moves of objects that are older.")] = 90,
    url: CatalogUrl = "",
    json: JsonFlag = False,
) -> None:
    """Forget the history of long ago, in small steps beside which others work. Once a night is enough."""
    gone = 0
    with closing(Catalog(url or default_url())) as catalog:
        while step := catalog.run(lambda session: transitions.prune(session, timedelta(days=days))):
            gone += step
    show({"forgotten": gone}, as_json=json)


@app.command()
def states(
    kind: Annotated[str, typer.Argument(help="snapshot, vm_snapshot, volume, object or grant.")],
) -> None:
    """Draw the life of a kind of object in Mermaid's language, with the ways out of each transient state."""
    if kind not in MACHINES:
        raise NotFound(f"there is no {kind!r}; {did_you_mean(kind, MACHINES)}")
    typer.echo(markdown(MACHINES[kind]))


@contextmanager
def _database(url: str) -> Iterator[Engine]:
    engine = open_engine(parse_url(url or default_url()))
    try:
        yield engine
    except SQLAlchemyError as error:
        raise storage_error(error, committing=False) from error
    finally:
        engine.dispose()


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    with _database(url) as engine, reading(engine) as connection:
        yield connection
