"""The reference model says what the contract says, also where that leaves a choice."""

from __future__ import annotations

from bollard.conformance.modelbased.pool_model import GOOD, PoolModel
from bollard.conformance.modelbased.pool_planner import unit_of
from bollard.core.spi import Traits

MIB = 2**20


def _model(**traits: bool | int) -> PoolModel:
    model = PoolModel(Traits(**traits))  # type: ignore[arg-type] # each test passes a field of its type
    assert model.create("v0", MIB) == GOOD
    return model


def test_a_taken_id_conflicts_with_another_size() -> None:
    """The same spec is fine again, another size is not, and a volume that grew may be told either way."""
    model = _model()
    assert model.create("v0", MIB) == GOOD
    assert model.create("v0", 2 * MIB) == ("Conflict",)
    assert model.resize("v0", 2 * MIB) == GOOD
    assert model.create("v0", MIB) == ("ok", "Conflict")
    assert model.create("v0", 3 * MIB) == ("Conflict",)


def test_copies_keep_the_bytes_of_their_moment() -> None:
    """A clone and a snapshot have what was there, and nothing of what is written later."""
    model = _model()
    model.write("v0", [0], 1)
    assert model.clone("v0", "v1", 2 * MIB) == GOOD
    assert model.snapshot("v0", "s0") == GOOD
    model.write("v0", [0, 4096], 2)
    assert model.volumes["v1"].cells == model.snapshots["s0"].cells == {0: ("v0", 1)}
    assert model.differing(None, "s0") == model.holding("s0") == [0]
    assert model.clone("v0", "v2", MIB // 2) == ("InvalidArgument",)
    assert model.clone("v9", "v2", MIB) == ("NotFound",)


def test_what_hangs_on_a_volume_keeps_it() -> None:
    """Grants and snapshots keep a volume from being deleted, unless a trait says otherwise."""
    model = _model()
    assert model.grant("v0", "h0", read_only=False) == GOOD
    assert model.delete("v0") == ("InUse",)
    assert model.grant("v0", "h1", read_only=False) == ("InUse",)
    assert model.grant("v0", "h0", read_only=True) == ("Conflict",)
    model.revoke("v0", "h0")
    model.snapshot("v0", "s0")
    assert model.delete("v0") == ("HasDependents",)
    relaxed = _model(delete_with_snapshots=True)
    relaxed.snapshot("v0", "s0")
    assert relaxed.delete("v0") == GOOD
    assert not relaxed.snapshots


def test_revert_restores_bytes_and_size() -> None:
    """A revert needs a snapshot of the volume itself, and none of its hosts attached."""
    model = _model()
    model.snapshot("v0", "s0")
    model.write("v0", [0], 1)
    model.resize("v0", 2 * MIB)
    model.snapshot("v0", "s1")
    model.grant("v0", "h0", read_only=True)
    assert model.revert("v0", "s0") == ("InUse",)
    model.revoke("v0", "h0")
    assert model.revert("v0", "s0") == GOOD
    assert (model.volumes["v0"].size, model.volumes["v0"].cells) == (MIB, {})
    assert model.newer_than("s0") == ["s1"]
    assert model.revert("v1", "s0") == ("NotFound", "InvalidArgument")
    model.snapshot("v0", "s2")
    assert model.changed("s1", "s2") == ("ok", "NotFound")


def test_limits_of_the_driver_are_kept() -> None:
    """The number of snapshots is limited as the traits say, and sizes fit the driver's granularity."""
    model = _model(max_snapshots_per_volume=1)
    assert model.snapshot("v0", "s0") == GOOD
    assert model.snapshot("v0", "s1") == ("LimitExceeded",)
    assert unit_of(Traits()) == MIB
    assert unit_of(Traits(min_size=2**30)) == 2**30
    assert unit_of(Traits(size_granularity=3 * MIB)) % (3 * MIB) == 0
