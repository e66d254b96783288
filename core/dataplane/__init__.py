"""The data plane: open any location as a source or sink of blocks, copy and compare.

    Location ── open_source ──> BlockSource ──┐
                                              ├─ copy, compare
    Location ── open_sink ────> BlockSink  <──┘

`probe` and `refuse_hostile` judge an image before any tool opens it. The helpers on extents and zeros
are for drivers and the archive. `QemuNbd` and the NBD classes are the parts that the rest is made of.
"""

from .api import BlockSink, BlockSource
from .compare import compare
from .copy import CopyStats, copy
from .endpoint import Endpoint, SocketEndpoint
from .extents import Window, align, clip, cover, intersect, merge, overlay, split
from .file import FileSink, FileSource
from .held import open_held_source
from .image_info import ImageInfo, probe, refuse_hostile
from .nbd import DEFAULT_TIMEOUT, NbdClient
from .nbd_bitmap import dirty_extents
from .nbd_source import NbdSink, NbdSource
from .open import open_sink, open_source
from .qcow2 import open_qcow2_sink, open_qcow2_source
from .qcow2_chain import open_chain_sink, open_chain_source
from .qemu_nbd import QemuNbd
from .zero import GRANULE, ZEROS, fill_zeros, is_zero, runs

__all__ = [
    "DEFAULT_TIMEOUT",
    "GRANULE",
    "ZEROS",
    "BlockSink",
    "BlockSource",
    "CopyStats",
    "Endpoint",
    "FileSink",
    "FileSource",
    "ImageInfo",
    "NbdClient",
    "NbdSink",
    "NbdSource",
    "QemuNbd",
    "SocketEndpoint",
    "Window",
    "align",
    "clip",
    "compare",
    "copy",
    "cover",
    "dirty_extents",
    "fill_zeros",
    "intersect",
    "is_zero",
    "merge",
    "open_chain_sink",
    "open_chain_source",
    "open_held_source",
    "open_qcow2_sink",
    "open_qcow2_source",
    "open_sink",
    "open_source",
    "overlay",
    "probe",
    "refuse_hostile",
    "runs",
    "split",
]
