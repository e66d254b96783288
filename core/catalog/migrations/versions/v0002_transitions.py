"""The history of all objects; sizes beyond 2 GiB on PostgreSQL, whose INTEGER ends there."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the table, widen the columns."""
    op.create_table(
        "transitions",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("object", sa.String(64), nullable=False),
        sa.Column("before", sa.String(32), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("after", sa.String(32), nullable=False),
        sa.Column("time", sa.String(40), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
    )
    op.create_index("ix_transitions_time", "transitions", ["time"])
    op.create_index("transitions_object", "transitions", ["kind", "object", "number"])
    if op.get_context().dialect.name == "postgresql":
        for table, column in (
            ("volume_snapshots", "size"),
            ("snapshot_refs", "size"),
            ("snapshot_refs", "physical_size"),
        ):
            op.alter_column(table, column, type_=sa.BigInteger())
