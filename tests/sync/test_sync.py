"""`core/service/sync.py`: groups go on their own, in order; what is transient ends at rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from bollard.core.access import Mover
from bollard.core.journal import Journal
from bollard.core.service.sync import Ended, Sync, Task
from bollard.core.service.sync_volumes import ActSync
from bollard.core.service.templates import TemplateService
from bollard.core.service.volumes_records import NewVolume
from bollard.core.spi import Call, Conflict, Host, Internal, TemplateSpec, Unavailable
from bollard.transfer_objects.ids import HostId, TemplateId, VolumeId
from volume_site import H1, VM, Process, Site, call

pytest_plugins = ["catalog_fixture"]

MIB = 2**20


# -- the order of things ------------------------------------------------------------------------------


@dataclass
class Tasks:
    """A kind whose tasks are given by the test."""

    tasks: Sequence[tuple[str, str, Callable[[], object]]]
    asked: list[tuple[str, str]] = field(default_factory=list)

    def unfinished(self, *, vm: str, host: str) -> Iterator[Task]:
        """The tasks: group, id, and what is done."""
        self.asked.append((vm, host))
        for group, name, act in self.tasks:
            yield Task(kind="thing", id=name, group=group, what="going", end=self._end(name, act))

    def _end(self, name: str, act: Callable[[], object]) -> Callable[[Call], Sequence[Ended]]:
        def end(_: Call) -> Sequence[Ended]:
            act()
            return [Ended(kind="thing", id=name, before="going", after="at rest")]

        return end


def raising(error: Exception) -> Callable[[], object]:
    """What fails."""

    def act() -> object:
        raise error

    return act


def test_a_backend_that_hangs_delays_no_other():
    """Its group waits for the other one's end, which would never come if they were one after the other."""
    other_ended = threading.Event()
    first = Tasks([("hangs", "a", lambda: other_ended.wait(60)), ("answers", "b", other_ended.set)])

    report = Sync(kinds=[first]).run(call())
    assert [one.id for one in report.ended] == ["a", "b"]
    assert other_ended.is_set()


def test_tasks_of_a_group_follow_each_other_over_all_kinds():
    """All of a VM's, in the order in which they were found, whatever they are."""
    order: list[str] = []
    kinds = [
        Tasks([("vm 1", name, lambda name=name: order.append(name)) for name in names])  # type: ignore[misc]  # bound
        for names in ("ab", "cd")
    ]
    Sync(kinds=kinds).run(call())
    assert order == ["a", "b", "c", "d"]


def test_a_failure_is_told_and_the_next_one_gets_its_turn():
    """A problem of one object, and a kind that cannot be asked, keep nothing else from being synced."""

    class Silent:
        """A kind whose records cannot be read."""

        def unfinished(self, **_: str) -> Iterator[Task]:
            """Fail."""
            raise Internal("the catalog failed")

    done: list[str] = []
    tasks = Tasks([("g", "a", raising(Unavailable("no answer"))), ("g", "b", lambda: done.append("b"))])
    report = Sync(kinds=[Silent(), tasks]).run(call())

    assert [(one.id, one.problem) for one in report.ended] == [("a", "no answer"), ("b", "")]
    assert [one.id for one in report.problems()] == ["a"]
    assert [error.message for error in report.errors] == ["the catalog failed"]
    assert done == ["b"]


def test_a_row_that_no_code_has_foreseen_keeps_no_other_from_being_ended():
    """It is told as a problem, without what it holds; those after it, and those of other groups, rest."""
    done: list[str] = []
    tasks = Tasks(
        [
            ("g", "a", raising(KeyError("secret"))),
            ("g", "b", lambda: done.append("b")),
            ("h", "c", lambda: done.append("c")),
        ]
    )
    report = Sync(kinds=[tasks]).run(call())
    assert [one.id for one in report.problems()] == ["a"]
    assert "KeyError" in report.problems()[0].problem
    assert "secret" not in report.problems()[0].problem
    assert sorted(done) == ["b", "c"]


