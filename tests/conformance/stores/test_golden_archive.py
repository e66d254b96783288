"""The golden archives that the suite carries are what each version of the format wrote."""

from __future__ import annotations

import json
from pathlib import Path

from bollard.conformance import golden
from bollard.conformance.subtree import Subtree
from bollard.core.archive import Archive
from bollard.core.spi import Body, Call
from bollard.drivers.secondary.nfs import NfsDriver, NfsOptions


def _store(path: Path) -> NfsDriver:
    store = NfsDriver(NfsOptions(path=path))
    store.open(Call())
    return store


def test_todays_writer_makes_the_same_objects(tmp_path: Path) -> None:
    """The same disks give the archive of the newest version, byte by byte, and the files are small."""
    (tmp_path / "store").mkdir()
    store = _store(tmp_path / "store")
    golden.write(store, tmp_path, Call())
    made = {o.key: b"".join(store.get(o.key, Call())) for o in store.list("v1/", Call()).items}
    store.close()
    assert made == golden.objects(max(golden.ARCHIVES))
    assert all(path.stat().st_size < 20_000 for path in golden.ARCHIVES.values())


def test_each_version_is_what_it_says() -> None:
    """Its manifests name the version, and each has the objects of both moments."""
    for version in golden.ARCHIVES:
        made = golden.objects(version)
        manifests = [json.loads(data) for key, data in made.items() if key.endswith("manifest.json")]
        assert [one["version"] for one in manifests] == [version] * len(golden.MOMENTS)


def test_subtree_shows_only_its_own(tmp_path: Path) -> None:
    """Keys below the root come and go without it, in pages; what lies beside is not seen."""
    store = _store(tmp_path)
    sub = Subtree(store, "run/golden/")
    sub.open(Call())
    for key in ("a", "b", "c/d"):
        assert sub.put(key, Body.of(key.encode()), Call()).key == key
    store.put("run/other", Body.of(b""), Call())
    first = sub.list("", Call(), limit=2)
    rest = sub.list("", Call(), after=first.after)
    assert [o.key for o in (*first.items, *rest.items)] == ["a", "b", "c/d"]
    assert b"".join(sub.get("c/d", Call(), offset=1, length=2)) == b"/d"
    assert sub.head("a", Call()).key == "a"
    sub.delete("a", Call())
    assert sub.abort_uploads("", Call(), older_than=0) == 0
    assert sub.traits() == store.traits()
    assert [e.snapshot for e in Archive(sub).list(Call())] == []
    sub.close()
    assert store.head("run/golden/b", Call()).size == 1
    store.close()
