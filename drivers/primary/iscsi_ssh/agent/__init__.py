"""What runs on the array: a process that answers requests, with the standard library alone.

    driver ── SSH: exec python3 .../agent ──> main.py     a line of JSON there and back
                                                │
                     ┌──────────────┬───────────┼────────────┬─────────────┐
                 volumes.py    snapshots.py  groups.py   exports.py    extents.py
                     └──────────────┴─────┬─────┴────────────┘             FIEMAP
                                       pool.py  files.py                 tgt.py
                                       paths, JSON, reflink              tgtd's control socket

`install` copies this package to the array; a driver uses the copy that has the same contents as its own.
"""
