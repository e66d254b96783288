"""Capabilities are what a class inherits, and CloudStack's map follows from them."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.spi import (
    CLOUDSTACK_CAPS,
    MIXINS,
    Body,
    Capability,
    Driver,
    HostPrimaryDriver,
    ManagedPrimaryDriver,
    cloudstack_caps,
)


def test_each_capability_has_exactly_one_mixin():
    """The enum and the mix-ins name the same abilities, one to one."""
    assert sorted(m.__dict__["provides"] for m in MIXINS) == sorted(Capability)


@pytest.mark.parametrize("mixin", MIXINS)
def test_mixin_demands_its_methods_and_states_its_rules(mixin):
    """Every mix-in has abstract methods, and each of them a docstring: the contract."""
    assert mixin.__abstractmethods__
    assert all(inspect.getdoc(getattr(mixin, name)) for name in mixin.__abstractmethods__)


@given(chosen=st.sets(st.sampled_from(MIXINS)))
def test_declared_is_what_is_inherited(chosen):
    """Any combination of mix-ins declares exactly its own capabilities."""
    cls: type[Driver] = type("Some", (Driver, *sorted(chosen, key=MIXINS.index)), {})

    assert cls.declared() == {m.__dict__["provides"] for m in chosen}


def test_access_control_belongs_to_managed_storage():
    """A managed driver always controls access; a pool that hosts mount does not by itself."""
    assert ManagedPrimaryDriver.declared() == {Capability.ACCESS_CONTROL}
    assert HostPrimaryDriver.declared() == frozenset()


@given(have=st.sets(st.sampled_from(Capability)), managed=st.booleans())
def test_caps_say_true_for_what_is_there(have, managed):
    """Each of CloudStack's keys is "true" or "false" as its capability is there or not."""
    caps = cloudstack_caps(have, managed=managed)

    assert caps.keys() == CLOUDSTACK_CAPS.keys()
    for key, capability in CLOUDSTACK_CAPS.items():
        expected = capability in have and (managed or key != "STORAGE_SYSTEM_SNAPSHOT")
        assert caps[key] == ("true" if expected else "false")


def test_body_of_bytes_can_be_read_again_by_a_retry():
    """A body over memory knows its size and digest, and every `open` starts at the first byte."""
    body = Body.of(memoryview(b"abc"))

    assert (body.size, body.sha256[:8]) == (3, "ba7816bf")
    assert body.open().read() == body.open().read() == b"abc"
