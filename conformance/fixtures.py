"""What checks are given: the opened driver, its ledger and audit, and a lab for each of them.

ledger ── recorder ── audit ── pool ── lab (one per check)
│                    └─ what opens the driver asks for it first, so it ends when all is closed
└─ begun with the first check that opens anything
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ..core.access import Mover
from ..core.journal import Journal
from ..core.mover import mover_host
from ..core.pool import Pool
from ..core.spi import Call, FenceDriver, HypervisorDriver, StorageError
from ..core.store import Store, open_store
from ..simulators.faults.http import HttpProxy
from ..transfer_objects.ids import new_id
from . import plugin
from .between import fault_proxy
from .clean import Place
from .fence_gate import Gate, gate
from .fence_lab import FenceLab, FenceSettings
from .host_lab import HostLab, HostSettings
from .lab import DEEP_SECONDS, Lab, Notes
from .leaks import Audit
from .ledger import Ledger, default_directory
from .model import Check, Outcome, Result
from .probe import Probed, probe
from .recording import (
    ARCHIVE,
    UNDER_TEST,
    Recorder,
    open_recorded_fence,
    open_recorded_hypervisor,
    open_recorded_pool,
    open_recorded_store,
)
from .secrecy import Secrecy
from .settings import SuiteSettings
from .store_lab import StoreLab
from .subject import Subject, subject_of
from .tampering import options_of


@pytest.fixture(scope="session")
def suite(request: pytest.FixtureRequest) -> SuiteSettings:
    """What this run was given."""
    return request.config.stash[plugin.run_key].settings


@pytest.fixture(scope="session")
def subject(suite: SuiteSettings) -> Subject:
    """The driver's class and who offers it; nothing is opened."""
    return subject_of(suite.driver)


@pytest.fixture(scope="session")
def probed(subject: Subject) -> Probed:
    """What importing and constructing the driver did in a process of its own."""
    return probe(subject)


@pytest.fixture(scope="session")
def ledger(request: pytest.FixtureRequest, suite: SuiteSettings) -> Iterator[Ledger]:
    """What this run makes, durable; begun with the first check that opens anything."""
    directory = request.config.getoption("--bollard-ledger") or default_directory()
    begun = Ledger.create(directory, driver=suite.driver, config=suite.config)
    run = begun.contents.run
    request.config.stash[plugin.run_key].runs.append(run)
    _say(request.config, f"run {run}, seed {suite.seed}, ledger in {directory}")
    yield begun
    if not begun.finish():
        _say(request.config, f"not all could be removed: bollard conformance clean --run {run}")


def _say(config: pytest.Config, line: str) -> None:
    """Tell the user in the middle of a fixture, where pytest swallows what is printed."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if reporter is not None:
        with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
            reporter.ensure_newline()
            reporter.write_line(line)


@pytest.fixture(scope="session")
def recorder(request: pytest.FixtureRequest, ledger: Ledger) -> Iterator[Recorder]:
    """What is written down at the driver's door."""
    begun = Recorder(ledger=ledger)
    request.config.stash[plugin.run_key].log = begun.log
    yield begun
    for _, host in begun.hosts:
        host.stop()


@pytest.fixture(scope="session")
def audit(request: pytest.FixtureRequest, recorder: Recorder, secrecy: Secrecy) -> Iterator[Audit]:  # noqa: ARG001 - order
    """The leak audit; everything that opens the driver asks for it first, so it ends when all is closed."""
    begun = Audit(recorder)
    yield begun
    _tell(request, begun.end())


@pytest.fixture(scope="session")
def secrecy(
    request: pytest.FixtureRequest,
    suite: SuiteSettings,
    recorder: Recorder,
    workdir: Path,  # noqa: ARG001 - order
) -> Iterator[Secrecy]:
    """The secret canary; ends after the driver's processes, before their files go."""
    begun = Secrecy(suite, recorder)
    with begun.watching():
        yield begun
    if (kept := request.config.getoption("--bollard-logs")) is not None:
        begun.keep_logs(kept)
    _tell(request, [begun.end()])


