"""What the array driver takes in and gives back: templates, and volumes that it did not make."""

from __future__ import annotations

import pytest

from array_rig import CHUNK, host, read, spec, write
from bollard.core.spi import (
    Conflict,
    HasDependents,
    InUse,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    TemplateSpec,
)
from primary_rig import COPY, DB, DEBIAN, MIB, S1, WEB, call


def test_templates_are_sealed_and_never_change(driver):
    """A seed is filled through a grant, sealed once nobody has it, and read-only from then on."""
    template = TemplateSpec(id=DEBIAN, size=MIB)
    seed = driver.prepare_template(template, call())
    assert driver.prepare_template(template, call()) == seed
    with pytest.raises(Conflict):
        driver.prepare_template(TemplateSpec(id=DEBIAN, size=2 * MIB), call())
    with pytest.raises(NotFound):
        driver.create_volume_from_template(DEBIAN, spec(), call())
    driver.grant(seed.id, host(), call())
    with pytest.raises(InUse):
        driver.seal_template(DEBIAN, call())
    driver.revoke(seed.id, host().id, call())
    write(driver, seed.id, 0x66)
    driver.seal_template(DEBIAN, call())
    driver.seal_template(DEBIAN, call())
    with pytest.raises(PermissionDenied):
        driver.grant(seed.id, host(), call())
    for volume in (WEB, DB):
        driver.create_volume_from_template(DEBIAN, spec(volume, 2 * MIB), call())
        assert read(driver, volume) == b"\x66" * CHUNK
    for act in (driver.delete_volume, driver.release_volume):
        with pytest.raises(InvalidArgument):
            act(seed.id, call())
    driver.evict_template(DEBIAN, call())
    driver.evict_template(DEBIAN, call())
    with pytest.raises(NotFound):
        driver.seal_template(DEBIAN, call())


def test_foreign_volumes_are_adopted_and_released(driver, connect):
    """Adoption keeps data and foreign labels and works once; release gives a name that works again."""
    other = connect()
    other.create_volume(spec(DB), call())
    write(other, DB, 0x77)
    native = other.release_volume(DB, call())
    assert other.release_volume(DB, call()) == native
    with pytest.raises(Conflict):
        driver.adopt_volume(native, spec(WEB, 2 * MIB), call())
    adopted = driver.adopt_volume(native, spec(WEB), call())
    assert driver.adopt_volume(native, spec(WEB), call()) == adopted
    with pytest.raises(InUse):
        driver.adopt_volume(native, spec(COPY), call())
    with pytest.raises(InUse):
        driver.adopt_volume(adopted.private["array_name"], spec(COPY), call())
    with pytest.raises(NotFound):
        driver.adopt_volume("never-was", spec(COPY), call())
    assert read(driver, WEB) == b"\x77" * CHUNK
    driver.create_snapshot(WEB, S1, call())
    with pytest.raises(HasDependents):
        driver.release_volume(WEB, call())
    driver.delete_snapshot(S1, call())
    assert other.adopt_volume(driver.release_volume(WEB, call()), spec(DB), call()).id == DB
    with pytest.raises(NotFound):
        driver.release_volume(COPY, call())
