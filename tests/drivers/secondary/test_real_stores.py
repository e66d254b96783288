"""Swift's own servers, and their S3 face, while they are killed, spoilt and half away."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest

from bollard.core.spi import Body, Call, DataLoss, NotFound, StorageError, Unavailable
from bollard.simulators.faults import Fault
from bollard.simulators.faults.http import HttpProxy
from real_swift import RealSwift

from .conftest import at

if TYPE_CHECKING:
    from .conftest import Store

pytestmark = pytest.mark.real
MIB = 1024 * 1024
DATA = os.urandom(MIB + 4711)


@pytest.mark.parametrize("server", ["object", "proxy"])
def test_killed_in_the_middle_of_an_upload(racy: Store, whole: RealSwift, server: str, call: Call) -> None:
    """Half of an object is never visible, the error is typed, and the repeat after a restart stores it."""
    racy.driver.put("k", Body.of(b"before"), call)

    opened = itertools.count(1)
    sending = 2 if racy.kind == "swift" else 1  # Swift wants the MD5 first, so the body is read twice

    def interrupted() -> BinaryIO:
        strikes = next(opened) == sending
        return _Interrupted(DATA, (lambda: whole.kill(server)) if strikes else lambda: None)

    body = Body(size=len(DATA), sha256=Body.of(DATA).sha256, open=interrupted)
    with pytest.raises(StorageError) as error:
        racy.again(attempts=1).put("k", body, call)
    assert isinstance(error.value, Unavailable)
    whole.repair()
    assert b"".join(racy.driver.get("k", call)) == b"before"
    racy.driver.put("k", Body.of(DATA), call)
    assert b"".join(racy.driver.get("k", call)) == DATA
    assert racy.names() == ["k"]


def test_spoilt_on_the_server_s_disk(racy: Store, whole: RealSwift, call: Call) -> None:
    """Swift delivers the wrong bytes with 200 once, and then says 404: neither passes for the object."""
    before = set(_stored(whole))
    racy.driver.put("spoilt", Body.of(DATA), call)
    _flip((set(_stored(whole)) - before).pop())
    with pytest.raises(DataLoss):
        list(racy.driver.get("spoilt", call))
    with pytest.raises((DataLoss, NotFound)):
        list(racy.driver.get("spoilt", call))


def test_without_the_container_server(real_swift_store: Store, whole: RealSwift, call: Call) -> None:
    """An upload is stored although no listing can show it: objects are found by key."""
    whole.kill("container")
    real_swift_store.driver.put("unlisted", Body.of(DATA), call)
    assert b"".join(real_swift_store.driver.get("unlisted", call)) == DATA
    with pytest.raises(StorageError):
        real_swift_store.driver.list("", Call.within(5))


@pytest.mark.parametrize("which", [1, 2])
def test_a_probe_whose_answer_is_lost(racy: Store, behind: HttpProxy, which: int) -> None:
    """The other object of the first attempt is no sign that a condition was honoured, and nothing stays."""
    behind.plan([Fault.lose_reply(which, method="PUT", path=r"\.bollard-probe")])
    checked = {"checksum": "sha256"} if racy.kind == "s3" else {}
    assert not racy.again(**at(racy, behind.url), **checked).traits().conditional_put
    behind.finish()
    assert not racy.names()


class _Interrupted(io.BytesIO):
    """Bytes in whose middle something happens."""

    def __init__(self, data: bytes, act: Callable[[], None]) -> None:
        super().__init__(data)
        self._half, self._act = len(data) // 2, act

    def read(self, size: int | None = -1) -> bytes:
        """Read, and act when half is gone."""
        if self.tell() >= self._half:
            act, self._act = self._act, lambda: None
            act()
        return super().read(min(size if size is not None and size >= 0 else MIB, 65536))


def _stored(server: RealSwift) -> Iterator[Path]:
    return server.objects.rglob("*.data")


def _flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
