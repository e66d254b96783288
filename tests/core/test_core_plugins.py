"""Drivers by name: found without being imported, and each way to be broken is told once and clearly."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import textwrap

import pytest

from bollard.core import plugins
from bollard.core.plugins import (
    BrokenDriver,
    DuplicateDriver,
    MissingDependency,
    SpiMismatch,
    UnknownDriver,
    check_driver,
    describe_drivers,
    driver_names,
    kind_of,
    load_driver,
    registered,
)
from bollard.core.spi import FenceDriver

from .ram_driver import RamBareHost, RamManaged
from .ram_store import RamStore

FENCE = """
    from dataclasses import dataclass
    from bollard.core.spi import FenceDriver, option

    @dataclass(frozen=True, kw_only=True)
    class Options:
        host: str = option(help="The BMC")

    class Fence(FenceDriver[Options]):
        spi = (1, 0)
        Options = Options
        def close(self): ...
        def power_state(self, call): ...
        def power_off(self, call): ...
        def power_on(self, call): ...
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that installs a distribution as pip does: a module and its dist-info on sys.path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(distribution: str, driver: str, value: str, code: str | None = None) -> None:
        info = tmp_path / f"{distribution}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[bollard.drivers]\n{driver} = {value}\n")
        if code is not None:
            (tmp_path / f"{value.partition(':')[0]}.py").write_text(textwrap.dedent(code))
        importlib.invalidate_caches()

    yield install
    for name in [
        n for n, m in sys.modules.items() if (getattr(m, "__file__", None) or "").startswith(str(tmp_path))
    ]:
        del sys.modules[name]


def described(name: str) -> plugins.DriverInfo:
    """The line of `bollard drivers` about one driver; all of them at once import every SDK."""
    return plugins.describe_driver(name)


def test_installed_driver_loads(install):
    """A complete driver of an installed distribution is found, loaded and described."""
    install("acme-bollard", "acme", "acme_good:Fence", FENCE)

    assert "acme" in driver_names()
    assert issubclass(load_driver("acme"), FenceDriver)
    assert described("acme") == plugins.DriverInfo(
        name="acme", distribution="acme-bollard 1.2", kind="fence", spi="1.0"
    )


def test_listing_imports_nothing(install, tmp_path):
    """Names are listed without importing any driver, its dependencies or Bollard's own drivers."""
    install("acme-bollard", "acme", "acme_loud:Fence", "raise SystemExit('imported')")
    program = """
        import sys
        from bollard.core.plugins import driver_names
        names = driver_names()
        assert "acme" in names and "s3" in names, names
        heavy = {"acme_loud", "boto3", "swiftclient", "paramiko", "pyghmi", "bollard.drivers"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """

    environment = dict(os.environ) | {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60, env=environment)


def test_unknown_name_lists_what_is_there(install):
    """Asking for a driver that nobody offers names those that somebody does."""
    install("acme-bollard", "acme", "acme_good:Fence", FENCE)

    with pytest.raises(UnknownDriver, match=r"'amce'.*installed are:.*\bacme\b"):
        load_driver("amce")


