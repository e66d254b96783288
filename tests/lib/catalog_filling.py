"""A catalog as large as wanted, by a few statements; for plans and for bench/bench_catalog.py.

each VM 5 volumes, each volume 10 snapshots in one chain, each snapshot one ref and one move;
`UNFINISHED` volumes, snapshots and refs are in a transient state, however many there are
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

VOLUMES_PER_VM = 5
SNAPSHOTS_PER_VOLUME = 10
UNFINISHED = 20

_VOLUMES = """
INSERT INTO volumes (id, pool, created, name, state, size, format, path, vm, device, error)
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :count)
SELECT 'vol-' || i, 'pool-' || (i % 20), '2026-11-22T12:00:00.000+00:00', 'a volume',
       CASE WHEN i % :step = 0 THEN 'Attaching' ELSE 'Ready' END, 8589934592, 'qcow2', '',
       'vm-' || (i / 5), 'vd' || (i % 5), ''
FROM n
"""
_SNAPSHOTS = """
INSERT INTO volume_snapshots (id, volume, created, state, size, error, frozen_seconds)
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :count)
SELECT 'snap-' || i, 'vol-' || (i / 10), '2026-11-22T12:00:00.000+00:00',
       CASE WHEN i % :step = 0 THEN 'BackingUp' ELSE 'BackedUp' END, 8589934592, '', 0.0
FROM n
"""
_REFS = """
INSERT INTO snapshot_refs (id, snapshot, volume, store, role, path, state, parent, checkpoint,
                           checkpoint_path, tracking, backing_up, end_of_chain, size, physical_size)
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :count)
SELECT i + 1, 'snap-' || i, 'vol-' || (i / 10), 'store-' || (i % 4), 'Image', 'snapshots/snap-' || i,
       CASE WHEN i % :step = 0 THEN 'Creating' ELSE 'Ready' END, CASE WHEN i % 10 = 0 THEN NULL ELSE i END,
       'snap-' || i, '', false, false, false, 8589934592, 1048576
FROM n
"""
_MOVES = """
INSERT INTO transitions (kind, object, before, event, after, time, reason, request)
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :count)
SELECT 'snapshot', 'snap-' || i, 'Creating', 'RestsOnSecondary', 'BackedUp',
       '2026-0' || (1 + i / :step % 9) || '-22T12:00:00.000+00:00', '', ''
FROM n
"""


def fill(session: Session, vms: int) -> None:
    """Add so many VMs with all that they have, and let the database know how much that is."""
    volumes = vms * VOLUMES_PER_VM
    snapshots = volumes * SNAPSHOTS_PER_VOLUME
    tables = ((_VOLUMES, volumes), (_SNAPSHOTS, snapshots), (_REFS, snapshots), (_MOVES, snapshots))
    for statement, count in tables:
        session.execute(text(statement), {"count": count, "step": count // UNFINISHED})
    if session.connection().dialect.name == "postgresql":
        session.execute(text("SELECT setval('snapshot_refs_id_seq', (SELECT max(id) FROM snapshot_refs))"))
    session.execute(text("ANALYZE"))