def _tell(request: pytest.FixtureRequest, outcomes: list[Outcome]) -> None:
    """Keep what is said of the whole run, and fail where pytest shows it."""
    judged = request.config.stash[plugin.run_key].end(outcomes)
    broken = [f"FAIL {o.check.id} [{o.check.rule}]: {o.message}" for o in judged if o.result is Result.FAIL]
    if broken:
        pytest.fail("\n".join(broken), pytrace=False)


@pytest.fixture(scope="session")
def workdir(ledger: Ledger) -> Iterator[Path]:
    """A directory of this run; beside the ledger, so that `clean` finds it."""
    ledger.work.mkdir(mode=0o700, exist_ok=True)
    yield ledger.work
    shutil.rmtree(ledger.work)


@pytest.fixture(scope="session")
def pool(suite: SuiteSettings, recorder: Recorder, audit: Audit) -> Iterator[Pool]:  # noqa: ARG001 - order
    """The pool under test, opened once."""
    with open_recorded_pool(UNDER_TEST, suite, recorder) as opened:
        yield opened


@pytest.fixture
def fresh_pool(suite: SuiteSettings, recorder: Recorder, audit: Audit) -> Iterator[Pool]:  # noqa: ARG001 - order
    """A second instance of the driver on the same pool."""
    with open_recorded_pool("second", suite, recorder) as opened:
        yield opened


@pytest.fixture(scope="session")
def archive_store(
    suite: SuiteSettings,
    recorder: Recorder,
    audit: Audit,  # noqa: ARG001 - order
    workdir: Path,
) -> Iterator[Store]:
    """Where archive checks write: the configured store, else a directory."""
    if suite.store_driver:
        opened = open_recorded_store(ARCHIVE, suite.store_driver, suite.store_options, suite, recorder)
    else:
        directory = workdir / "store"
        directory.mkdir()
        opened = open_store(ARCHIVE, "nfs", {"path": str(directory)})
    with closing(opened) as store:
        yield store


@pytest.fixture
def notes(request: pytest.FixtureRequest, suite: SuiteSettings) -> Notes:
    """What a check says beside pass and fail; its randomness follows from the run's seed and the check."""
    found = plugin.check_of(request.node)
    assert found is not None
    seed = zlib.crc32(f"{suite.seed}:{found.id}".encode())
    given = request.config.getoption("--bollard-deep-seconds")
    made = request.node.stash[plugin.notes_key] = Notes(
        random=Random(seed),  # noqa: S311 - must repeat
        seed=seed,
        deep_seconds=DEEP_SECONDS if given is None else given,
    )
    return made


@pytest.fixture
def lab(
    request: pytest.FixtureRequest,
    suite: SuiteSettings,
    recorder: Recorder,
    secrecy: Secrecy,
    audit: Audit,
    notes: Notes,
) -> Iterator[Lab | StoreLab | HostLab | FenceLab]:
    """The workplace of one check; skips when the driver lacks what the check needs."""
    found = plugin.check_of(request.node)
    assert found is not None
    prefix, recorder.check = f"{recorder.ledger.prefix}{new_id()[:4]}", found.id
    workdir: Path = request.getfixturevalue("workdir")
    if found.kinds == ("hypervisor",):
        yield from _host_lab(suite, recorder, secrecy, audit, found, prefix, notes)
        return
    if found.kinds == ("fence",):
        with _fence_lab(suite, recorder, workdir, notes) as fence_lab:
            yield fence_lab
            secrecy.after_check(found.id)
            audit.after_check(found.id, Place(fence=fence_lab.witness))
        return
    if found.kinds == ("image-store",):
        open_one = partial(_second_store, suite, recorder)
        proxied = partial(_proxied_store, suite, recorder, workdir)
        with open_one() as store:
            yield StoreLab(store=store, prefix=prefix, second=open_one, proxied=proxied, notes=notes)
            secrecy.after_check(found.id)
            audit.after_check(found.id, Place(stores={UNDER_TEST: store}))
        return
    pool: Pool = request.getfixturevalue("pool")
    lacking = [m for m in found.needs if not _has(pool, m)]
    if lacking:
        pytest.skip("not declared: " + ", ".join(m.__name__ for m in lacking))
    store = request.getfixturevalue("archive_store")
    yield Lab(
        pool=pool,
        mover=Mover(host=mover_host(workdir), journal=Journal(workdir / "journal")),
        prefix=prefix,
        archive_store=store,
        second=partial(_second_pool, suite, recorder),
        proxied=partial(_proxied_pool, suite, recorder, workdir),
        notes=notes,
    )
    secrecy.after_check(found.id)
    # Without a [store] the archive lies in the run's own directory, and goes with it.
    audit.after_check(found.id, Place(pool=pool, stores={ARCHIVE: store} if suite.store_driver else {}))


