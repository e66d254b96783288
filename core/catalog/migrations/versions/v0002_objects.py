"""Volumes, templates, places, grants and introductions; the history of all objects; sizes beyond 2 GiB.

PostgreSQL's INTEGER ends at 2 GiB, so its columns of bytes become BIGINT; SQLite's needs nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_WIDER = (("volume_snapshots", "size"), ("snapshot_refs", "size"), ("snapshot_refs", "physical_size"))


_OBJECTS = ("Copying", "Creating", "Destroying", "Migrating")
_VOLUMES = (
    "Attaching",
    "Copying",
    "Creating",
    "Detaching",
    "Expunging",
    "Migrating",
    "Resizing",
    "RevertSnapshotting",
    "Snapshotting",
)


def upgrade() -> None:
    """Add the tables and indexes, widen the columns."""
    _transitions()
    _places()
    _volumes()
    _templates()
    _object_refs()
    _holds("grants")
    _holds("introductions", sa.Column("path", sa.Text(), nullable=False))
    op.drop_index("ix_volume_snapshots_volume", "volume_snapshots")
    op.create_index("volume_snapshots_volume", "volume_snapshots", ["volume", "id"])  # pages are by id
    _unfinished("volume_snapshots", "BackingUp", "Copying", "Creating", "Destroying")
    _unfinished("snapshot_refs", *_OBJECTS)
    op.create_index("snapshot_refs_store", "snapshot_refs", ["store", "path"])
    _unfinished("vm_snapshot", "Allocated", "Creating", "Expunging", "Hidden", "Reverting", column="vm")
    if op.get_context().dialect.name == "postgresql":
        for table, column in _WIDER:
            op.alter_column(table, column, type_=sa.BigInteger())


def _transitions() -> None:
    op.create_table(
        "transitions",
        sa.Column("number", _BIG, primary_key=True),
        *_texts(kind=32, object=64, before=32, event=32, after=32, time=40),
        sa.Column("reason", sa.Text(), nullable=False),
        *_texts(request=64),
    )
    op.create_index("ix_transitions_time", "transitions", ["time"])
    op.create_index("transitions_object", "transitions", ["kind", "object", "number"])


def _places() -> None:
    op.create_table("hosts", _id(), _name(), *_texts(hypervisor=255, zone=255, cluster=255, seen=40))
    op.create_index("hosts_cluster", "hosts", ["cluster", "id"])
    managed: sa.Column[bool] = sa.Column("managed", sa.Boolean(), nullable=False)
    op.create_table("pools", _id(), _name(), *_texts(driver=255), managed, *_texts(zone=255, cluster=255))
    op.create_table("stores", _id(), _name(), *_texts(driver=255, role=80, zone=255))


def _volumes() -> None:
    op.create_table(
        "volumes",
        _id(),
        *_texts(pool=255, created=40, name=255, state=80),
        sa.Column("size", _BIG, nullable=False),
        *_texts(format=16, path=512),
        sa.Column("vm", sa.String(64)),
        *_texts(device=64),
        sa.Column("parent_snapshot", sa.String(64)),
        sa.Column("parent_template", sa.String(64)),
        sa.Column("error", sa.Text(), nullable=False),
    )
    for column in ("pool", "vm"):
        op.create_index(f"volumes_{column}", "volumes", [column, "id"])
    _unfinished("volumes", *_VOLUMES)


def _templates() -> None:
    op.create_table(
        "templates",
        _id(),
        *_texts(created=40, name=255, state=80),
        sa.Column("size", _BIG, nullable=False),
        *_texts(format=16, checksum=140),
        sa.Column("error", sa.Text(), nullable=False),
    )
    _unfinished("templates", *_OBJECTS)


def _object_refs() -> None:
    op.create_table(
        "object_refs",
        sa.Column("id", _BIG, primary_key=True),
        *_texts(kind=80, object=64, store=255, role=80, path=512, created=40, state=80),
        sa.Column("size", _BIG, nullable=False),
        sa.Column("physical_size", _BIG, nullable=False),
        sa.UniqueConstraint("kind", "object", "store", name="object_refs_one_per_store"),
    )
    op.create_index("object_refs_store", "object_refs", ["store", "path"])
    _unfinished("object_refs", *_OBJECTS)


def _holds(table: str, *own: sa.Column[str]) -> None:
    op.create_table(
        table,
        sa.Column("id", _BIG, primary_key=True),
        *_texts(volume=64, pool=255, host=64, created=40, purpose=80, state=80),
        *own,
        sa.UniqueConstraint("volume", "host", name=f"{table}_one_per_host"),
    )
    op.create_index(f"{table}_host", table, ["host", "id"])
    _unfinished(table, "Releasing", "Requested")


def _unfinished(table: str, *states: str, column: str = "id") -> None:
    where = sa.text(f"state IN ({', '.join(repr(state) for state in states)})")
    op.create_index(f"{table}_unfinished", table, [column], sqlite_where=where, postgresql_where=where)


def _id() -> sa.Column[str]:
    return sa.Column("id", sa.String(64), primary_key=True)


def _name() -> sa.Column[str]:
    return sa.Column("name", sa.String(255), nullable=False, unique=True)


def _texts(**lengths: int) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(length), nullable=False) for name, length in lengths.items()]
