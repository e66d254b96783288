"""Volumes that come from elsewhere and go elsewhere: adoption, release, and templates."""

from __future__ import annotations

from ...core.spi import (
    Adopts,
    Conflict,
    HasDependents,
    InUse,
    InvalidArgument,
    NotFound,
    StorageError,
    TemplateCache,
    TemplateSpec,
    VolumeSpec,
)
from ...transfer_objects.ids import TemplateId, new_id
from .. import pattern
from ..lab import Lab, expected, must, refused, zeros
from ..model import Tier
from ..registry import check
from ._bytes import digest, must_be_absent
from ._operations import SIZE, foreign, sealed, spec, written


@check("vol.adopt_existing", rule="adopt.data", needs=(Adopts,), tier=Tier.STANDARD)
def check_adopt_existing(lab: Lab) -> None:
    """An object that exists on the storage becomes a volume under a new id, with every byte it had.

    This is how disks come in that another product made. A failure of the data means that adopting
    formats, copies or moves them wrongly.
    """
    with foreign(lab) as (native, former):
        wanted = spec(lab)
        adopted = lab.pool.volumes.adopt(native, wanted)
        must((adopted.id, adopted.size) == (wanted.id, SIZE), f"adopting gave {adopted}")
        must(wanted.id in {v.id for v in lab.pool.volumes.list()}, "the adopted volume is not listed")
        lab.verify(wanted.id, expected(SIZE, 1), owner=former)


@check("vol.release_without_delete", rule="adopt.data", needs=(Adopts,), tier=Tier.STANDARD)
def check_release_without_delete(lab: Lab) -> None:
    """A released volume is no longer ours: not found, not listed, not deleted; and its data stays.

    Release is for volumes that their owner takes back: a driver that deletes them takes the owner's data.
    A failure at the end, after adopting it again, means just that.
    """
    with foreign(lab) as (native, former):
        must_be_absent(lab, former, "release")
        lab.pool.volumes.delete(former)
        lab.pool.volumes.adopt(native, VolumeSpec(id=former, size=SIZE))
        lab.verify(former, expected(SIZE, 1))


@check("vol.adopt_twice_refused", rule="adopt.twice", needs=(Adopts,), tier=Tier.STANDARD)
def check_adopt_twice_refused(lab: Lab) -> None:
    """An object that is ours under one id cannot be adopted under another.

    Two volumes on one object overwrite each other, and deleting one deletes both.
    """
    with foreign(lab) as (native, former):
        first, second = spec(lab), spec(lab)
        lab.pool.volumes.adopt(native, first)
        with refused(InUse):
            lab.pool.volumes.adopt(native, second)
        must_be_absent(lab, second.id, "a refused adoption")
        lab.verify(first.id, expected(SIZE, 1), owner=former)


@check("vol.adopt_wrong_size_refused", rule="adopt.size", needs=(Adopts,), tier=Tier.STANDARD)
def check_adopt_wrong_size_refused(lab: Lab) -> None:
    """Adopting with another size than the object has is a conflict, and the object stays foreign.

    A wrong size is the sign of a wrong name: the operator meant another disk.
    """
    with foreign(lab) as (native, former):
        wanted = spec(lab, 2 * SIZE)
        with refused(Conflict):
            lab.pool.volumes.adopt(native, wanted)
        must_be_absent(lab, wanted.id, "a refused adoption")
        lab.pool.volumes.adopt(native, VolumeSpec(id=former, size=SIZE))
        lab.verify(former, expected(SIZE, 1))


@check("vol.adopt_missing_not_found", rule="any.taxonomy", needs=(Adopts,), tier=Tier.STANDARD)
def check_adopt_missing_not_found(lab: Lab) -> None:
    """Adopting a name that the storage does not know gives `NotFound`, and no empty volume."""
    wanted = spec(lab)
    with refused(NotFound):
        lab.pool.volumes.adopt(new_id(lab.prefix)[:60], wanted)
    must_be_absent(lab, wanted.id, "a refused adoption")


@check(
    "vol.release_granted_refused",
    rule="any.taxonomy",
    kinds=("managed",),
    needs=(Adopts,),
    tier=Tier.STANDARD,
)
def check_release_granted_refused(lab: Lab) -> None:
    """A volume that a host may use is not given away: nobody would ever revoke that grant."""
    volume, host = written(lab), lab.host()
    lab.pool.volumes.grant(volume.id, host)
    with refused(InUse):
        lab.pool.volumes.release(volume.id)
    must([g.host for g in lab.pool.volumes.grants(volume.id)] == [host.id], "the grant is gone")