def test_a_dry_run_ends_nothing_and_progress_counts_tasks():
    """The plan is told; a real run tells how far it is."""
    done: list[str] = []
    tasks = Tasks([("g", "a", lambda: done.append("a")), ("h", "b", lambda: done.append("b"))])
    report = Sync(kinds=[tasks]).run(call(), vm="vm-1", dry_run=True)
    assert ([one.id for one in report.planned], done, tasks.asked) == (["a", "b"], [], [("vm-1", "")])

    steps: list[tuple[int, int]] = []
    Sync(kinds=[tasks]).run(Call.within(60, progress=lambda *at: steps.append(at)), host="h1")
    assert sorted(steps) == [(1, 2), (2, 2)]
    assert tasks.asked[-1] == ("", "h1")


def test_a_cancelled_sync_begins_nothing_more():
    """What it has not begun stays for the next one."""
    cancelled = call()
    done: list[str] = []
    tasks = Tasks([("g", "a", cancelled.cancel.set), ("g", "b", lambda: done.append("b"))])
    report = Sync(kinds=[tasks]).run(cancelled)
    assert (done, [one.id for one in report.problems()]) == ([], ["b"])


# -- volumes and templates ----------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path, catalog_url) -> Iterator[Site]:
    """An array, a cluster with a host and a VM, and a catalog."""
    with Site(tmp_path, catalog_url) as opened:
        yield opened


def new(name: str) -> NewVolume:
    """A specification."""
    return NewVolume(id=VolumeId(name), pool="gold", size=8 * MIB)


def sync_of(process: Process) -> Sync:
    """The sync of volumes."""
    return Sync(kinds=[ActSync(works=process.works, settlers={"volume": process.volumes.settle})])


def test_what_several_dead_processes_left_is_ended_and_the_living_one_goes_on(site, monkeypatch):
    """Volumes end at rest; the one that is grown just now is not touched; then there is nothing to do."""
    survivor = site.process()
    for name in ("v-1", "v-2"):
        dying = site.process(survivor)
        with dying.dies_at(8):
            dying.volumes.create(new(name), call())
    survivor.volumes.create(new("v-3"), call())
    reports = []

    def meanwhile(*args: object, **kwargs: object) -> object:
        monkeypatch.undo()
        other = site.process()
        assert [task.id for task in sync_of(other).run(call(), dry_run=True).planned] == ["v-1", "v-2"]
        reports.append(sync_of(other).run(call()))
        return grow(*args, **kwargs)

    grow = survivor.pool.driver.resize_volume  # type: ignore[attr-defined]  # an array can
    monkeypatch.setattr(survivor.pool.driver, "resize_volume", meanwhile)
    survivor.volumes.resize(VolumeId("v-3"), 16 * MIB, call())

    assert [(one.id, one.problem) for one in reports[0].ended] == [("v-1", ""), ("v-2", "")]
    assert site.told(survivor) == site.truth()
    assert sync_of(survivor).run(call()).planned == []


def test_a_sync_of_one_vm_or_host_leaves_the_rest(site):
    """--vm and --host look at their own."""
    survivor = site.process()
    for name in ("v-1", "v-2"):
        survivor.volumes.create(new(name), call())
    dying = site.process(survivor)
    with dying.dies_at(9):
        dying.attachments.attach(VolumeId("v-1"), VM, H1, "cluster", call())
    dying = site.process(survivor)
    with dying.dies_at(6):
        dying.volumes.delete(VolumeId("v-2"), call())
    sync = sync_of(survivor)

    assert [task.id for task in sync.run(call(), dry_run=True).planned] == ["v-1", "v-2"]
    assert sync.run(call(), vm="vm-9").planned == []
    assert [one.id for one in sync.run(call(), vm=VM).ended] == ["v-1"]
    assert sync.run(call(), host="h1").planned == []
    assert [one.id for one in sync.run(call()).ended] == ["v-2"]
    assert site.told(survivor) == site.truth()


