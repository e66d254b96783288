"""Hosts of the cluster and the storage objects that they know by introduction.

introduce   address --check identity, size, signature--> known to the host, under a place of its own
forget      the host's place goes, the data stays

The signature of an object (VMware's VMFS, XenServer's SR and VDI) stands in a header that a copy has, too.
Here the first sector stands for it. A new signature is kept beside the object: the LUN holds nothing but the
guest's bytes, and they stay as they are.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .defects import HypervisorDefects
from .errors import Refused, conflict, failed, not_found
from .media import Address, FileAddress, check, parse_address, store_address
from .personality import Personality
from .records import Body, Records

KINDS = ("volume", "snapshot", "template")

_SECTOR = 512

STATES = ("up", "down", "crashed")


class Hosts:
    """Hosts and introduced objects.

    Args:
        records: the durable state.
        rules: of the hypervisor family.
        defects: what goes wrong.
        decoys: directory for the foreign objects that a broken introduce shows.
    """

    def __init__(
        self, records: Records, rules: Personality, defects: HypervisorDefects, decoys: Path
    ) -> None:
        self._records = records
        self._rules = rules
        self._defects = defects
        self._decoys = decoys

    # hosts

    def put(self, host: str, initiator: str) -> Body:
        """Makes a host; a repeat returns it."""
        with self._records.together():
            old = self._records.get("host", host)
            if old is None:
                self._records.put({"id": host, "initiator": initiator, "state": "up"}, "host", host)
            elif old["initiator"] != initiator:
                raise conflict(f"host {host} has another initiator")
            return self.get(host)

    def get(self, host: str) -> Body:
        """One host."""
        found = self._records.get("host", host)
        if found is None:
            raise not_found("host", host)
        return found

    def all(self) -> list[Body]:
        """All hosts."""
        return self._records.all("host")

    def set_state(self, host: str, state: str) -> Body:
        """Up, down or crashed. A host that went away forgets its objects, if its family does."""
        if state not in STATES:
            raise Refused(400, "bad_request", f"a host is {', '.join(STATES)}")
        with self._records.together():
            self._records.put({**self.get(host), "state": state}, "host", host)
            if state != "up" and not self._rules.remembers_objects:
                for known in self.objects(host):
                    self._drop(host, known["kind"], known["id"])
        return self.get(host)

    def require_up(self, host: str) -> None:
        """503 unless the host is up."""
        if self.get(host)["state"] != "up":
            raise Refused(503, "host_unavailable", f"host {host} is not up")

    # objects

    def introduce(self, host: str, kind: str, object_id: str, body: Body) -> Body:
        """Makes the host know an object after checking that the right one is there; a repeat is the same."""
        self.require_up(host)
        if kind not in KINDS:
            raise Refused(400, "bad_request", f"a kind is {', '.join(KINDS)}")
        address = parse_address(body.get("address"))
        identity, size = body.get("identity"), body.get("size")
        if not isinstance(identity, str) or type(size) is not int:
            raise Refused(400, "bad_request", "identity (text) and size (bytes) are required")
        if type(body.get("resignature", False)) is not bool:
            raise Refused(400, "bad_request", "resignature is true or false")
        old = self._records.get("object", host, kind, object_id)
        if old is not None and not self._defects.introduce_again_replaces:
            if (old["wanted"], old["wanted_size"]) != (identity, size):
                raise conflict(f"{kind} {object_id} is known to {host} as something else")
            if old["wanted_address"] == store_address(address):
                return _shown(self._moved(old) if self._defects.introduce_again_moves else old)
        appeared, found, found_size = self._appears(address, object_id, identity, size)
        signature = self._signature(appeared)
        is_copy = self._is_copy(host, kind, object_id, signature)
        if is_copy and not body.get("resignature"):
            message = f"{kind} {object_id} has the signature of another object of host {host}"
            raise Refused(409, "duplicate_signature", message)
        label = uuid.uuid4().hex if is_copy else ""
        record: Body = {
            "id": object_id,
            "kind": kind,
            "host": host,
            "address": store_address(appeared),
            "wanted": identity,
            "wanted_address": store_address(address),
            "wanted_size": size,
            "identity": found,
            "size": found_size,
            "signature": label or signature,
            "place": self._rules.place(host, object_id, found, label),
        }
        self._save(record)
        return _shown(record)

    def _signature(self, address: Address) -> str:
        """What the family knows the object by; "" where it has none, or nothing was written yet."""
        if not self._rules.has_signatures or not address.guest_may_write:
            return ""
        disk = address.open()
        try:
            sector = disk.read(0, _SECTOR)
        finally:
            disk.close()
        return hashlib.sha256(sector).hexdigest()[:32] if any(sector) else ""

    def _is_copy(self, host: str, kind: str, object_id: str, signature: str) -> bool:
        others = (o for o in self._records.all("object", host) if (o["kind"], o["id"]) != (kind, object_id))
        return bool(signature) and any(other.get("signature") == signature for other in others)

    def _save(self, record: Body) -> None:
        key = record["host"], record["kind"], record["id"]
        device = {"host": key[0], "kind": key[1], "id": key[2], "path": record["place"]["path"]}
        with self._records.together():
            self._records.put(record, "object", *key)
            self._records.put(device, "device", *key)

    def _moved(self, record: Body) -> Body:
        """The object at a second place."""
        moved = {**record, "place": {**record["place"], "path": f"{record['place']['path']}-1"}}
        self._save(moved)
        return moved

    def _appears(
        self, address: Address, object_id: str, identity: str, size: int
    ) -> tuple[Address, str, int]:
        """(address, identity, size) of what the host sees."""
        if self._defects.introduce_wrong_object:
            return self._decoy(object_id, size)
        if self._defects.introduce_wrong_size:
            return address, identity, size // 2
        if self._defects.introduce_unverified:
            return address, identity, size
        return address, *check(address, identity, size)

    def _decoy(self, object_id: str, size: int) -> tuple[Address, str, int]:
        self._decoys.mkdir(exist_ok=True)
        path = self._decoys / f"{object_id}.raw"
        with path.open("wb") as file:
            file.write(b"this belongs to somebody else" * 100)
            file.truncate(size)
        return FileAddress(path=str(path)), os.path.realpath(path), size

    def object(self, host: str, kind: str, object_id: str) -> Body:
        """An introduced object as the host sees it."""
        return _shown(self._known(host, kind, object_id))

    def address_of(self, host: str, kind: str, object_id: str) -> Address:
        """Where an introduced object's bytes are."""
        return parse_address(self._known(host, kind, object_id)["address"])

    def _known(self, host: str, kind: str, object_id: str) -> Body:
        found = self._records.get("object", host, kind, object_id)
        if found is None:
            raise not_found(kind, f"{object_id} on host {host}")
        return found

    def objects(self, host: str) -> list[Body]:
        """All objects that the host knows."""
        self.get(host)
        return [_shown(known) for known in self._records.all("object", host)]

    def devices(self, host: str) -> list[Body]:
        """What is left of objects in the host's operating system; empty after a good forget."""
        self.get(host)
        return self._records.all("device", host)

    def forget(self, host: str, kind: str, object_id: str, in_use: Callable[[str, str, str], bool]) -> None:
        """Takes the object out of the host; fine when it is not there, 409 while a VM has it."""
        self.require_up(host)
        with self._records.together():
            known = self._records.get("object", host, kind, object_id)
            if known is None and self._defects.forget_missing_fails:
                raise failed(f"{kind} {object_id} is not known to {host}")
            if known is not None and self._in_use(in_use, host, kind, object_id):
                raise Refused(409, "in_use", f"a VM on {host} uses {kind} {object_id}")
            self._drop(host, kind, object_id)
        if known is not None and self._defects.forget_deletes_data:
            parse_address(known["address"]).delete()

    def _in_use(self, look: Callable[[str, str, str], bool], *which: str) -> bool:
        return not self._defects.forget_in_use_allowed and look(*which)

    def _drop(self, host: str, kind: str, object_id: str) -> None:
        if not self._defects.forget_keeps_object:
            self._records.delete("object", host, kind, object_id)
        if not self._defects.forget_leaves_device:
            self._records.delete("device", host, kind, object_id)


def _shown(record: Body) -> dict[str, Any]:
    """A record without its secrets and without what the caller had asked for."""
    public = parse_address(record["address"]).public()
    return {name: value for name, value in record.items() if not name.startswith("wanted")} | {
        "address": public
    }