@check("vol.template_cache_seed", rule="clone.equal", needs=(TemplateCache,), tier=Tier.STANDARD)
def check_template_cache_seed(lab: Lab) -> None:
    """The first volume of a template and the fifth equal the image, and a host writes to each alone.

    A failure in a later volume means that one of the earlier ones writes into the seed.
    """
    template, seed = sealed(lab)
    for generation in range(2, 7):
        made = lab.pool.volumes.from_template(template, spec(lab))
        lab.verify(made.id, expected(SIZE, 1), owner=seed.id)
        lab.write(made, generation)


@check("vol.template_larger_volume", rule="clone.equal", needs=(TemplateCache,), tier=Tier.STANDARD)
def check_template_larger_volume(lab: Lab) -> None:
    """A volume larger than its template holds the image and zeros behind; a smaller one is refused."""
    template, seed = sealed(lab)
    made = lab.pool.volumes.from_template(template, spec(lab, 2 * SIZE))
    must(lab.size_seen(made.id) == 2 * SIZE, f"a host sees {lab.size_seen(made.id)} bytes")
    lab.verify(made.id, expected(SIZE, 1) | zeros(SIZE, SIZE), owner=seed.id)
    small = spec(lab, SIZE // 2)
    with refused(InvalidArgument):
        lab.pool.volumes.from_template(template, small)
    must_be_absent(lab, small.id, "a refused create")


@check("vol.template_sealed_is_fixed", rule="tpl.sealed", needs=(TemplateCache,), tier=Tier.STANDARD)
def check_template_sealed_is_fixed(lab: Lab) -> None:
    """Nobody writes to a sealed template: the attempt fails, or leaves the volumes made later as they were.

    One host's write would show in every VM that is deployed afterwards.
    """
    template, seed = sealed(lab)
    before = digest(lab, lab.pool.volumes.from_template(template, spec(lab)).id)
    try:
        with lab.mover.writing_volume(lab.pool, seed.id) as sink:
            sink.write(0, pattern.block(seed.id, 0, 2))
            sink.flush()
    except StorageError:
        pass
    after = digest(lab, lab.pool.volumes.from_template(template, spec(lab)).id)
    must(after == before, "a host changed a sealed template: volumes made of it differ from now on")


@check("vol.template_unsealed_not_found", rule="any.taxonomy", needs=(TemplateCache,), tier=Tier.STANDARD)
def check_template_unsealed_not_found(lab: Lab) -> None:
    """No volume is made of a template that is still being written: half an image boots nothing."""
    template, wanted = TemplateId(new_id(lab.prefix)), spec(lab)
    lab.pool.volumes.prepare_template(TemplateSpec(id=template, size=SIZE))
    with refused(NotFound):
        lab.pool.volumes.from_template(template, wanted)
    must_be_absent(lab, wanted.id, "a refused create")


@check("vol.template_other_size_conflicts", rule="vol.same-spec", needs=(TemplateCache,), tier=Tier.STANDARD)
def check_template_other_size_conflicts(lab: Lab) -> None:
    """The id of a template that is on the pool is refused for an image of another size."""
    template, seed = sealed(lab)
    with refused(Conflict):
        lab.pool.volumes.prepare_template(TemplateSpec(id=template, size=2 * SIZE))
    made = lab.pool.volumes.from_template(template, spec(lab))
    lab.verify(made.id, expected(SIZE, 1), owner=seed.id)


@check("vol.template_evicted_is_gone", rule="any.gone", needs=(TemplateCache,), tier=Tier.STANDARD)
def check_template_evicted_is_gone(lab: Lab) -> None:
    """Eviction frees the seed, or says that volumes depend on it; the volumes stay whole in both cases."""
    template, seed = sealed(lab)
    made = lab.pool.volumes.from_template(template, spec(lab)).id
    try:
        lab.pool.volumes.evict_template(template)
    except HasDependents:
        lab.verify(made, expected(SIZE, 1), owner=seed.id)
        lab.pool.volumes.delete(made)
        lab.pool.volumes.evict_template(template)
    else:
        lab.verify(made, expected(SIZE, 1), owner=seed.id)
    with refused(NotFound):
        lab.pool.volumes.from_template(template, spec(lab))
