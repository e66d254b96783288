"""Writing a ZIP front to back: every header is final when it is written, so the file is hashed as it grows.

    local header, name | data | local header, name | data | ... | directory | [ZIP64 end] | end

`zipfile` writes a header, the data, and then the header again with the CRC; and it knows no zstd before
Python 3.14. Structures: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16.
"""

from __future__ import annotations

import struct

from ..dataplane.checksum import crc32
from .packing import ZSTD
from .pieces import Joined, Pieces

# Always the same: Unix, a file of mode 0644, of 1980-01-01 00:00, the first moment that ZIP has.
_UNIX, _MODE, _TIME, _DATE = 3, 0o100644 << 16, 0, 0x21
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s2B5H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_MANY = 0xFFFF


class ZipWriter:
    """One ZIP of less than 4 GiB; names are ASCII."""

    def __init__(self) -> None:
        self._pieces = Pieces()
        self._directory: list[bytes] = []

    def add(self, name: str, data: bytes | memoryview, packed: bytes | memoryview, method: int) -> None:
        """Append a member: `data` is what it holds, `packed` how it is stored."""
        needed = 63 if method == ZSTD else 20
        common = (needed, 0, method, _TIME, _DATE, crc32(data), len(packed), len(data), len(name), 0)
        start, raw = self._pieces.size, name.encode("ascii")
        self._pieces.write(_LOCAL.pack(b"PK\3\4", *common) + raw)
        self._pieces.write(packed)
        entry = _CENTRAL.pack(b"PK\1\2", needed, _UNIX, *common, 0, 0, 0, _MODE, start)
        self._directory.append(entry + raw)

    def finish(self) -> Joined:
        """Append the directory and return all of it."""
        start, count = self._pieces.size, len(self._directory)
        self._pieces.write(b"".join(self._directory))
        size, end = self._pieces.size - start, self._pieces.size
        if count >= _MANY:
            self._pieces.write(_END64.pack(b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start))
            self._pieces.write(_LOCATOR64.pack(b"PK\6\7", 0, end, 1))
        few = min(count, _MANY)
        self._pieces.write(_END.pack(b"PK\5\6", 0, 0, few, few, size, start, 0))
        return self._pieces.finish()
