"""Records of volumes, templates, places, grants and introductions; in pages, by id."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bollard.core.catalog import StateMachine, paging
from bollard.core.catalog.holds import GRANTS, INTRODUCTIONS, Grant, HoldEvent, Introduction
from bollard.core.catalog.object_states import OBJECTS
from bollard.core.catalog.paging import each, one, page, unfinished
from bollard.core.catalog.places import HostRecord, PoolRecord, StoreRecord
from bollard.core.catalog.transitions import history
from bollard.core.catalog.volume_states import VOLUMES, VolumeEvent, VolumeState
from bollard.core.catalog.volumes import TEMPLATES, ObjectKind, ObjectRef, TemplateRecord, VolumeRecord
from bollard.core.spi import Conflict, NotFound
from bollard.transfer_objects.enums import DataStoreRole

pytest_plugins = ["catalog_fixture"]

NOW = "2026-11-22T12:00:00.000+00:00"


def volume(name: str, **fields) -> VolumeRecord:
    """A volume on a pool."""
    return VolumeRecord(id=name, pool="gold", created=NOW, **fields)


def add(catalog, *records) -> None:
    """Write records down."""
    with catalog.transaction() as session:
        session.add_all(records)


def test_volume_keeps_what_it_was_made_of(catalog):
    """All fields are there after a restart, the size to the byte."""
    made = volume(
        "v1",
        size=2**44 + 512,
        format="qcow2",
        vm="vm-1",
        device="vda",
        parent_snapshot="s1",
        parent_template="t1",
    )
    add(catalog, made)
    with catalog.reading() as session:
        found = one(session, VolumeRecord, "v1")

    assert (found.size, found.format, found.vm, found.device) == (2**44 + 512, "qcow2", "vm-1", "vda")
    assert (found.parent_snapshot, found.parent_template, found.state) == ("s1", "t1", VolumeState.ALLOCATED)


def test_record_that_is_not_there_is_not_found(catalog):
    """The message says of what kind."""
    with catalog.reading() as session, pytest.raises(NotFound, match="there is no volume v9"):
        one(session, VolumeRecord, "v9")


def test_each_kind_has_a_history_of_its_own(catalog):
    """A volume, a template, their bytes on a store, a grant: moves of one are not shown as another's."""
    ref = ObjectRef(
        kind=ObjectKind.TEMPLATE, object="x", store="s", role=DataStoreRole.IMAGE, path="x", created=NOW
    )
    grant = Grant(volume="x", pool="gold", host="h1", created=NOW)
    introduced = Introduction(volume="x", pool="gold", host="h1", created=NOW)
    template = TemplateRecord(id="x", created=NOW)
    records = (volume("x"), template, ref, grant, introduced)
    with catalog.transaction() as session:
        session.add_all(records)
        session.flush()
        for record in records:
            record.take(next(event for at, event in _machine(record).moves if at == record.state))
    with catalog.reading() as session:
        lengths = [len(history(session, _machine(record).name, str(record.id))) for record in records]

    assert lengths == [1, 1, 1, 1, 1]
    assert len({_machine(record).name for record in records}) == 5


def _machine(record) -> StateMachine:
    if isinstance(record, VolumeRecord):
        return VOLUMES
    if isinstance(record, TemplateRecord):
        return TEMPLATES
    if isinstance(record, ObjectRef):
        return OBJECTS
    return GRANTS if isinstance(record, Grant) else INTRODUCTIONS


def test_one_grant_of_a_volume_to_a_host(catalog):
    """Two processes that grant at the same moment: the second is told so, and finds the row."""
    add(catalog, Grant(volume="v1", pool="gold", host="h1", created=NOW))
    with pytest.raises(Conflict):
        add(catalog, Grant(volume="v1", pool="gold", host="h1", created=NOW))


def test_one_object_lies_once_on_a_store(catalog):
    """A volume and a template may have the same id, and a pool and a store the same name."""
    fields = {"object": "x", "store": "s", "path": "p", "created": NOW}
    roles = (DataStoreRole.PRIMARY, DataStoreRole.IMAGE)
    add(catalog, *(ObjectRef(kind=kind, role=role, **fields) for kind in ObjectKind for role in roles))
    for role in roles:
        with pytest.raises(Conflict):
            add(catalog, ObjectRef(kind=ObjectKind.VOLUME, role=role, **fields))


