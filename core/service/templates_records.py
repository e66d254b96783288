"""Templates in the catalog: one record each, and a reference for each pool and store that has its bytes."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from ...transfer_objects.enums import DataStoreRole
from ..catalog.object_states import ObjectEvent, ObjectState
from ..catalog.transitions import now_text
from ..catalog.volumes import ObjectKind, ObjectRef, TemplateRecord
from ..spi import Conflict, NotFound

KIND = "template"


def refs_of(session: Session, template: str) -> Sequence[ObjectRef]:
    """Return what all pools and stores have of a template; first the pools, as that may be refused."""
    chosen = select(ObjectRef).where(ObjectRef.kind == ObjectKind.TEMPLATE, ObjectRef.object == template)
    there = session.scalars(chosen.where(ObjectRef.state != ObjectState.DESTROYED)).all()
    return sorted(there, key=lambda ref: (ref.role is not DataStoreRole.PRIMARY, ref.store))


def ref_on(session: Session, template: str, store: str, role: DataStoreRole) -> ObjectRef | None:
    """Return what one pool or store has of a template, or had; a pool and a store may have one name."""
    return session.scalar(
        select(ObjectRef).where(
            ObjectRef.kind == ObjectKind.TEMPLATE,
            ObjectRef.object == template,
            ObjectRef.store == store,
            ObjectRef.role == role,
        )
    )


def there_on(session: Session, template: str, store: str, role: DataStoreRole) -> ObjectRef:
    """As `ref_on`; raises `NotFound`."""
    found = ref_on(session, template, store, role)
    if found is None:
        raise NotFound(f"{store!r} has no template {template}")
    return found


def fresh_ref(session: Session, template: str, store: str, role: DataStoreRole, size: int) -> ObjectRef:
    """Return a row that may be created; that of one that was removed makes room."""
    found = ref_on(session, template, store, role)
    if found is not None and found.state is ObjectState.DESTROYED:
        session.delete(found)
        session.flush()
        found = None
    if found is None:
        found = ObjectRef(
            kind=ObjectKind.TEMPLATE,
            object=template,
            store=store,
            role=role,
            path=template,
            created=now_text(session),
            size=size,
        )
        session.add(found)
    return found


def known_template(session: Session, template: str, size: int) -> TemplateRecord:
    """Return the record of a template, made if there is none; that of a deleted one makes room.

    Raises:
        Conflict: there is one of another size.
    """
    found = session.get(TemplateRecord, template)
    if found is not None and found.state is ObjectState.DESTROYED:
        session.delete(found)
        session.flush()
        found = None
    if found is None:
        found = TemplateRecord(id=template, created=now_text(session), size=size)
        session.add(found)
        found.take(ObjectEvent.SUCCEEDED)
    refuse_other_size(session, template, size)
    return found


def refuse_other_size(session: Session, template: str, size: int) -> None:
    """Raise `Conflict` if there is a template of this id with another size."""
    found = session.get(TemplateRecord, template)
    if found is not None and found.state is not ObjectState.DESTROYED and found.size != size:
        raise Conflict(f"template {template} has {found.size} bytes")
