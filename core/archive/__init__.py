"""The archive: snapshots on a secondary store, restorable with `unzip`, `sha256sum` and `dd`.

    BlockSource ── plan ── window ── part ──┐                    ┌── restore ── BlockSink
                                            ├── ImageStoreDriver ┤
                        manifest, intent ───┘                    ├── verify, collect
                                                                 └── blocks ── BlockSource

Start with `archive.py`; docs/archive-format.md has the format and the rules of ordering.
"""

from .archive import Archive, Entry
from .blocks import ArchiveSource, ReadOptions
from .checkup import CheckUp, Cursor
from .collect import Collected
from .copy import CopiedSnapshot
from .create import CreateOptions
from .intent import Timing
from .manifest import Manifest, PartRef, Window
from .packing import Compression, check_compression
from .parallel import Workers
from .retain import Retained
from .retention import Policy, Verdict
from .stats import Objects, SnapshotStats, VolumeStats
from .verify import Level, Report

__all__ = [
    "Archive",
    "ArchiveSource",
    "CheckUp",
    "Collected",
    "Compression",
    "CopiedSnapshot",
    "CreateOptions",
    "Cursor",
    "Entry",
    "Level",
    "Manifest",
    "Objects",
    "PartRef",
    "Policy",
    "ReadOptions",
    "Report",
    "Retained",
    "SnapshotStats",
    "Timing",
    "Verdict",
    "VolumeStats",
    "Window",
    "Workers",
    "check_compression",
]
