"""Running the suite from a program: what `bollard conformance run` calls."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from ..core.fence import fence_driver
from ..core.plugins import describe_driver, kind_of, load_driver
from ..core.pool import Pool, open_pool
from ..core.redact import secrets_of
from ..core.spi import (
    Call,
    FenceDriver,
    HypervisorDriver,
    ImageStoreDriver,
    Internal,
    InvalidArgument,
    StorageError,
    parse_options,
)
from ..core.store import Store, open_store
from ..transfer_objects.secret import Secret
from . import plugin
from .artefact import artefact_of
from .fence_lab import FenceSettings
from .lab import DEEP_SECONDS
from .model import Tier, Verdict
from .registry import CHECKS
from .selection import Selection, parse_select, parse_shard, require_known
from .settings import SuiteSettings, load_settings
from .undisturbed import plugins, undisturbed


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How much is run, and how.

    Attributes:
        tier: with `Tier.STATIC` nothing is opened, and no options are needed.
        select: ids or patterns, each perhaps several with commas.
        profiles: names; core is always among them.
        shard: "i/n".
        jobs: processes side by side, each with volumes and a ledger of its own.
        seed: None for a random one.
        deep_seconds: that each check of long random histories (tier deep) may spend.
        in_process: run the driver in the suite's process.
        logs: where to copy what the driver's processes wrote, without secrets.
        ledger: directory of the run's ledgers, see `ledger.default_directory`.
        quiet: print nothing.
    """

    tier: Tier = Tier.STANDARD
    select: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    shard: str = "1/1"
    jobs: int = 1
    seed: int | None = None
    deep_seconds: float = DEEP_SECONDS
    in_process: bool = False
    logs: Path | None = None
    ledger: Path | None = None
    quiet: bool = False


def secrets_of_run(driver: str, config: Path | None) -> list[Secret]:
    """Return the secrets among the driver's options, which no report may show; none if they are bad."""
    settings = load_settings(driver, config)
    try:
        return secrets_of(parse_options(load_driver(settings.driver).Options, settings.options))
    except InvalidArgument:  # the static tier needs no options
        return []


class _Collector:
    """Takes the run out of the pytest session."""

    def __init__(self) -> None:
        self.run: plugin.Run | None = None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.run = session.config.stash[plugin.run_key]


def run_suite(driver: str, config: Path | None = None, options: RunOptions | None = None) -> Verdict:
    """Run the checks against a driver.

    Args:
        driver: entry-point name; may be empty if the configuration names it.
        config: the vendor's TOML file.
        options: how much, and how.

    Raises:
        InvalidArgument: the configuration or an option is bad.
        PluginError: the driver cannot be loaded.
        StorageError: the pool or store cannot be opened.
    """
    given = options or RunOptions()
    options = (
        dataclasses.replace(given, seed=random.SystemRandom().getrandbits(32))
        if given.seed is None
        else given
    )
    settings = load_settings(driver, config)
    _check(settings, options)
    if options.tier is not Tier.STATIC:
        _try_to_open(settings)
    started, collector = time.time(), _Collector()
    arguments = _arguments(settings, config, options)
    silent = contextlib.redirect_stdout(io.StringIO()) if options.quiet else contextlib.nullcontext()
    with undisturbed(), silent:
        code = pytest.main(arguments, plugins=[collector])
    if code == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if collector.run is None or code in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        raise Internal(f"pytest could not run the suite ({pytest.ExitCode(code).name})")
    return _verdict(settings, options, collector.run, started)


def _check(settings: SuiteSettings, options: RunOptions) -> None:
    """Refuse what cannot be run in one sentence, before pytest says it in a page.

    Raises:
        InvalidArgument: naming the option.
        PluginError: the driver cannot be loaded.
    """
    if options.jobs < 1:
        raise InvalidArgument(f"--jobs must be at least 1, got {options.jobs}")
    if options.deep_seconds < 1:  # less would be a pass without a history
        raise InvalidArgument(f"--deep-seconds must be at least 1, got {options.deep_seconds:g}")
    if options.tier is Tier.DISRUPTIVE and not settings.disruptive:
        raise InvalidArgument(
            "tier disruptive restarts and fills the backend: write `disruptive = true` in the configuration"
        )
    require_known(settings)
    selection = Selection(
        kind=kind_of(load_driver(settings.driver)),
        tier=options.tier,
        select=parse_select(options.select),
        shard=parse_shard(options.shard),
        profiles=parse_select(options.profiles),
    )
    selection.chosen()


def _arguments(settings: SuiteSettings, config: Path | None, options: RunOptions) -> list[str]:
    arguments = [
        *plugins(options.jobs),
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        "--assert=plain",
        "-q",
        "--no-header",
    ]
    # No ini file: neither ours nor one that lies near the vendor's configuration has a say.
    arguments += ["-c", os.devnull, f"--rootdir={CHECKS}", "--no-summary", "--tb=no"]
    arguments += [f"--bollard-driver={settings.driver}", f"--bollard-tier={options.tier}"]
    arguments += [f"--bollard-seed={options.seed}", f"--bollard-shard={options.shard}"]
    arguments += [f"--bollard-deep-seconds={options.deep_seconds}"]
    arguments += [f"--bollard-config={config.absolute()}"] if config else []
    arguments += [f"--bollard-select={text}" for text in options.select]
    arguments += [f"--bollard-profile={text}" for text in options.profiles]
    arguments += ["--bollard-in-process"] if options.in_process else []
    arguments += ["-n", str(options.jobs)] if options.jobs > 1 else []
    arguments += [f"--bollard-logs={options.logs.absolute()}"] if options.logs else []
    arguments += [f"--bollard-ledger={options.ledger.absolute()}"] if options.ledger else []
    return arguments


def _verdict(settings: SuiteSettings, options: RunOptions, run: plugin.Run, started: float) -> Verdict:
    ended = time.time()
    info = describe_driver(settings.driver)
    return Verdict(
        driver=settings.driver,
        distribution=info.distribution,
        kind=run.selection.kind,
        tier=options.tier,
        run=",".join(run.runs),
        seed=options.seed or 0,
        started=started,
        seconds=ended - started,
        capabilities=info.capabilities,
        artefact=artefact_of(settings.driver),
        outcomes=tuple(plugin.all_outcomes(run, ended=ended)),
    )


def _try_to_open(settings: SuiteSettings) -> None:
    """Open the pool or store once, or read the power: a wrong address is one sentence then.

    Raises:
        PluginError: the driver cannot be loaded.
        StorageError: it is not marked for tests, or what opening it says.
    """
    cls = load_driver(settings.driver)
    settings.require_test_pool()
    if issubclass(cls, FenceDriver):
        with contextlib.closing(fence_driver(settings.driver, settings.options)) as fence:
            fence.power_state(Call.within(FenceSettings.of(settings.fence).patience))
        return
    opens: Callable[[], Pool | Store] = partial(open_pool, "under-test", settings.driver, settings.options)
    if issubclass(cls, ImageStoreDriver):
        opens = partial(open_store, "under-test", settings.driver, settings.options)
    if not issubclass(cls, HypervisorDriver):
        opened = opens()
        with contextlib.suppress(StorageError):  # whether it closes as it should is for the checks to say
            opened.close()
