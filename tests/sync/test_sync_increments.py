"""`bollard sync` and incremental snapshots of the configuration: who died leaves nothing under way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from increment_rig import IncrementRig, increment_rig


@pytest.fixture
def rig(request, tmp_path) -> Iterator[IncrementRig]:
    """Two pools and two clusters; the journal is this machine's, or a fleet's."""
    with increment_rig(tmp_path, fleet=getattr(request, "param", False)) as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("rig", [False, True], ids=["alone", "fleet"], indirect=True)
def test_a_take_that_died_is_ended_at_each_step(rig: IncrementRig) -> None:
    """It is there and whole, or in Error without a trace; the next one goes on from what is there."""
    image = rig.make("vol-1")
    rig.write(image, "1M 64k", 1)
    rig.take("vol-1", "base")
    died = 0
    for step in (3, 8, 13, 18, 23):
        name = f"s-{step}"
        rig.write(image, "2M 64k", step)
        held = rig.content(image)
        if not rig.dies_taking("vol-1", name, step):
            break
        died += 1
        assert rig.sync(vm="vm-9").planned == []
        planned = rig.sync(dry_run=True)
        assert [(one.kind, one.id, one.what) for one in planned.planned] == [("increment", name, "kvm.take")]
        report = rig.sync()
        assert (report.problems(), report.errors) == ([], [])
        [ended] = report.ended
        assert (ended.before, ended.after) == ("kvm.take", rig.states().get(name, "at rest"))
        assert ended.after in ("at rest", "Error", "CreatedOnPrimary")
        assert rig.sync().planned == []
        if ended.after == "CreatedOnPrimary":
            assert rig.restored("files", name) == held
        else:
            assert f"files/increments/snapshots/{name}" not in rig.files()
        assert not [path for path in rig.files() if path.endswith(".part")]
        assert len(rig.bitmaps(image)) == 1
    assert died > 3
    rig.take("vol-1", "last")
    assert rig.restored("files", "last") == rig.content(image)


def test_a_hypervisor_that_is_away_keeps_its_own_and_no_others(rig: IncrementRig) -> None:
    """It is told, the other pool's is ended; the next sync, with the hypervisor back, ends it."""
    for volume, pool in (("vol-1", "files"), ("vol-2", "other")):
        rig.make(volume, pool)
        rig.attach(volume) if pool == "other" else None
        assert rig.dies_taking(volume, f"s-{volume}", 12, pool)
    url = rig.clusters["two"].url
    config = rig.home / "bollard.toml"
    text = config.read_text()
    config.write_text(text.replace(url, "http://127.0.0.1:9"))
    report = rig.sync()

    assert {one.id: bool(one.problem) for one in report.ended} == {"s-vol-1": False, "s-vol-2": True}
    assert rig.states() == {"s-vol-1": "Error", "s-vol-2": "Creating"}
    config.write_text(text)
    [ended] = rig.sync(host="h1").ended
    assert (ended.id, ended.after, ended.problem) == ("s-vol-2", "Error", "")
    assert rig.files() == []


def test_an_intent_of_a_pool_without_increments_is_told(rig: IncrementRig) -> None:
    """Its table was taken out of the configuration: it waits, with the reason, until it is there again."""
    rig.make("vol-2", "other")
    rig.attach("vol-2")
    assert rig.dies_taking("vol-2", "s-1", 12, "other")
    config = rig.home / "bollard.toml"
    text = config.read_text()
    config.write_text(text[: text.index("[increments.other]")])
    [row] = rig.sync().problems()

    assert "no pool with [increments] 'other'" in row.problem
    config.write_text(text)
    assert rig.sync().problems() == []
    assert rig.states() == {"s-1": "Error"}


def test_only_what_a_vm_has_is_ended_for_it(rig: IncrementRig) -> None:
    """The catalog knows nothing of the volume: the hypervisor is asked whose it is."""
    rig.make("vol-1", "other")
    rig.attach("vol-1")
    assert rig.dies_taking("vol-1", "s-1", 12, "other")

    assert rig.sync(vm="vm-1", dry_run=True).planned == []
    assert rig.sync(host="h9", dry_run=True).planned == []
    assert len(rig.sync(host="h1", dry_run=True).planned) == 1
    assert [one.after for one in rig.sync(vm="vm-2").ended] == ["Error"]
