"""Each static check passes a good driver, and fails the one that was made for it, in the right words."""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bollard.conformance.checks import static, static_options
from bollard.conformance.lab import ContractBroken
from bollard.conformance.probe import probe
from bollard.conformance.registry import ATTRIBUTE
from bollard.conformance.subject import Subject, subject_of
from bollard.core.plugins import registered

CHECKS: dict[str, Callable[..., None]] = {
    getattr(f, ATTRIBUTE).id: f
    for module in (static, static_options)
    for f in vars(module).values()
    if hasattr(f, ATTRIBUTE)
}

GOOD = """
from dataclasses import dataclass

from bollard.core.spi import Capability, HostPrimaryDriver, InvalidArgument, Traits, Unsupported, option
from bollard.transfer_objects.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    url: str = option(help="Where it answers", example="https://storage.test")
    password: Secret = option(help="Its password", secret=True)
    attempts: int = option(help="How often", default=3, minimum=1, maximum=9)
    mode: str = option(help="Which way", default="fast", choices=("fast", "safe"))

    def __post_init__(self):
        pass


class GoodDriver(HostPrimaryDriver[Options]):
    spi = (1, 0)
    Options = Options

    def open(self, call):
        raise Unsupported("not yet")

    def close(self):
        pass

    def traits(self):
        return Traits()

    def create_volume(self, spec, call):
        raise Unsupported("not yet")

    def delete_volume(self, volume, call):
        raise Unsupported("not yet")

    def get_volume(self, volume, call):
        raise Unsupported("not yet")

    def list_volumes(self, call, *, after=None, limit=1000):
        raise Unsupported("not yet")

    def locate_volume(self, volume, call):
        raise Unsupported("not yet")
"""

METADATA = """Metadata-Version: 2.4
Name: {name}-bollard
Version: 1.0
Summary: A driver
License-Expression: Apache-2.0
Requires-Python: >=3.11
"""

SIDE = "static.import_has_no_side_effects"
MAKE = "static.construct_opens_nothing"
FORM = "static.options_declared"
TYPED = "static.options_hostile_text_typed"
CALLS = "static.signatures_match"
TOP, INIT = "\nfrom dataclasses", "    def open(self, call):"
POST = "    def __post_init__(self):\n        pass\n"
CLOSE = "    def close(self):\n        pass\n"
LIST = "    def list_volumes(self, call, *, after=None, limit=1000):"
URL = 'url: str = option(help="Where it answers", example="https://storage.test")'
GET = "get_volume(self, volume, call)"
MIXED = "static.capabilities_are_mixins"
SCHEMA = "static.options_schema_valid"
TELLS = "    def __repr__(self):\n        return self.password.reveal()\n"
PLAIN = 'password: str = option(help="Its password", example="x")'
PASSWORD = 'password: Secret = option(help="Its password", secret=True)'


# (check, what of GOOD, what instead, words of the verdict)
def _alone(module: str, deed: str) -> str:
    """Return an import with a side effect that spares the tests' own process."""
    return f"\nimport sys\nimport {module}\nif 'pytest' not in sys.modules: {deed}{TOP}"


DEFECTS = [
    (SIDE, TOP, _alone("logging", "logging.basicConfig()"), "sets up logging"),
    (SIDE, TOP, _alone("os", "os.environ['A_B'] = 'x'"), "changes the environment"),
    (SIDE, TOP, _alone("os", "os.chdir('/')"), "changes the working directory"),
    (SIDE, TOP, _alone("warnings", "warnings.simplefilter('ignore')"), "changes the warning filters"),
    (SIDE, TOP, _alone("signal", "signal.signal(signal.SIGUSR1, print)"), "changes signal handlers"),
    (SIDE, TOP, _alone("threading", "threading.Timer(9, print).start()"), "threads"),
    (SIDE, TOP, _alone("subprocess", "subprocess.run(['true'])"), "calls subprocess.Popen"),
    (SIDE, TOP, _alone("socket", "kept = socket.socket()"), "leaves sockets open"),
    (SIDE, TOP, _alone("os", "raise OSError('no array')"), "no array"),
    ("static.import_is_cheap", TOP, "\nimport time\ntime.sleep(0.5)" + TOP, "ms: import late"),
    (MAKE, INIT, "    def __init__(self, options):\n        open('/dev/full', 'w')\n" + INIT, "for writing"),
    (MAKE, INIT, "    def __init__(self, options):\n        raise OSError('no array')\n" + INIT, "no array"),
    (MAKE, INIT, "    def __init__(self, options, pool):\n        pass\n" + INIT, "TypeError"),
    ("static.close_unopened", CLOSE, CLOSE.replace("pass", "self.session.close()"), "no attribute 'session'"),
    ("static.close_unopened", CLOSE, CLOSE.replace("pass", "del self.options"), "AttributeError"),
    ("static.spi_version_stated", "    spi = (1, 0)\n", "", "does not state spi"),
    (CALLS, GET, GET.replace("volume,", "name,"), "calls 'volume' 'name'"),
    (CALLS, GET, GET.replace(", call", ""), "does not take 'call' at place 2"),
    (CALLS, GET, GET.replace("call", "call, pool"), "demands 'pool'"),
    (CALLS, LIST, LIST.replace(", limit=1000", ""), "does not take the keyword 'limit'"),
    (CALLS, LIST, LIST.replace("1000", "50"), "another default for 'limit'"),
    (CALLS, LIST, "    async" + LIST[3:], "asynchronous"),
    (CALLS, INIT, "    @staticmethod\n" + INIT, "not an ordinary method"),
    (MIXED, INIT, "    provides = Capability.RESIZE\n" + INIT, "without the mix-in: resize"),
    ("static.methods_are_declared", INIT, "    capacity = print\n" + INIT, "ReportsCapacity"),
    (FORM, "frozen=True, ", "", "is not frozen"),
    (FORM, '"Its password"', '" "', "password has no help"),
    (FORM, ', example="https://storage.test"', "", "url is required and has no example"),
    (FORM, POST, "    plain: str = ''\n" + POST, "plain is not made by option()"),
    (SCHEMA, "default=3", "default=0", "default of attempts breaks its own rule"),
    (SCHEMA, "minimum=1,", "example='many',", "example of attempts breaks its own rule"),
    (
        "static.options_minimal_accepted",
        POST,
        POST.replace("pass", "raise InvalidArgument('url must be a pool')"),
        "the examples are refused: InvalidArgument: url must be a pool",
    ),
    (TYPED, POST, POST.replace("pass", "self.url[0]"), "a bad 'url' gives IndexError"),
    (
        TYPED,
        POST,
        POST.replace("pass", "if '.' not in self.url: raise InvalidArgument(self.password.reveal())"),
        "InvalidArgument about the options shows a secret",
    ),
    ("static.secrets_are_typed", PASSWORD, PLAIN, "password: looks secret"),
    ("static.secrets_never_show", POST, TELLS, "repr of the options shows"),
]  # fmt: skip

