"""The snapshot service: what was asked for of a snapshot, and what is made of it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the tables, and an index of what was recorded and not begun."""
    _orders()
    _uses()
    allocated = sa.text("state = 'Allocated'")
    op.create_index(
        "volume_snapshots_allocated",
        "volume_snapshots",
        ["id"],
        sqlite_where=allocated,
        postgresql_where=allocated,
    )


def _orders() -> None:
    op.create_table(
        "snapshot_orders",
        sa.Column("snapshot", sa.String(), sa.ForeignKey("volume_snapshots.id"), primary_key=True),
        sa.Column("volume", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("store", sa.String(), nullable=False),
        sa.Column("location", sa.String(80), nullable=False),
        sa.Column("goal", sa.String(80), nullable=False),
        sa.Column("quiesce", sa.Boolean(), nullable=False),
        sa.Column("vm", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("cut", sa.String(), nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", sa.Double(), nullable=False),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("problem", sa.String(), nullable=False),
    )
    for column in ("vm", "volume"):
        op.create_index(f"ix_snapshot_orders_{column}", "snapshot_orders", [column])
    wanted = sa.text("wanted")
    op.create_index(
        "snapshot_orders_wanted", "snapshot_orders", ["due"], sqlite_where=wanted, postgresql_where=wanted
    )


def _uses() -> None:
    op.create_table(
        "snapshot_uses",
        sa.Column("kind", sa.String(80), primary_key=True),
        sa.Column("target", sa.String(), primary_key=True),
        sa.Column("snapshot", sa.String(), sa.ForeignKey("volume_snapshots.id"), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_snapshot_uses_snapshot", "snapshot_uses", ["snapshot"])
    half = sa.text("NOT finished")
    op.create_index(
        "snapshot_uses_unfinished", "snapshot_uses", ["snapshot"], sqlite_where=half, postgresql_where=half
    )
