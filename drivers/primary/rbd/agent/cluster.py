"""The connection to the cluster, and what monitors and OSDs are asked."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import rados  # of the system's Python, which alone runs this
import rbd

from .errors import Refused

# Seconds for one request to a monitor or OSD. A cluster that elects a monitor or loses an OSD is back
# in less. The deadline of the call ends the process anyway.
_STEP_SECONDS = 20
# Clone format 2: a snapshot with children needs no protection and can be deleted at once.
_SETTINGS = {
    "rbd_default_clone_format": "2",
    "rbd_skip_partial_discard": "false",
    "rados_osd_op_timeout": str(_STEP_SECONDS),
    "rados_mon_op_timeout": str(_STEP_SECONDS),
    "log_file": "/dev/null",
    "log_to_stderr": "false",
    "err_to_stderr": "false",
}
# layering, exclusive-lock, object-map, fast-diff, deep-flatten: what snapshots under a writer and exact
# differences need.
FEATURES = 1 | 4 | 8 | 16 | 32
_FULL_FORCE = 128  # LIBRADOS_OPERATION_FULL_FORCE: a full pool takes a record of what is deleted


class Cluster:
    """A connection as one user to one pool."""

    def __init__(self, settings: Mapping[str, Any], seconds: float) -> None:
        self.owner: str = settings["owner"]
        self.pool: str = settings["pool"]
        self.rbd = rbd.RBD()
        self._rados = _connected(settings, seconds)
        try:
            self.io = self._rados.open_ioctx(self.pool)
        except rados.ObjectNotFound as error:
            raise Refused("not_found", f"the cluster has no pool {self.pool!r}") from error
        # On a full pool what adds bytes fails at once instead of waiting, and what removes some is done.
        self.io.set_osdmap_full_try()

    @property
    def address(self) -> str:
        """Our own address, as watchers and the blocklist show it."""
        return str(self._rados.get_addrs())

    def identity(self) -> str:
        """Return what names this pool for ever: the cluster's id and the pool's number."""
        return f"{self._rados.get_fsid()}/{self.io.get_pool_id()}"

    def mon(self, prefix: str, *, target: str = "", **arguments: Any) -> Any:
        """Run a monitor's command; return what it answers.

        Raises:
            OSError: it refused.
        """
        command = json.dumps({"prefix": prefix, "format": "json", **arguments})
        place = {"target": target} if target else {}
        status, out, said = self._rados.mon_command(command, b"", _STEP_SECONDS, **place)
        if status:
            raise OSError(-status, said)
        # `osd blocklist ls` prints a second document behind the first.
        return json.JSONDecoder().raw_decode(out.decode())[0] if out.strip() else None

    def sessions(self) -> dict[str, str]:
        """Return who is connected: the cephx entity of each client's address.

        Every client keeps a session with one monitor of the quorum. It ends with the client's connection.
        """
        found = {}
        for monitor in self.mon("quorum_status")["quorum_names"]:
            for session in self.mon("sessions", target=monitor):
                for address in session["addrs"]["addrvec"]:
                    found[f"{address['addr']}/{address['nonce']}"] = session["entity_name"]
        return found

    def operate(self, operation: Any, name: str) -> None:
        """Run a write of small records, also where the pool is full."""
        self.io.operate_write_op(operation, name, 0, _FULL_FORCE)

    def refresh(self) -> None:
        """Wait until we have the newest map of the OSDs; each request carries its epoch from now on."""
        self._rados.wait_for_latest_osdmap()

    def require_space(self) -> None:
        """Refuse what needs space on a full pool, where a write would wait until there is some.

        Raises:
            Refused: the cluster or the pool is full.
        """
        shown = self.mon("osd dump")
        flags = shown["flags"].split(",") + self._shown_pool(shown)["flags_names"].split(",")
        if "full" in flags or "full_quota" in flags:
            raise Refused("out_of_capacity", f"the pool {self.pool} is full")

    def placement_groups(self) -> int:
        """Return how many placement groups the pool has."""
        return int(self._shown_pool(self.mon("osd dump"))["pg_num"])

    def capacity(self) -> tuple[int, int]:
        """Return total and used bytes of the pool, without the copies that Ceph keeps.

        The manager knows them; without one each OSD is asked for its own.
        """
        for shown in self.mon("df")["pools"]:
            stats = shown["stats"]
            if shown["name"] == self.pool and stats["max_avail"]:
                return stats["stored"] + stats["max_avail"], stats["stored"]
        shown = self.mon("osd dump")
        copies = self._shown_pool(shown)["size"]
        figures = [self._osd(osd["osd"]) for osd in shown["osds"] if osd["up"] and osd["in"]]
        return sum(total for total, _ in figures) // copies, sum(used for _, used in figures) // copies

    def _osd(self, number: int) -> tuple[int, int]:
        command = json.dumps({"prefix": "perf dump", "format": "json"})
        status, out, said = self._rados.osd_command(number, command, b"", _STEP_SECONDS)
        if status:
            raise OSError(-status, said)
        counters = json.loads(out)["osd"]
        return counters["stat_bytes"], counters["stat_bytes_used"]

    def _shown_pool(self, shown: Any) -> Any:
        return next(pool for pool in shown["pools"] if pool["pool_name"] == self.pool)


def _connected(settings: Mapping[str, Any], seconds: float) -> Any:
    # It connects, or says why not, a little before the call has to end.
    patience = min(_STEP_SECONDS, max(1, int(seconds * 0.8)))
    conf = {**_SETTINGS, "mon_host": settings["monitors"], "client_mount_timeout": str(patience)}
    begun = time.monotonic()
    try:
        made = rados.Rados(name=f"client.{settings['user']}", conf={**conf, "key": settings["key"]})
        made.connect()
    except (rados.PermissionDeniedError, rados.PermissionError, rados.InvalidArgumentError) as error:
        raise Refused("unauthenticated", f"Ceph refuses the user {settings['user']!r} or its key") from error
    except rados.Error as error:
        waited = time.monotonic() - begun
        message = f"no monitor of {settings['monitors']} answered in {waited:.1f} s"
        raise Refused("unavailable", message) from error
    return made
