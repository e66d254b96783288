"""The broken static drivers of tests/conformance/test_static_checks.py, run as a vendor would.

They are read from that test, and not copied: whoever adds one there has a mutant.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from catalogue import Mutant, must_checks

_TEST = Path(__file__).parents[1] / "conformance" / "test_static_checks.py"
_CATALOGUE = "design/conformance.md, group 0"
_HAS = "static.metadata_complete"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("static_drivers", _TEST)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_static = _load()

_LENIENT = """
import sys
if "bollard" in " ".join(sys.orig_argv):
    from bollard.conformance.checks import static_options

    def lenient(cls, raw):
        return cls(**{name: raw[name] for name in raw if name in cls.__dataclass_fields__})

    static_options.parse_options = lenient
"""

_MADE_ANEW = """
def __getattr__(name):
    if name != "GoodDriver":
        raise AttributeError(name)
    return type(name, (_Good,), {"__module__": __name__, "__doc__": _Good.__doc__})


class _Good(HostPrimaryDriver[Options]):
"""[:-1]


def offered(mutant: Mutant, site: Path) -> str:
    """Write the distribution of a static driver; returns the driver's name."""
    old, new = mutant.edit
    source = _static.GOOD.replace(old, new) if old else _static.GOOD
    # In the test an import with a side effect spares pytest's own process; here nothing is to be spared.
    source = source.replace(
        "if 'pytest' not in sys.modules: ", "if 'bollard.conformance.plugin' not in sys.modules: "
    )
    name = "static-subject"
    _write(site, "static_subject", name, source)
    return name


def _write(site: Path, module: str, name: str, source: str) -> None:
    (site / f"{module}.py").write_text(source, encoding="utf-8")
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(_static.METADATA.format(name=module), encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[bollard.drivers]\n{name} = {module}:GoodDriver\n")


MUTANTS = (
    *(
        Mutant(
            id=f"static.{number:02}_{check.partition('.')[2]}",
            backend="static",
            edit=(old, new),
            killed_by=(check,),
            words=words,
            field_bug=_CATALOGUE,
        )
        for number, (check, old, new, words) in enumerate(_static.DEFECTS, 1)
        if check in must_checks()
    ),
    Mutant(
        id="static.class_made_anew",
        backend="static",
        edit=("class GoodDriver(HostPrimaryDriver[Options]):", _MADE_ANEW),
        killed_by=("static.entry_point_resolves",),
        words="another class each time",
        field_bug="the mistake: a module that makes its class when asked, so isinstance is false of its own",
    ),
    Mutant(
        id="static.core_takes_any_option",
        backend="static",
        patch=_LENIENT,
        killed_by=("static.options_unknown_refused", "static.options_bad_values_refused"),
        words="is accepted",
        field_bug="Kubernetes' external storage tests ignore unknown keys; design/conformance.md, group 0",
    ),
)
