"""What `clean` removes of a store beside the keys themselves."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bollard.conformance.clean import Place, remove
from bollard.conformance.ledger import Intent, Kind
from bollard.core.spi import NotFound
from bollard.core.store import open_store
from bollard.drivers.secondary.nfs import NfsDriver


def test_a_key_goes_with_its_killed_upload(tmp_path: Path) -> None:
    """A put that was killed before it gave its file a name leaves nothing after `clean`."""
    upload = tmp_path / ".bollard-tmp" / f"_README.txt,{'5' * 32}"
    other = tmp_path / ".bollard-tmp" / f"_v1%2Fvol,{'6' * 32}"
    with closing(open_store("s", "nfs", {"path": str(tmp_path)})) as store:
        for path in (upload, other):
            path.write_bytes(b"half")
        said = remove(
            Intent(kind=Kind.KEY, id="README.txt", scope="under-test"), Place(stores={"under-test": store})
        )

    assert said == ""
    assert not upload.exists()
    assert other.exists()


def test_a_key_without_a_name_takes_no_uploads_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a driver takes "" for a key, uploads of others stay: it is a prefix of all of them."""
    monkeypatch.setattr(NfsDriver, "delete", lambda *_: None)
    monkeypatch.setattr(NfsDriver, "head", _not_there)
    upload = tmp_path / ".bollard-tmp" / f"_v1%2Fvol,{'6' * 32}"
    with closing(open_store("s", "nfs", {"path": str(tmp_path)})) as store:
        upload.write_bytes(b"half")
        remove(Intent(kind=Kind.KEY, id="", scope="under-test"), Place(stores={"under-test": store}))

    assert upload.exists()


def _not_there(*_: object) -> None:
    raise NotFound("there is no such key")
