"""Each check of secondary storage fails a driver that breaks its sentence: a directory, spoilt."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bollard.conformance.checks import (
    compat,
    store_archive,
    store_instances,
    store_keys,
    store_lists,
    store_objects,
    store_security,
    store_uploads,
)
from bollard.conformance.lab import ContractBroken
from bollard.conformance.model import Level
from bollard.conformance.registry import ATTRIBUTE
from bollard.core.plugins import registered
from bollard.core.spi import (
    Body,
    Call,
    Conflict,
    Internal,
    InvalidArgument,
    NotFound,
    Page,
    StorageError,
    StoredObject,
)
from bollard.drivers.secondary.nfs import NfsDriver

MODULES = (
    compat,
    store_archive,
    store_instances,
    store_keys,
    store_lists,
    store_objects,
    store_security,
    store_uploads,
)
CHECKS: dict[str, tuple[Any, Callable[[Any], None]]] = {
    found.id: (found, function)
    for module in MODULES
    for function in vars(module).values()
    if (found := getattr(function, ATTRIBUTE, None)) and found.kinds == ("image-store",)
}


class Broken(NfsDriver):
    """What the broken ones have in common: the plain methods under short names."""

    def raw_put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Put as it should be."""
        return NfsDriver.put(self, key, body, call, **more)

    def raw_get(self, key: str, call: Call) -> bytes:
        """Read all, as it should be."""
        return b"".join(NfsDriver.get(self, key, call))


class LosesEmpty(Broken):
    """`if size:` where `is None` was meant."""

    def list(self, prefix: str, call: Call, **more: Any) -> Page[StoredObject]:
        """Leave out objects of no bytes."""
        page = super().list(prefix, call, **more)
        return replace(page, items=[o for o in page.items if o.size])


