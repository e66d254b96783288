"""/v1/volumes, snapshots, templates, vm-snapshots, events: the catalog in pages by key."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement

from ..core.catalog import paging
from ..core.catalog.snapshots import SnapshotRecord
from ..core.catalog.vm_snapshots import VmSnapshotRow
from ..core.catalog.volumes import TemplateRecord, VolumeRecord
from ..core.event_stream import EventStream, cloud_event, position_of
from .services import Reader, Services, Using

router = APIRouter(prefix="/v1", tags=["records"])

View = TypeVar("View", bound=BaseModel)

_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_NUMBER = r"^[0-9]{1,18}$"
_AFTER = "`next` of the page before."
After = Annotated[str | None, Query(pattern=_ID, description=_AFTER)]
AfterNumber = Annotated[str | None, Query(pattern=_NUMBER, description=_AFTER)]
Limit = Annotated[int, Query(ge=1, le=paging.MAX_PAGE)]
Id = Annotated[str | None, Query(pattern=_ID)]
Name = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")]


class Page(BaseModel, Generic[View]):
    """Some records in the order of their ids; VM snapshots and events oldest first."""

    items: list[View]
    next: str | None = Field(description="Give it as `after` for the next page; null on the last one.")


class _Record(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    state: str
    created: str
    error: str


class VolumeView(_Record):
    """A volume; sizes in bytes."""

    name: str
    pool: str
    size: int
    format: str
    vm: str | None
    device: str
    parent_snapshot: str | None
    parent_template: str | None


class SnapshotView(_Record):
    """A snapshot of a volume."""

    volume: str
    size: int
    frozen_seconds: float


class TemplateView(_Record):
    """A template."""

    name: str
    size: int
    format: str
    checksum: str


class VmSnapshotView(_Record):
    """A snapshot of a VM."""

    vm: str
    name: str
    description: str
    memory: bool
    current: bool
    parent: str | None
    frozen_seconds: float


class EventPage(BaseModel):
    """Events as CloudEvents 1.0, oldest first."""

    items: list[dict[str, Any]]
    next: str = Field(description="Give it as `after` for what happens later.")


@router.get("/volumes", operation_id="listVolumes")
def list_volumes(
    using: Using, _token: Reader, pool: Name = None, vm: Id = None, after: After = None, limit: Limit = 100
) -> Page[VolumeView]:
    """List volumes."""
    where = [VolumeRecord.pool == pool] if pool else []
    where += [VolumeRecord.vm == vm] if vm else []
    return _page(using, VolumeRecord, where, after, limit, VolumeView)


@router.get("/snapshots", operation_id="listSnapshots")
def list_snapshots(
    using: Using, _token: Reader, volume: Id = None, after: After = None, limit: Limit = 100
) -> Page[SnapshotView]:
    """List snapshots of volumes."""
    where = [SnapshotRecord.volume == volume] if volume else []
    return _page(using, SnapshotRecord, where, after, limit, SnapshotView)


@router.get("/templates", operation_id="listTemplates")
def list_templates(
    using: Using, _token: Reader, after: After = None, limit: Limit = 100
) -> Page[TemplateView]:
    """List templates."""
    return _page(using, TemplateRecord, [], after, limit, TemplateView)


@router.get("/vm-snapshots", operation_id="listVmSnapshots")
def list_vm_snapshots(
    using: Using, _token: Reader, vm: Id = None, after: AfterNumber = None, limit: Limit = 100
) -> Page[VmSnapshotView]:
    """List snapshots of VMs, oldest first."""
    where = [VmSnapshotRow.vm == vm] if vm else []
    number = int(after) if after else None
    return _page(using, VmSnapshotRow, where, number, limit, VmSnapshotView)


@router.get("/events", operation_id="listEvents")
def list_events(
    using: Using,
    _token: Reader,
    after: Annotated[str, Query(pattern=_NUMBER, description=_AFTER)] = "0",
    limit: Limit = 100,
    kind: Annotated[
        str,
        Query(alias="type", pattern=r"^[A-Za-z0-9._]{0,120}$", description="Beginning of types."),
    ] = "",
) -> EventPage:
    """List events as CloudEvents."""
    found = EventStream(using.catalog).read(int(after), limit=limit, types=[kind] if kind else ())
    last = str(position_of(found[-1])) if found else after
    return EventPage(items=[cloud_event(event) for event in found], next=last)


def _page(
    using: Services,
    kind: Any,
    where: list[ColumnElement[bool]],
    after: str | int | None,
    limit: int,
    view: type[View],
) -> Page[View]:
    with using.catalog.reading() as session:
        found = paging.page(session, kind, *where, after=after, limit=limit)
        items = [view.model_validate(record) for record in found.records]
    return Page(items=items, next=None if found.after is None else str(found.after))
