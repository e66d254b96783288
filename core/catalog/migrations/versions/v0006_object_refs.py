"""Object references: a pool and a store of one name may both have an object."""

from alembic import op
from sqlalchemy import text

revision = "0006"
down_revision = "0005b"

_KEY = "object_refs_one_per_store"
_NARROW = ("kind", "object", "store")
_SHARED = f"SELECT object, store FROM object_refs GROUP BY {', '.join(_NARROW)} HAVING count(*) > 1 LIMIT 1"  # noqa: S608 - constants


def upgrade() -> None:
    """Take the role into the key; all rows fit, as they fit the narrower one."""
    _replace("kind", "object", "role", "store")


def downgrade() -> None:
    """Take it out again.

    Raises:
        ValueError: an object is on a pool and a store of one name; neither is to be lost, nothing is changed.
    """
    shared = op.get_bind().execute(text(_SHARED)).first()
    if shared is not None:
        raise ValueError(f"{shared.object} is on a pool and on a store that are both called {shared.store!r}")
    _replace(*_NARROW)


def _replace(*columns: str) -> None:
    # SQLite cannot change a constraint: Alembic copies the table, in the same transaction.
    with op.batch_alter_table("object_refs") as batch:
        batch.drop_constraint(_KEY, type_="unique")
        batch.create_unique_constraint(_KEY, list(columns))