def test_request_that_failed_is_released_and_made_again(catalog):
    """After a failure the host may have it all the same: the way on is a release, or the request again."""
    grant = Grant(volume="v1", pool="gold", host="h1", created=NOW)
    steps = (
        HoldEvent.FAILED,
        HoldEvent.REQUESTED,
        HoldEvent.FAILED,
        HoldEvent.RELEASE_REQUESTED,
        HoldEvent.FAILED,
        HoldEvent.SUCCEEDED,
        HoldEvent.REQUESTED,
        HoldEvent.SUCCEEDED,
    )
    states = []
    for step in steps:
        grant.take(step)
        states.append(str(grant.state))

    assert states[2:] == ["Requested", "Releasing", "Releasing", "Released", "Requested", "Held"]


def test_names_of_places_are_theirs_alone(catalog):
    """Pools, stores and hosts go by name: a second one of a name would be taken for the first."""
    for first, second in (
        (HostRecord(id="h1", name="n"), HostRecord(id="h2", name="n")),
        (
            PoolRecord(id="p1", name="n", driver="array", managed=True),
            PoolRecord(id="p2", name="n", driver="x", managed=False),
        ),
        (StoreRecord(id="s1", name="n", driver="s3"), StoreRecord(id="s2", name="n", driver="nfs")),
    ):
        add(catalog, first)
        with pytest.raises(Conflict):
            add(catalog, second)
    with catalog.reading() as session:
        assert one(session, PoolRecord, "p1").managed
        assert one(session, StoreRecord, "s1").role is DataStoreRole.IMAGE
        assert one(session, HostRecord, "h1").seen == ""


@given(st.sets(st.from_regex(r"[a-z0-9][a-z0-9-]{0,5}", fullmatch=True)), st.integers(1, 5))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_are_the_whole_once_and_in_order(catalog, names, limit):
    """Whatever the ids and the page's length, and the filter: nothing twice, nothing missed."""
    with catalog.transaction() as session:
        session.query(VolumeRecord).delete()
        session.add_all(volume(name, vm="vm-1") for name in names)
        session.add_all(volume(f"{name}-other", vm="vm-2") for name in names if f"{name}-other" not in names)
    with catalog.reading() as session:
        seen = list(
            each(
                lambda after: page(session, VolumeRecord, VolumeRecord.vm == "vm-1", after=after, limit=limit)
            )
        )

    assert sorted(record.id for record in seen) == sorted(names)
    assert len(seen) == len(names)


def test_page_has_a_limit(catalog, monkeypatch):
    """Who asks for a million gets the most that there is, and the rest on the next page."""
    monkeypatch.setattr(paging, "MAX_PAGE", 2)
    add(catalog, *(volume(f"v{number}") for number in range(3)))
    with catalog.reading() as session:
        found = page(session, VolumeRecord, limit=10**6)
        rest = page(session, VolumeRecord, after=found.after)

    assert [record.id for record in found.records] == ["v0", "v1"]
    assert [record.id for record in rest.records] == ["v2"]
    assert rest.after is None


def test_unfinished_are_those_in_transient_states(catalog):
    """What a sync looks at, and nothing that rests."""
    for state in VolumeState:
        add(catalog, volume(state.lower(), state=state))
    with catalog.reading() as session:
        found = unfinished(session, VolumeRecord, VOLUMES)
        of_vm = unfinished(session, VolumeRecord, VOLUMES, VolumeRecord.vm == "vm-1")

    assert {record.state for record in found.records} == VOLUMES.transient
    assert not of_vm.records


def test_volume_that_was_attached_can_be_synced(catalog):
    """Attaching is taken up again, and ends in Ready; the history says how."""
    add(catalog, volume("v1", state=VolumeState.READY))
    with catalog.transaction() as session:
        found = one(session, VolumeRecord, "v1")
        for event in (VolumeEvent.ATTACH_REQUESTED, VolumeEvent.RESUMED, VolumeEvent.SUCCEEDED):
            found.take(event, "after a restart")
    with catalog.reading() as session:
        states = [move.after for move in history(session, "volume", "v1")]

    assert states == ["Attaching", "Attaching", "Ready"]
