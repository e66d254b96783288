"""Who is at work in a fleet: leases, intents, and what is being done to which object."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "intent_owners",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
    )
    op.create_table(
        "intents",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(32)),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("began", sa.Float(), nullable=False),
        sa.Column("began_by", sa.String(255), nullable=False),
    )
    op.create_index("intents_owner", "intents", ["owner", "began", "id"])
    op.create_index("intents_subject", "intents", ["subject"])
    op.create_table(
        "intent_locks",
        sa.Column("subject", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("holder", sa.String(32), nullable=False),
    )
    op.create_index("ix_intent_locks_owner", "intent_locks", ["owner"])
    op.create_table(
        "works",
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("object", sa.String(64), primary_key=True),
        sa.Column("act", sa.String(32), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("owner", sa.String(32)),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("vm", sa.String(64), nullable=False),
        sa.Column("host", sa.String(64), nullable=False),
        sa.Column("began", sa.Float(), nullable=False),
        sa.Column("error", sa.String(1000), nullable=False),
    )
    op.create_index("works_owner", "works", ["owner", "began", "kind", "object"])
    for column in ("vm", "host"):
        op.create_index(f"ix_works_{column}", "works", [column])
