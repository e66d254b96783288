"""Somebody else is quicker between the look by which an act is decided and its beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bollard.core.service.volumes_records import NewVolume, VolumeRecords
from bollard.core.spi import Busy
from bollard.transfer_objects.ids import VolumeId
from volume_site import H1, VM, Process, Site, call

V1 = VolumeId("v-1")
Does = Callable[[Process], object]

DOES: dict[str, Does] = {
    "attach": lambda one: one.attachments.attach(V1, VM, H1, "cluster", call()),
    "detach": lambda one: one.attachments.detach(V1, call()),
    "give": lambda one: one.attachments.give(V1, H1, call(), hypervisor="cluster"),
    "take": lambda one: one.attachments.take(V1, H1, call()),
}


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    """An array, a cluster and a catalog."""
    with Site(tmp_path, f"sqlite:///{tmp_path}/catalog.db") as opened:
        yield opened


@pytest.mark.parametrize(
    ("before", "act", "overtaken_by"),
    [
        ([], "take", "attach"),
        (["give"], "take", "attach"),
        (["attach"], "detach", "detach"),
        ([], "give", "give"),
        (["give"], "attach", "take"),
    ],
)
def test_what_was_decided_by_an_old_look_is_not_begun(site, monkeypatch, before, act, overtaken_by):
    """It is Busy, the other's work stays, and all of it can be taken back; a take that was begun after an
    attach had ended waited for a detach, which waited for the take.
    """
    one, other = site.process(), site.process()
    one.volumes.create(NewVolume(id=V1, pool="gold", size=8 * 2**20), call())
    for name in before:
        DOES[name](one)
    begin, quicker = VolumeRecords.begin, [overtaken_by]

    def late(self, *what, **more):
        if self is one.volumes.records and quicker:
            DOES[quicker.pop()](other)
        return begin(self, *what, **more)

    monkeypatch.setattr(VolumeRecords, "begin", late)
    with pytest.raises(Busy, match="just now"):
        DOES[act](one)
    assert site.told(one) == site.truth()
    for name in ("detach", "take"):
        DOES[name](one)
    assert not any(site.truth()["grants"].values())
