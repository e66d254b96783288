"""A small NBD server: fixed newstyle handshake, structured replies, block status, TLS, kicks.

It serves whatever implements :class:`Backend`, one thread per connection::

    client ── options ──▶ Handshake ── Exports.open(name) ──▶ Export(backend, read_only, ...)
           ── requests ─▶ Transmission ── read/write/zero/flush/extents ──▶ Backend

It imports nothing of the rest of Bollard. So the simulated array may serve its volumes with it and still be a
stranger to the NBD client of core.dataplane, which is tested against nbdkit and qemu-nbd besides.

Protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
"""

from .export import Backend, Export, Exports, Extent, Session
from .protocol import MAX_PAYLOAD, MIN_BLOCK
from .server import NbdServer

__all__ = ["MAX_PAYLOAD", "MIN_BLOCK", "Backend", "Export", "Exports", "Extent", "NbdServer", "Session"]
