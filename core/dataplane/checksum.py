"""CRC-32 as ZIP has it, by the fastest library that is there.

zlib runs at 2 GiB/s a core, half of what SHA-256 costs with SHA instructions; Intel's ISA-L at more than
10 (both leave the GIL while they count).
"""

from __future__ import annotations

try:
    from isal.isal_zlib import crc32 as crc32

    FAST = True
except ImportError:  # the extra `fast` is not installed
    from zlib import crc32 as crc32

    FAST = False