def _host_lab(
    suite: SuiteSettings,
    recorder: Recorder,
    secrecy: Secrecy,
    audit: Audit,
    found: Check,
    prefix: str,
    notes: Notes,
) -> Iterator[HostLab]:
    place = HostSettings.of(suite.hypervisor)
    with closing(open_recorded_hypervisor(suite, recorder)) as driver:
        _skip_what_hosts_lack(driver, found, place)
        try:
            with HostLab.open(driver, place, prefix, notes) as lab:
                yield lab
        except StorageError as error:
            audit.found_on_host(found.id, f"{type(error).__name__}: {error.message}")
        secrecy.after_check(found.id)
        audit.after_check(found.id, Place(hypervisor=driver))


@contextmanager
def _fence_lab(suite: SuiteSettings, recorder: Recorder, workdir: Path, notes: Notes) -> Iterator[FenceLab]:
    open_one = partial(_second_fence, suite, recorder)

    @contextmanager
    def gated() -> Iterator[tuple[Gate, FenceDriver[Any]]]:
        with gate(suite, options_of(driver), _fresh(workdir)) as (way, options), open_one(options) as behind:
            yield way, behind

    with open_one() as driver, open_one() as witness:
        yield FenceLab(
            driver=driver,
            witness=witness,
            settings=FenceSettings.of(suite.fence),
            suite=suite,
            second=open_one,
            gated=gated,
            notes=notes,
        )


def _second_fence(
    suite: SuiteSettings, recorder: Recorder, options: Mapping[str, Any] | None = None
) -> AbstractContextManager[FenceDriver[Any]]:
    return closing(open_recorded_fence(suite, recorder, options))


def _skip_what_hosts_lack(driver: HypervisorDriver[Any], found: Check, place: HostSettings) -> None:
    needs: tuple[Any, ...] = found.needs  # each is a mix-in, which has `provides`
    lacking = [f"not declared: {m.__name__}" for m in needs if not isinstance(driver, m)]
    if needs and not lacking:
        missing = driver.unavailable(Call.within(place.patience))
        lacking = [f"not available: {missing[m.provides]}" for m in needs if m.provides in missing]
    if lacking:
        pytest.skip("; ".join(lacking))


def _second_pool(
    suite: SuiteSettings,
    recorder: Recorder,
    options: Mapping[str, Any] | None = None,
    *,
    fork: bool = False,
) -> AbstractContextManager[Pool]:
    return open_recorded_pool("second", suite, recorder, options=options, fork=fork)


@contextmanager
def _proxied_pool(
    suite: SuiteSettings, recorder: Recorder, workdir: Path, *, tls_only: bool = False
) -> Iterator[tuple[HttpProxy, Pool]]:
    with (
        fault_proxy(suite, _fresh(workdir), tls_only=tls_only) as (proxy, options),
        _second_pool(suite, recorder, options) as pool,
    ):
        yield proxy, pool


@contextmanager
def _proxied_store(
    suite: SuiteSettings, recorder: Recorder, workdir: Path, *, tls_only: bool = False
) -> Iterator[tuple[HttpProxy, Store]]:
    with (
        fault_proxy(suite, _fresh(workdir), tls_only=tls_only) as (proxy, options),
        _second_store(suite, recorder, options) as store,
    ):
        yield proxy, store


def _fresh(workdir: Path) -> Path:
    made = workdir / new_id("proxy")
    made.mkdir(mode=0o700)
    return made


def _second_store(
    suite: SuiteSettings, recorder: Recorder, options: Mapping[str, Any] | None = None
) -> AbstractContextManager[Store]:
    given = suite.options if options is None else options
    return closing(open_recorded_store(UNDER_TEST, suite.driver, given, suite, recorder))


def _has(pool: Pool, mixin: Any) -> bool:
    return isinstance(pool.driver, mixin) and mixin.provides in pool.capabilities().native