def test_duplicate_names_both_distributions(install):
    """Two distributions that offer one name are both named, and neither is taken."""
    install("acme-bollard", "acme", "acme_good:Fence", FENCE)
    install("rival-bollard", "acme", "rival:Fence", FENCE)

    with pytest.raises(DuplicateDriver, match=r"acme-bollard 1\.2 .* and rival-bollard 1\.2 .*uninstall"):
        load_driver("acme")
    assert {"acme-bollard 1.2", "rival-bollard 1.2"} == set(described("acme").distribution.split(", "))


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("import no_such_sdk", MissingDependency, "module 'no_such_sdk' is not installed"),
        ("raise RuntimeError('no licence')", BrokenDriver, "raised RuntimeError: no licence"),
        ("1 +", BrokenDriver, "raised SyntaxError"),
        ("from json import no_such_name", BrokenDriver, "raised ImportError"),
        ("x = 1", BrokenDriver, "raised AttributeError"),
        ("Fence = 5", BrokenDriver, "5 is not a subclass of ManagedPrimaryDriver, HostPrimaryDriver"),
        ("class Fence: ...", BrokenDriver, "is not a subclass of"),
        (FENCE.replace("def power_on", "def on"), BrokenDriver, "Fence lacks the methods power_on"),
        (FENCE.replace("def power_", "def x_"), BrokenDriver, "methods power_off, power_on, power_state"),
        (FENCE.replace("        Options = Options", ""), BrokenDriver, "Options must be a dataclass"),
        (FENCE.replace("host: str", "host: list[str]"), BrokenDriver, "not a type of option"),
        (FENCE.replace("host: str", "host: NoSuch"), BrokenDriver, "NoSuch"),
        (FENCE.replace("spi = (1, 0)", "spi = (1, 2)"), SpiMismatch, "needs SPI 1.2.*1.1: upgrade bollard"),
        (FENCE.replace("spi = (1, 0)", "spi = (2, 0)"), SpiMismatch, "needs SPI 2.0.*upgrade bollard"),
        (FENCE.replace("spi = (1, 0)", "spi = '1.0'"), BrokenDriver, "spi must be two numbers"),
        (FENCE.replace("spi = (1, 0)", "spi = 1"), BrokenDriver, "spi must be two numbers"),
    ],
)
def test_broken_driver_is_told(install, code, kind, message):
    """Each defect has its class; the message names driver, distribution and cause, and listing goes on."""
    install("acme-bollard", "acme", "acme_bad:Fence", code)

    with pytest.raises(kind, match=message) as caught:
        load_driver("acme")

    assert (caught.value.driver, caught.value.distribution) == ("acme", "acme-bollard 1.2")
    assert str(caught.value).startswith("driver 'acme' (from acme-bollard 1.2): ")
    assert described("acme").error == str(caught.value)


@pytest.mark.parametrize(
    ("ours", "loads"),
    [((1, 0), True), ((1, 4), True), ((2, 0), True), ((2, 9), True), ((3, 0), False), ((9, 9), False)],
)
def test_one_major_back_is_spoken(monkeypatch, ours, loads):
    """A driver of SPI 1.0 loads in Bollards of SPI 1 and 2, and is told to upgrade from 3 on."""
    monkeypatch.setattr(plugins, "SPI_VERSION", ours)
    cls = type("Old", (RamManaged,), {"spi": (1, 0)})

    if loads:
        assert check_driver("old", "here", cls) is cls
    else:
        with pytest.raises(SpiMismatch, match="upgrade the driver"):
            check_driver("old", "here", cls)


def test_same_entry_twice_is_no_conflict(install, tmp_path, monkeypatch):
    """A build directory beside an editable install shows one distribution twice: that is not two offers."""
    install("acme-bollard", "acme", "acme_good:Fence", FENCE)
    [entry] = plugins._entries("acme")
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **_: importlib.metadata.EntryPoints([entry, entry])
    )

    assert load_driver("acme").__name__ == "Fence"


def test_one_broken_driver_does_not_stop_the_list(install):
    """All drivers are described, the broken one with its error."""
    install("acme-bollard", "acme", "acme_bad:Fence", "raise RuntimeError")

    found = describe_drivers()
    assert [d.name for d in found] == driver_names()
    assert "RuntimeError" in next(d.error for d in found if d.name == "acme")


def test_registered_offers_a_class_for_a_while():
    """In-process registration lasts as long as the block, also if it raises."""
    with registered("ram", RamManaged):
        assert load_driver("ram") is RamManaged
        assert "ram" in driver_names()
        assert described("ram").kind == "managed"
        assert described("ram").capabilities == tuple(sorted(c.value for c in RamManaged.declared()))
        with pytest.raises(DuplicateDriver), registered("ram", RamManaged):
            pass
    with pytest.raises(ZeroDivisionError), registered("ram", RamManaged):
        raise ZeroDivisionError

    assert "ram" not in driver_names()


def test_registered_does_not_shadow_an_installed_driver(install):
    """A name that a distribution offers cannot be taken in process."""
    install("acme-bollard", "acme", "acme_good:Fence", FENCE)

    with pytest.raises(DuplicateDriver, match="already taken"), registered("acme", RamManaged):
        pass


def test_kinds():
    """Each class has the kind of its base."""
    assert [kind_of(c) for c in (RamManaged, RamBareHost, RamStore)] == ["managed", "host", "image-store"]


@pytest.mark.parametrize("name", ["array", "nfs", "qcow2", "s3", "swift"])
def test_own_driver_is_listed_from_our_distribution(name):
    """The drivers that ship with Bollard are found the way everybody's are."""
    assert name in driver_names()
    assert {e.dist and e.dist.name for e in plugins._entries(name)} == {"bollard"}