class TellsBlocks(Broken):
    """Sizes as the file system counts them."""

    def head(self, key: str, call: Call) -> StoredObject:
        """Round up to 4 KiB."""
        found = super().head(key, call)
        return replace(found, size=-(-found.size // 4096) * 4096)


class DropsLastByte(Broken):
    """A loop over parts that forgets what is left."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Lose the byte behind a part of 5 MiB."""
        part, data = 5 * 2**20, body.open().read()
        if len(data) % part == 1 and len(data) > part:
            return self.raw_put(key, Body.of(data[:-1] + b"\0"), call, **more)
        return self.raw_put(key, body, call, **more)


class ReadsOnce(Broken):
    """One read is all of it."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Of a pipe it is not."""
        return self.raw_put(key, Body.of(body.open().read(body.size)), call, **more)


class KeepsTail(Broken):
    """An overwrite without truncation."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Leave what the old object had behind the new one."""
        try:
            old = self.raw_get(key, call)
        except StorageError:
            old = b""
        data = body.open().read()
        done = self.raw_put(key, Body.of(data + old[len(data) :]), call, **more)
        return replace(done, size=len(data))


class CutsRanges(Broken):
    """Ranges as HTTP understands them: what is too long is cut."""

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Give what there is."""
        data = self.raw_get(key, call)
        yield data[offset:][: len(data) if length is None else length]


class RaisesKernelWords(Broken):
    """The kernel's word for a key below an object."""

    def head(self, key: str, call: Call) -> StoredObject:
        """Take "not a directory" for a bug."""
        if key.endswith("/below"):
            raise Internal("Not a directory")
        return super().head(key, call)


class DeletesPrefix(Broken):
    """A delete by prefix."""

    def delete(self, key: str, call: Call) -> None:
        """Delete everything that begins so."""
        for found in super().list(key, call).items:
            super().delete(found.key, call)


class FoldsCase(Broken):
    """Keys that a system without case would keep."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Store in lower case."""
        return replace(self.raw_put(key.lower(), body, call, **more), key=key)


class Normalises(Broken):
    """Names as macOS keeps them."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Compose."""
        import unicodedata

        return replace(self.raw_put(unicodedata.normalize("NFC", key), body, call, **more), key=key)


class CutsKeys(Broken):
    """Names cut to what fits."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Cut each part to 90 bytes."""
        return replace(self.raw_put(self._cut(key), body, call, **more), key=key)

    def get(self, key: str, call: Call, **more: Any) -> Iterator[bytes]:
        """Cut here as well."""
        return super().get(self._cut(key), call, **more)

    def _cut(self, key: str) -> str:
        return "/".join(part[:90] for part in key.split("/"))


class SharesTemp(Broken):
    """One temporary file for all writers."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Write through it in small pieces, as a slow network would."""
        import time

        path = self.options.path / ".bollard-shared"
        reader = body.open()
        path.write_bytes(b"")
        while data := reader.read(16 * 1024):
            with path.open("ab") as file:
                file.write(data)
            time.sleep(0.001)  # the other writers' turn
        mixed = path.read_bytes()
        return replace(self.raw_put(key, Body.of(mixed), call, **more), size=body.size)


class OnePage(Broken):
    """The server's first page is all."""

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        """Never go on after 1,000 keys."""
        page = super().list(prefix, call, after=after, limit=limit)
        return page if limit < 1000 else Page(items=page.items)


class PrefixIsDirectory(Broken):
    """A prefix that is cut at its last slash."""

    def list(self, prefix: str, call: Call, **more: Any) -> Page[StoredObject]:
        """List the directory."""
        return super().list(prefix.rpartition("/")[0] + "/" if "/" in prefix else "", call, **more)


class CursorIsNumber(Broken):
    """Pages by number."""

    def list(
        self, prefix: str, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[StoredObject]:
        """Skip as many as were shown."""
        start = int(after or 0)
        found = super().list(prefix, call, limit=100_000).items
        more = len(found) > start + limit
        return Page(items=found[start : start + limit], after=str(start + limit) if more else None)


class Lags(Broken):
    """A list from a replica that is behind."""

    _newest = ""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Remember what is not listed yet."""
        self._newest = key
        return self.raw_put(key, body, call, **more)

    def list(self, prefix: str, call: Call, **more: Any) -> Page[StoredObject]:
        """Leave it out."""
        page = super().list(prefix, call, **more)
        return replace(page, items=[o for o in page.items if o.key != self._newest])


class WritesInPlace(Broken):
    """Bytes go straight under the final name."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Write and hope."""
        if more.get("if_absent"):
            return self.raw_put(key, body, call, **more)
        self.raw_put(key, Body.of(b""), call)
        path = self.options.path / key
        with path.open("wb") as file:
            try:
                reader = body.open()
                while data := reader.read(64 * 1024):
                    file.write(data)
                    file.flush()
            except OSError as error:
                raise Internal("the source died") from error
        return StoredObject(key=key, size=body.size)


class IgnoresCancel(Broken):
    """The call is looked at once."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:  # noqa: ARG002 - ignoring it is the defect
        """Go on to the end."""
        return self.raw_put(key, body, Call(), **more)


class CountsForever(Broken):
    """Leftovers are counted and kept."""

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:
        """Say one more."""
        return super().abort_uploads(prefix, call, older_than=older_than) + 1


class IgnoresAge(Broken):
    """Everything unfinished goes."""

    def abort_uploads(self, prefix: str, call: Call, *, older_than: float) -> int:  # noqa: ARG002 - ignoring it is the defect
        """Whatever its age."""
        return super().abort_uploads(prefix, call, older_than=0)


class CommitsHalf(Broken):
    """An upload whose temporary file is gone counts as done."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Put the second half then."""
        try:
            return self.raw_put(key, body, call, **more)
        except StorageError:
            data = body.open().read()
            return self.raw_put(key, Body.of(data[len(data) // 2 :]), call)


class LooksThenWrites(Broken):
    """A condition that is forgotten where bodies are large."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Honour it below 64 KiB."""
        return self.raw_put(key, body, call, if_absent=if_absent and body.size < 65536)


class RemembersObjects(Broken):
    """A cache in the process."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._cache: dict[str, bytes] = {}

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Keep what went out."""
        self._cache[key] = body.open().read()
        return self.raw_put(key, body, call, **more)

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Give what is kept."""
        if key in self._cache and not offset and length is None:
            return iter([self._cache[key]])
        return super().get(key, call, offset=offset, length=length)


class KeepsFiles(Broken):
    """A file that is opened for each read, and closed by whoever collects garbage, if ever."""

    kept: list[int] = []  # noqa: RUF012 - shared on purpose: that is the defect

    def get(self, key: str, call: Call, **more: Any) -> Iterator[bytes]:
        """Open one more."""
        self.kept.append(os.open("/dev/null", os.O_RDONLY))
        yield from super().get(key, call, **more)


class ReadsWhole(Broken):
    """The body is read whole."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Into memory."""
        return self.raw_put(key, Body.of(body.open().read()), call, **more)


class ForgetsDeletes(Broken):
    """A delete that says yes."""

    def delete(self, key: str, call: Call) -> None:
        """Do nothing."""


class FlipsBytes(Broken):
    """A bad memory module."""

    def get(self, key: str, call: Call, **more: Any) -> Iterator[bytes]:
        """One bit of each piece that is not small."""
        for data in super().get(key, call, **more):
            yield data if len(data) < 2000 else data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]


class RemembersReads(Broken):
    """A cache that nobody empties."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._cache: dict[Any, list[bytes]] = {}

    def get(self, key: str, call: Call, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Read once."""
        if key not in self._cache:
            self._cache[key] = list(super().get(key, call))
        whole = b"".join(self._cache[key])
        yield whole[offset:][: len(whole) if length is None else length]


class Preallocates(Broken):
    """A file of the full size, filled in place."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:  # noqa: ARG002 - ignoring it is the defect
        """Look at the call between reads, and leave what there is."""
        self.raw_put(key, Body.of(bytes(body.size)), Call())
        reader, at = body.open(), 0
        with (self.options.path / key).open("r+b") as file:
            while at < body.size:
                call.check()
                at += file.write(reader.read(4096))
        return StoredObject(key=key, size=body.size)


class DeletesTooMuch(Broken):
    """A delete of a manifest takes the directory, as `rm -r` of its parent would."""

    def delete(self, key: str, call: Call) -> None:
        """Take all that is beside and below."""
        for found in super().list(key.rpartition("/")[0] + "/", call).items:
            super().delete(found.key, call)


class OwnDialect(Broken):
    """Keys that are listed in another spelling."""

    def list(self, prefix: str, call: Call, **more: Any) -> Page[StoredObject]:
        """With upper-case suffixes."""
        page = super().list(prefix, call, **more)
        items = [replace(o, key=o.key.replace(".zip", ".ZIP")) for o in page.items]
        return replace(page, items=items)

    def get(self, key: str, call: Call, **more: Any) -> Iterator[bytes]:
        """That it reads itself."""
        return super().get(key.replace(".ZIP", ".zip"), call, **more)


class JoinsPaths(Broken):
    """Keys are joined to a path."""

    def head(self, key: str, call: Call) -> StoredObject:  # noqa: ARG002 - ignoring it is the defect
        """Whatever they hold."""
        path = Path(os.path.normpath(self.options.path / key.strip("\0\n")))
        if not path.is_file():
            raise NotFound("no")
        return StoredObject(key=key, size=path.stat().st_size)


class RunsKeys(Broken):
    """A shell command made of a key."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Ask the shell."""
        import subprocess

        if "touch" in key:
            name = key.rpartition("/")[2].replace("%2f", "/")
            subprocess.run(f"echo {name}", shell=True, check=False, capture_output=True)  # noqa: S602 - the defect
        return self.raw_put(key, body, call, **more)


class MakesPlace(Broken):
    """A directory that is not there is made."""

    def open(self, call: Call) -> None:
        """For convenience."""
        self.options.path.mkdir(parents=True, exist_ok=True)
        super().open(call)


class OpenForAll(Broken):
    """Files as the umask leaves them."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Readable for everybody."""
        done = self.raw_put(key, body, call, **more)
        (self.options.path / key).chmod(0o644)
        return done


class EndsOthers(Broken):
    """Instances share what the first close ends."""

    alive: dict[Path, bool] = {}  # noqa: RUF012 - shared on purpose: that is the defect

    def open(self, call: Call) -> None:
        """Begin, for all."""
        self.alive[self.options.path] = True
        super().open(call)

    def close(self) -> None:
        """End, for all."""
        self.alive[self.options.path] = False
        super().close()

    def get(self, key: str, call: Call, **more: Any) -> Iterator[bytes]:
        """Work while it lasts."""
        if not self.alive[self.options.path]:
            raise InvalidArgument("the session is closed")
        return super().get(key, call, **more)


class ConflictOnRepeat(Broken):
    """A put of what is there is a conflict."""

    def put(self, key: str, body: Body, call: Call, **more: Any) -> StoredObject:
        """Refuse it."""
        if self.raw_exists(key, call):
            raise Conflict("there already")
        return self.raw_put(key, body, call, **more)

    def raw_exists(self, key: str, call: Call) -> bool:
        """Tell whether it is there."""
        try:
            super().head(key, call)
        except NotFound:
            return False
        return True


KILLS: Mapping[str, type[Broken]] = {
    "compat.archive_v1_golden": FlipsBytes,
    "compat.options_alike_open_alike": EndsOthers,
    "idem.store_repeat": ConflictOnRepeat,
    "sec.store_files_not_for_all": OpenForAll,
    "sec.store_keys_are_text": RunsKeys,
    "sec.store_keys_stay_inside": JoinsPaths,
    "store.abort_of_live_put_is_clean": CommitsHalf,
    "store.abort_spares_live_put": IgnoresAge,
    "store.archive_damage_is_told": RemembersReads,
    "store.archive_delete_frees": ForgetsDeletes,
    "store.archive_full_round_trip": FlipsBytes,
    "store.archive_increments": DeletesTooMuch,
    "store.archive_moves_to_other_store": OwnDialect,
    "store.archive_resumes": Preallocates,
    "store.body_in_pieces": ReadsOnce,
    "store.case_collision": FoldsCase,
    "store.delete_missing_ok": DeletesPrefix,
    "store.empty_object": LosesEmpty,
    "store.get_closed_early": KeepsFiles,
    "store.if_absent_keeps_bytes": LooksThenWrites,
    "store.leftovers_found_once": CountsForever,
    "store.list_prefix_is_text": PrefixIsDirectory,
    "store.list_survives_changes": CursorIsNumber,
    "store.list_thousand_keys": OnePage,
    "store.listing_trait_is_true": Lags,
    "store.long_keys": CutsKeys,
    "store.missing_is_not_found": RaisesKernelWords,
    "store.open_missing_place": MakesPlace,
    "store.overwrite_large_by_small": KeepsTail,
    "store.parallel_puts_keep_apart": SharesTemp,
    "store.part_boundaries": DropsLastByte,
    "store.put_aborted_leaves_nothing": WritesInPlace,
    "store.put_cancelled_leaves_nothing": IgnoresCancel,
    "store.put_head_list_agree": TellsBlocks,
    "store.range_edges": CutsRanges,
    "store.two_instances_see_the_same": RemembersObjects,
    "store.unicode_forms": Normalises,
    "store.upload_is_streaming": ReadsWhole,
}
# A directory has neither credentials nor an address nor certificates: see test_broken_wires.py.
REMOTE = {
    "sec.store_secrets_not_shown",
    "sec.store_tls_verified",
    "sec.store_wrong_credentials",
    "store.open_unreachable",
}


def test_each_check_has_a_broken_store() -> None:
    """No MUST check of these modules is without a driver that it fails."""
    musts = {found.id for found, _ in CHECKS.values() if found.level is Level.MUST}
    assert musts - KILLS.keys() == REMOTE


@pytest.mark.parametrize("check", sorted(KILLS))
def test_broken_store_is_found(
    check: str, lab_on_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that breaks the sentence of a check fails it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "export").mkdir()
    with (
        registered("broken", KILLS[check]),
        lab_on_store("broken", {"path": str(tmp_path / "export")}) as lab,
        pytest.raises((ContractBroken, StorageError)),
    ):
        CHECKS[check][1](lab)
