"""The data path's door: export names become admitted, throttled, committed access to a volume."""

from __future__ import annotations

from collections.abc import Iterable

from ...core.nbd_server import Export, NbdServer, Session
from .access import Access
from .core import Core, Json
from .defects import Defect
from .livevolume import LiveVolume
from .slots import CHUNK


class _Attachment:
    """One connection's view of a volume (an nbd.Backend): commits on flush and at the end."""

    def __init__(self, core: Core, volume: LiveVolume) -> None:
        self._core = core
        self._volume = volume
        self.extents = volume.extents
        self.read = volume.read

    def size(self) -> int:
        return self._volume.size

    def write(self, offset: int, data: memoryview) -> None:
        misdirected = Defect.MISDIRECTED_WRITE in self._core.defects and offset // CHUNK % 8 == 3
        if misdirected and offset + CHUNK + len(data) <= self._volume.size:
            offset += CHUNK
        self._volume.write(offset, data)

    def zero(self, offset: int, length: int) -> None:
        if Defect.ZERO_DOES_NOTHING not in self._core.defects:
            self._volume.zero(offset, length)

    def flush(self) -> None:
        if Defect.WRITES_LOST_AFTER_FLUSH not in self._core.defects:
            self._core.store.commit(self._volume)

    def close(self) -> None:
        if self._volume.deleted:
            return
        if Defect.WRITES_LOST_AFTER_FLUSH in self._core.defects:
            self._core.store.forget_uncommitted(self._volume)
        else:
            self._core.store.commit(self._volume)


class ArrayExports:
    """Finds exports for the NBD server, and its sessions for the REST API."""

    def __init__(self, core: Core, access: Access) -> None:
        self._core = core
        self._access = access
        self.server: NbdServer | None = None

    def open(self, name: str) -> Export | None:
        """The volume behind an export name, when its bearer may have it."""
        admission = self._access.admit(name)
        if admission is None:
            return None
        volume = self._core.store.volumes.get(admission.volume_id)
        if volume is None:  # deleted meanwhile
            return None

        def throttle(length: int) -> float:
            if Defect.QOS_NOT_ENFORCED in self._core.defects:
                return 0.0
            return volume.limiter.wait(length)

        backend = _Attachment(self._core, volume)
        return Export(backend=backend, read_only=admission.read_only, throttle=throttle)

    def kick(self, serial: str, iqn: str | None = None) -> None:
        """Close the sessions on a serial, of one initiator or of all; outside of any transaction."""
        prefix = f"{serial}:" if iqn is None else f"{serial}:{iqn}:"
        if self.server is not None:
            self.server.kick(lambda name: name.startswith(prefix))

    def kick_all(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Close the sessions of several (serial, iqn) pairs."""
        for serial, iqn in pairs:
            self.kick(serial, iqn)

    def sessions(self, volume_id: str | None = None) -> Json:
        """The NBD sessions of the array, or of a volume."""
        if volume_id is not None:
            self._core.find("volumes", volume_id)
        listed = self.server.sessions() if self.server is not None else []
        shown = [self._show(session) for session in listed]
        return {"items": [one for one in shown if volume_id in (None, one["volume"])], "next": None}

    def _show(self, session: Session) -> Json:
        serial, _, rest = session.export_name.partition(":")
        volume = self._core.db.one("SELECT id FROM volumes WHERE serial = ? ORDER BY seq DESC", serial)
        return {
            "id": session.id,
            "volume": volume["id"] if volume is not None else None,
            "iqn": rest.rpartition(":")[0],
            "peer": session.peer,
            "read_only": session.read_only,
            "connected_at": session.since.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        }
