"""Volume snapshots and VM snapshots: what Bollard made before it had revisions.

What is there stays: such a database may have the tables of one of the two only.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what is not there."""
    _volume_snapshots()
    _snapshot_refs()
    _vm_snapshots()
    _vm_snapshot_members()


def _volume_snapshots() -> None:
    op.create_table(
        "volume_snapshots",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("volume", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("state", sa.String(80), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("frozen_seconds", sa.Double(), nullable=False),
        if_not_exists=True,
    )
    _index("volume_snapshots", "volume")
    creating = sa.text("state = 'Creating'")
    op.create_index(
        "volume_snapshots_one_creating",
        "volume_snapshots",
        ["volume"],
        unique=True,
        sqlite_where=creating,
        postgresql_where=creating,
        if_not_exists=True,
    )


def _snapshot_refs() -> None:
    op.create_table(
        "snapshot_refs",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("snapshot", sa.String(), sa.ForeignKey("volume_snapshots.id"), nullable=False),
        sa.Column("volume", sa.String(), nullable=False),
        sa.Column("store", sa.String(), nullable=False),
        sa.Column("role", sa.String(80), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("state", sa.String(80), nullable=False),
        sa.Column("parent", sa.Integer(), sa.ForeignKey("snapshot_refs.id")),
        sa.Column("checkpoint", sa.String(), nullable=False),
        sa.Column("checkpoint_path", sa.String(), nullable=False),
        sa.Column("tracking", sa.Boolean(), nullable=False),
        sa.Column("backing_up", sa.Boolean(), nullable=False),
        sa.Column("end_of_chain", sa.Boolean(), nullable=False),
        sa.Column("end_reason", sa.String(80)),
        sa.Column("full_reason", sa.String(80)),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("physical_size", sa.Integer(), nullable=False),
        if_not_exists=True,
    )
    for column in ("parent", "snapshot", "volume"):
        _index("snapshot_refs", column)


def _vm_snapshots() -> None:
    op.create_table(
        "vm_snapshot",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("vm", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.String(255), nullable=False),
        sa.Column("created", sa.String(40), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("memory", sa.Boolean(), nullable=False),
        sa.Column("quiesce", sa.Boolean(), nullable=False),
        sa.Column("quiesced", sa.Boolean(), nullable=False),
        sa.Column("frozen_seconds", sa.Double(), nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("parent", sa.String(64)),
        sa.Column("strategy", sa.String(64), nullable=False),
        sa.Column("offering", sa.JSON(), nullable=False),
        sa.Column("taken", sa.Boolean(), nullable=False),
        sa.Column("metadata_text", sa.String(), nullable=False),
        sa.Column("work", sa.JSON(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        if_not_exists=True,
    )
    _index("vm_snapshot", "vm")


def _vm_snapshot_members() -> None:
    op.create_table(
        "vm_snapshot_member",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("snapshot", sa.String(64), sa.ForeignKey("vm_snapshot.id"), nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("volume", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("pool", sa.String(255), nullable=False),
        sa.Column("image", sa.String(), nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("volume_snapshot", sa.String(64), nullable=False),
        if_not_exists=True,
    )
    _index("vm_snapshot_member", "snapshot")


def _index(table: str, column: str) -> None:
    op.create_index(f"ix_{table}_{column}", table, [column], if_not_exists=True)
