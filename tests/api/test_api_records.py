"""Pages of the catalog over HTTP."""

from __future__ import annotations

import pytest

from bollard.core.catalog.snapshots import SnapshotRecord, SnapshotState
from bollard.core.catalog.vm_snapshots import VmSnapshotRow
from bollard.core.catalog.volumes import TemplateRecord, VolumeRecord

CREATED = "2026-11-22T05:11:00.000+00:00"


@pytest.fixture(scope="module")
def records(running):
    """Five of each kind."""
    with running.catalog.transaction() as session:
        for n in range(5):
            own = {"id": f"x-{n}", "created": CREATED}
            session.add(VolumeRecord(**own, pool=f"pool-{n % 2}", vm=f"vm-{n % 2}", size=2**40))
            session.add(SnapshotRecord(**own, volume=f"x-{n % 2}", state=SnapshotState.BACKED_UP))
            session.add(TemplateRecord(**own))
            row = {"name": "n", "description": "", "memory": False, "quiesce": False}
            row |= {"strategy": "s", "offering": {}, "state": "Ready"}
            session.add(VmSnapshotRow(**own, **row, vm=f"vm-{n % 2}"))


@pytest.mark.parametrize(
    ("path", "only", "wanted"),
    [
        ("/v1/volumes", {}, [0, 1, 2, 3, 4]),
        ("/v1/volumes", {"pool": "pool-1"}, [1, 3]),
        ("/v1/volumes", {"vm": "vm-0"}, [0, 2, 4]),
        ("/v1/snapshots", {"volume": "x-0"}, [0, 2, 4]),
        ("/v1/templates", {}, [0, 1, 2, 3, 4]),
        ("/v1/vm-snapshots", {"vm": "vm-1"}, [1, 3]),
    ],
)
def test_pages(records, client, path, only, wanted):
    """Pages of two show each record that fits once."""
    page = client.get(path, params={"limit": 2} | only).json()
    seen = [item["id"] for item in page["items"]]
    while page["next"]:
        page = client.get(path, params={"limit": 2, "after": page["next"]} | only).json()
        assert len(page["items"]) <= 2
        seen += [item["id"] for item in page["items"]]

    assert seen == [f"x-{n}" for n in wanted]


def test_a_record_says_what_it_is(records, client):
    """State and sizes are those of the catalog."""
    volume = client.get("/v1/volumes", params={"limit": 1}).json()["items"][0]

    assert (volume["state"], volume["size"], volume["vm"]) == ("Allocated", 2**40, "vm-0")


def test_events_are_read_in_pages(client):
    """`next` is where later events begin, and stays where it is when there is none."""
    client.post("/v1/commands", json={"type": "CreateObjectCommand"})
    first = client.get("/v1/events", params={"limit": 1, "type": "bollard.job."}).json()
    end = client.get("/v1/events", params={"limit": 1000}).json()["next"]
    rest = client.get("/v1/events", params={"after": "9" * 18}).json()

    assert first["items"][0]["specversion"] == "1.0"
    assert int(first["next"]) <= int(end)
    assert rest == {"items": [], "next": "9" * 18}