def test_what_cannot_be_ended_now_stays_and_says_why(site, monkeypatch):
    """The array does not delete; the next sync does."""
    process = site.process()
    process.volumes.create(new("v-1"), call())
    delete = process.pool.driver.delete_volume

    def refuse(*_: object) -> None:
        raise Conflict("not today")

    monkeypatch.setattr(process.pool.driver, "delete_volume", refuse)
    with pytest.raises(Conflict):
        process.volumes.delete(VolumeId("v-1"), call())
    [problem] = sync_of(process).run(call()).problems()
    assert (problem.id, problem.before, problem.problem) == ("v-1", "delete", "not today")
    monkeypatch.setattr(process.pool.driver, "delete_volume", delete)
    assert sync_of(process).run(call()).problems() == []
    assert site.told(process) == site.truth() == {"volumes": {}, "grants": {}, "known": [], "disks": []}


TEMPLATE = TemplateSpec(id=TemplateId("t-1"), size=8 * MIB, name="debian")
MOVER = Host(id=HostId("mover"), iqn="iqn.2026-01.org.example:mover", chap_user="mover")


def templates(site: Site, process: Process) -> TemplateService:
    """The service of templates."""
    host = Host(id=MOVER.id, iqn=MOVER.iqn, chap_user=MOVER.chap_user, chap_secret=H1.chap_secret)
    mover = Mover(host=host, journal=Journal(site.home / "journal"))
    return TemplateService(catalog=process.catalog, works=process.works, site=process.site, mover=mover)


def test_a_template_is_seeded_once_and_cloned_from(site):
    """The second seeding writes nothing; volumes of it exist; it goes and may come again."""
    process = site.process()
    service, written = templates(site, process), []

    def fill(sink: object, _: Call) -> None:
        written.append(sink)
        sink.write(0, b"bootable" * 64)  # type: ignore[attr-defined]  # a BlockSink

    for _ in range(2):
        assert service.seed(TEMPLATE, "gold", fill, call()).state == "Ready"
    assert len(written) == 1
    clone = NewVolume(id=VolumeId("v-1"), pool="gold", size=8 * MIB, template=TEMPLATE.id)
    assert process.volumes.create(clone, call()).parent_template == TEMPLATE.id
    process.volumes.delete(VolumeId("v-1"), call())
    for _ in range(2):
        service.evict(TEMPLATE.id, "gold", call())
    assert service.seed(TEMPLATE, "gold", fill, call()).state == "Ready"
    with pytest.raises(Conflict):
        service.seed(TemplateSpec(id=TEMPLATE.id, size=16 * MIB), "gold", fill, call())


@pytest.mark.slow
@pytest.mark.parametrize("task", ["seed", "evict"])
def test_a_template_whose_process_died_is_seeded_or_gone(site, task):
    """Death at each step of it, then a sync: no half seed is left, and seeding again works."""
    survivor = site.process()
    service, step = templates(site, survivor), 0
    sync = Sync(kinds=[ActSync(works=survivor.works, settlers={"template": service.settle})])

    def fill(sink: object, _: Call) -> None:
        sink.write(0, b"bootable" * 64)  # type: ignore[attr-defined]  # a BlockSink

    while True:
        step += 1
        if task == "evict":
            service.seed(TEMPLATE, "gold", fill, call())
        dying = site.process(survivor)
        with dying.dies_at(step) as mortal:
            doomed = templates(site, dying)
            if task == "seed":
                doomed.seed(TEMPLATE, "gold", fill, call())
            else:
                doomed.evict(TEMPLATE.id, "gold", call())
        assert sync.run(call()).problems() == []
        assert service.seed(TEMPLATE, "gold", fill, call()).state == "Ready"
        service.evict(TEMPLATE.id, "gold", call())
        assert site.truth()["volumes"] == {}
        if not mortal.dead:
            break
    assert step > 6