_numbers = itertools.count()


def _offer(home: Path, source: str, *, name: str = "", metadata: str = METADATA) -> str:
    """Write a distribution with one module and one driver, and return the driver's name."""
    module = f"static_subject_{next(_numbers)}"
    name = name or module.replace("_", "-")
    (home / f"{module}.py").write_text(source, encoding="utf-8")
    info = home / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(metadata.format(name=module), encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[bollard.drivers]\n{name} = {module}:GoodDriver\n")
    importlib.invalidate_caches()
    return name


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that Python imports from."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def _run(check: str, subject: Subject) -> None:
    function = CHECKS[check]
    wanted = inspect.signature(function).parameters
    function(**{"subject": subject} | ({"probed": probe(subject)} if "probed" in wanted else {}))


def _verdict(check: str, subject: Subject) -> str:
    with pytest.raises(ContractBroken) as caught:
        _run(check, subject)
    return str(caught.value)


@pytest.mark.parametrize(
    ("check", "old", "new", "words"), DEFECTS, ids=[f"{check}-{words}" for check, _, _, words in DEFECTS]
)
def test_defect_is_told(home: Path, check: str, old: str, new: str, words: str) -> None:
    """A driver with one defect fails the check that is made for it."""
    assert GOOD.count(old) == 1
    subject = subject_of(_offer(home, GOOD.replace(old, new)))

    assert words in _verdict(check, subject)


def test_good_driver_passes_all(home: Path) -> None:
    """The driver that the defects are made of passes every static check."""
    subject = subject_of(_offer(home, GOOD))

    for check in CHECKS:
        _run(check, subject)


@pytest.mark.parametrize("name", ["qcow2", "array", "nfs", "s3", "swift"])
def test_own_drivers_pass(name: str) -> None:
    """Bollard's own drivers pass every static check."""
    subject = subject_of(name)

    for check in sorted(CHECKS.keys() - {"static.import_is_cheap"}):  # the machine's load is not the driver's
        _run(check, subject)


def test_second_offer_is_told(home: Path) -> None:
    """Two distributions that offer one name are both named."""
    name = _offer(home, GOOD)
    subject = subject_of(name)
    _offer(home, GOOD, name=name)

    assert "offered by" in _verdict("static.entry_point_resolves", subject)


def test_incomplete_metadata_is_told(home: Path) -> None:
    """What the metadata lacks is listed; a driver of no distribution has none at all."""
    bare = subject_of(_offer(home, GOOD, metadata="Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n"))
    with registered("in-process", bare.cls):
        unknown = subject_of("in-process")

    told = _verdict("static.metadata_complete", bare)
    assert told.endswith("lacks Summary, Requires-Python, License-Expression")
    assert "no installed distribution" in _verdict("static.metadata_complete", unknown)


def test_lenient_core_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should core ever accept unknown options or bad values, the suite says so: no driver can do that."""

    def lenient(cls: type[Any], raw: dict[str, Any]) -> Any:
        return cls(**{name: raw[name] for name in raw if name in cls.__dataclass_fields__})

    subject = subject_of(_offer(home, GOOD))
    monkeypatch.setattr(static_options, "parse_options", lenient)

    assert "is accepted" in _verdict("static.options_unknown_refused", subject)
    assert "accepts a bad value of type int" in _verdict("static.options_bad_values_refused", subject)


def test_module_that_ends_the_process_is_told(home: Path) -> None:
    """A module that kills the process that imports it is a finding, not the end of the suite."""
    subject = subject_of(_offer(home, GOOD.replace(TOP, _alone("os", "os._exit(3)"))))

    assert "ended the process with code 3" in _verdict(SIDE, subject)


def test_each_check_has_a_defect() -> None:
    """No static check is left that nothing was ever seen to fail."""
    elsewhere = {
        "entry_point_resolves",
        "metadata_complete",
        "options_unknown_refused",
        "options_bad_values_refused",
    }
    assert {check for check, *_ in DEFECTS} | {f"static.{name}" for name in elsewhere} == CHECKS.keys()
