"""The outbox of events, and what is remembered of webhooks."""

import sqlalchemy as sa
from alembic import op

revision = "0005b"
down_revision = "0005"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NEW = sa.text("position IS NULL")


def upgrade() -> None:
    """Add the tables with their indexes."""
    op.create_table(
        "events",
        sa.Column("number", _BIG, primary_key=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("type", sa.String(120), nullable=False),
        sa.Column("subject", sa.String(160), nullable=False),
        sa.Column("time", sa.String(40), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("position", _BIG, nullable=True),
    )
    op.create_index("ix_events_time", "events", ["time"])
    op.create_index("events_new", "events", ["number"], sqlite_where=_NEW, postgresql_where=_NEW)
    op.create_index("events_position", "events", ["position"], unique=True)
    op.create_table(
        "webhooks",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("position", _BIG, nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=False),
    )
    op.create_table(
        "webhook_pending",
        sa.Column("webhook", sa.String(64), primary_key=True),
        sa.Column("position", _BIG, primary_key=True, autoincrement=False),
        sa.Column("subject", sa.String(160), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("error", sa.String(255), nullable=False),
        sa.Column("dead", sa.Boolean(), nullable=False),
    )
    keys = ["webhook", "dead", "subject", "position"]
    op.create_index("webhook_pending_subject", "webhook_pending", keys)
