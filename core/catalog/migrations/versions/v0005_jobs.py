"""Jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table of jobs with its indexes."""
    op.create_table(
        "jobs",
        sa.Column("number", _BIG, primary_key=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in ("created", "started", "ended")),
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("request_id", "tenant", "fingerprint")),
        *(sa.Column(name, sa.String(255), nullable=False) for name in ("host", "pool", "text")),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("priority", "attempts", "epoch")),
        sa.Column("idempotency_key", sa.String(255), nullable=True),
        sa.Column("state", sa.String(80), nullable=False),
        *(sa.Column(name, _BIG, nullable=False) for name in ("done", "total")),
        *(sa.Column(name, sa.JSON(none_as_null=True), nullable=True) for name in ("result", "error")),
        sa.Column("owner", sa.String(64), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in ("lease_until", "not_before")),
    )
    lanes = ["state", "kind", "tenant", "host", "pool", "priority", "number"]
    op.create_index("jobs_lanes", "jobs", lanes)
    op.create_index("jobs_leases", "jobs", ["state", "lease_until"])
    op.create_index("jobs_by_state", "jobs", ["state", "number"])
    op.create_index("jobs_ended", "jobs", ["ended"])
    op.create_index("jobs_idempotency", "jobs", ["tenant", "idempotency_key"], unique=True)
