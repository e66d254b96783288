"""A vendor's view: the package in examples/acme, and the page that teaches how to write one like it.

Both are installed with pip into a directory of their own (no network, no build isolation), and run in
child processes that see that directory: as out of tree as it gets without another machine.
"""

from __future__ import annotations

import ast
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "acme"
PACKAGE = EXAMPLE / "acme_bollard"
PAGE = ROOT / "docs" / "writing-a-driver.md"
PUBLIC = ("bollard.core.spi", "bollard.core.dataplane", "bollard.transfer_objects")
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}

# -- the package -------------------------------------------------------------------------------------------


def _code_lines(path: Path) -> int:
    """Count the lines that hold code: neither blank, nor comment, nor docstring (as cloc counts)."""
    text = path.read_text(encoding="utf-8")
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            lines.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def test_example_is_under_150_lines() -> None:
    """The driver that a vendor reads first has fewer than 150 lines of code, and the page says how many."""
    lines = sum(_code_lines(path) for path in PACKAGE.rglob("*.py"))

    assert lines < 150
    assert f"has {lines} lines of code" in " ".join(PAGE.read_text(encoding="utf-8").split())


def test_example_uses_public_imports_only() -> None:
    """Of Bollard the example imports the SPI, the data plane and the transfer objects, nothing else."""
    used = {
        f"{node.module}.{name.name}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bollard")
        for name in node.names
    }

    assert {name for name in used if not name.startswith(PUBLIC)} == set()
    assert "bollard.core.spi" in used


# -- installed -----------------------------------------------------------------------------------------------


def _install(source: Path, target: Path) -> Path:
    """Install a package with pip, without network; from a copy, as setuptools builds beside the source."""
    copy = target.with_name(f"{target.name}-source")
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--target", str(target), str(copy)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return target


def _python(site: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python with an installed package, in a directory where no pytest configuration reaches it."""
    # Without byte code: a patched file of the same size and second would be taken from the cache.
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=site.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def _bollard(site: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return _python(site, "-c", "from bollard.cli import main; main()", *arguments)


def _verdict(site: Path, config: Path, *select: str) -> dict[str, Any]:
    """Run the suite as a vendor does, and return the content of its result.json."""
    output = config.with_suffix(".json")
    selected = ["--select", ",".join(select)] if select else []
    done = _bollard(site, "conformance", "run", f"--config={config}", f"--output={output}", *selected)
    assert output.exists(), done.stdout + done.stderr
    result: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    assert done.returncode == (0 if result["conformant"] else 10), done.stdout + done.stderr
    return result


def _failures(result: dict[str, Any]) -> dict[str, str]:
    return {c["id"]: c["message"] for c in result["checks"] if c["result"] in ("fail", "error")}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where acme-bollard is installed."""
    return _install(EXAMPLE, tmp_path_factory.mktemp("acme") / "site")


def _pool(directory: Path) -> Path:
    """Make a directory into a pool, as an operator does."""
    directory.mkdir()
    (directory / "pool.id").write_text("b0a4b0ba-6c8d-4a41-9d1f-0e8b7c2a5d11\n", encoding="utf-8")
    return directory


def _config(pool: Path) -> Path:
    path = pool.with_name("acme.toml")
    path.write_text(f'driver = "acme"\ntest_pool = true\n\n[options]\npath = "{pool}"\n', encoding="utf-8")
    return path


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A directory that an operator made a pool of."""
    return _pool(tmp_path / "pool")


@pytest.fixture
def config(pool: Path) -> Path:
    """The vendor's configuration file."""
    return _config(pool)


def test_bollard_drivers_finds_it(site: Path) -> None:
    """`bollard drivers` lists the installed package with its version, kind and capabilities, and no error."""
    listed = json.loads(_bollard(site, "drivers", "--json").stdout)
    [acme] = [driver for driver in listed if driver["name"] == "acme"]

    assert (acme["distribution"], acme["kind"], acme["error"]) == ("acme-bollard 1.0.0", "host", "")
    assert acme["capabilities"] == [
        "capacity",
        "clone_volume",
        "direct_snapshot_read",
        "resize",
        "revert",
        "snapshots",
        "volume_from_snapshot",
    ]


@dataclass(frozen=True, slots=True)
class Vendor:
    """What a vendor has after a run: reports, a key pair, and the commands that go with them."""

    site: Path
    reports: Path

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Type a `bollard conformance` command where the reports lie."""
        return _bollard(self.site, "conformance", *words)

    def certify(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Ask for a certificate of the run."""
        files = ("--result", self.reports / "result.json", "--key", self.reports / "vendor.key")
        return self.run("certify", *files, "--out", self.reports / "certificate.json", *words)

    @property
    def result(self) -> dict[str, Any]:
        """The run's result.json."""
        found: dict[str, Any] = json.loads((self.reports / "result.json").read_text(encoding="utf-8"))
        return found


def _vendor(site: Path, directory: Path) -> Vendor:
    """Run the whole suite as a vendor does, with reports, and make a key."""
    vendor = Vendor(site, directory / "reports")
    config = _config(_pool(directory / "pool"))
    done = vendor.run("run", f"--config={config}", "--report", vendor.reports, "--seed", "7")
    assert done.returncode in (0, 10), done.stdout + done.stderr
    assert vendor.run("keygen", "--out", vendor.reports / "vendor.key").returncode == 0
    return vendor


@pytest.fixture(scope="module")
def acme(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    """The vendor of the example as it is."""
    return _vendor(site, tmp_path_factory.mktemp("vendor"))


@pytest.mark.slow
@pytest.mark.timeout(600)  # the whole suite runs in it
def test_it_is_conformant_and_leaves_nothing_behind(acme: Vendor) -> None:
    """The whole suite finds the example conformant, and the pool then holds what the operator put there."""
    result = acme.result

    assert _failures(result) == {}
    assert result["verdict"].startswith("CONFORMANT: acme (acme-bollard 1.0.0): ")
    assert result["counts"]["pass"] >= 25
    assert [path.name for path in (acme.reports.parent / "pool").iterdir()] == ["pool.id"]


@pytest.mark.slow
@pytest.mark.timeout(600)  # the whole suite runs in it
def test_it_gets_a_certificate(acme: Vendor) -> None:
    """The example gets a certificate that holds for what is installed, and for nothing else."""
    issued = acme.certify("--backend", "ACME 5000")
    certificate = acme.reports / "certificate.json"
    asked = ("--installed", "--public-key", acme.reports / "vendor.key.pub", "--json")
    verified = acme.run("verify", certificate, "--result", acme.reports / "result.json", *asked)
    changed = acme.reports / "changed.json"
    changed.write_text(certificate.read_text(encoding="utf-8").replace("ACME 5000", "ACME 9000"))
    forged = acme.run("verify", changed, *asked)

    assert issued.stdout.startswith("CERTIFIED: acme-bollard 1.0.0: Core 1.0, Snapshots 1.0"), issued.stdout
    assert json.loads(verified.stdout)["problems"] == []
    assert (issued.returncode, verified.returncode, forged.returncode) == (0, 0, 10)
    assert "the signature is wrong" in forged.stdout
    assert "A certificate can be issued" in (acme.reports / "report.html").read_text(encoding="utf-8")


def _patched(site: Path, tmp_path: Path, old: str, new: str) -> Path:
    """Return a copy of the installed package with a defect in it."""
    broken = tmp_path / "broken"
    # Without what Python has compiled: it goes by size and second, and one defect has its code's size.
    shutil.copytree(site, broken, ignore=shutil.ignore_patterns("__pycache__"))
    driver = broken / "acme_bollard" / "driver.py"
    text = driver.read_text(encoding="utf-8")
    assert text.count(old) == 1
    driver.write_text(text.replace(old, new), encoding="utf-8")
    return broken


DEFECTS = {
    "a snapshot is a hard link": (
        "    if source and not _reflinked(source, target):\n",
        "    if source:\n        target.unlink()\n        os.link(source.identity, target)\n    if False:\n",
        "snap.point_in_time",
        r"block at 0x0 holds generation 2, newer than the expected 1",
    ),
    "another size is no conflict": (
        " or (size and TRAITS.rounded(size) != found.size)",
        "",
        "vol.create_idempotent",
        r"expected Conflict, but the call succeeded",
    ),
    "the second delete fails": (
        "            path.unlink(missing_ok=True)\n",
        "            path.unlink()\n",
        "vol.delete_missing_ok",
        r"NotFound: cannot delete volume\.\S+: ENOENT",
    ),
    "a volume can shrink": (
        "            if size < (present := self._get(path.name, call).size):\n",
        "            if size < (present := 0):\n",
        "vol.resize_shrink_refused",
        r"expected InvalidArgument, but the call succeeded",
    ),
    "each revert is of the newest bytes": (
        "            _fill(staging, source.size, source, call)\n",
        "            _fill(staging, source.size, target, call)\n",
        "snap.revert_exact",
        r"block at 0x0 holds generation 3, newer than the expected 1",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_defect_is_named_in_a_sentence(site: Path, config: Path, tmp_path: Path, defect: str) -> None:
    """With a defect patched in the verdict is no, and the check that covers it says what is wrong."""
    old, new, check, sentence = DEFECTS[defect]
    broken = _patched(site, tmp_path, old, new)

    result = _verdict(broken, config, check)

    assert result["verdict"].startswith("NOT CONFORMANT: acme")
    assert re.match(sentence, _failures(result)[check])


@pytest.mark.slow
@pytest.mark.timeout(600)  # the whole suite runs in it
def test_defect_costs_the_certificate(site: Path, tmp_path: Path) -> None:
    """With one defect a certificate is refused, and terminal and report tell an engineer what is wrong."""
    old, new, check, sentence = DEFECTS["a volume can shrink"]
    vendor = _vendor(_patched(site, tmp_path, old, new), tmp_path)
    refused = vendor.certify()
    told = json.loads(vendor.certify("--json").stdout)
    page = (vendor.reports / "report.html").read_text(encoding="utf-8")

    assert refused.returncode == 10
    assert f"fail {check}: Shrinking is refused and changes nothing." in refused.stdout
    assert "in the way of a certificate" in refused.stdout
    [message] = [o["message"] for o in told["obstacles"] if o["check"] == check]
    assert re.match(sentence, message)
    assert not (vendor.reports / "certificate.json").exists()
    assert f'id="check-{check}"' in page
    assert "No certificate can be issued yet" in page
    assert "Shrinking is refused and changes nothing." in page
    assert html.escape(message.splitlines()[0]) in page


# -- killed --------------------------------------------------------------------------------------------------

OUTCOMES = {
    "create": "made 1048576 zeros",
    "clone": "made 2097152 new",
    "snapshot": "later 1048576 new",
    "revert": "web 1048576 old",
    "resize": "web 2097152 new",
    "delete": "web 1048576 new",
}


@pytest.fixture(scope="module")
def kills(site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What acme_kills.py tells."""
    done = _python(site, Path(__file__).with_name("acme_kills.py"), tmp_path_factory.mktemp("kills"))
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("deed", OUTCOMES)
def test_killed_at_any_step_it_is_done_or_not(kills: dict[str, Any], deed: str) -> None:
    """After kill -9 at each step the pool is wholly as before or wholly as after; a repeat finishes it."""
    told = kills[deed]

    assert OUTCOMES[deed] in told["after"] != told["before"]
    assert all(seen in (told["before"], told["after"]) for seen in told["seen"])
    assert told["seen"][0] == told["before"]
    assert told["repeated"] == [told["after"]] * len(told["seen"])
    assert len(told["seen"]) >= 3
    assert told["staged"] == []


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A loop-mounted XFS of 320 MiB (mkfs.xfs refuses less than 300): it can share blocks."""
    image, mount = tmp_path / "xfs.img", tmp_path / "xfs"
    with image.open("wb") as file:
        file.truncate(320 * 2**20)
    mount.mkdir()
    subprocess.run(["mkfs.xfs", "-q", image], check=True, capture_output=True, timeout=60)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True, capture_output=True, timeout=60)
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True, capture_output=True, timeout=60)


@pytest.mark.real(root=True)
def test_copies_share_blocks_where_the_file_system_can(site: Path, xfs: Path) -> None:
    """On XFS a snapshot, a larger clone and a revert of 64 MiB hold the bytes and take next to no space."""
    (xfs / "pool.id").write_text("b0a4b0ba-6c8d-4a41-9d1f-0e8b7c2a5d11\n", encoding="utf-8")
    script = """
import os, pathlib, sys
from acme_bollard.driver import AcmeDriver, AcmeOptions
from bollard.core.spi import Call, VolumeSpec
driver, call, size = AcmeDriver(AcmeOptions(path=pathlib.Path(sys.argv[1]))), Call(), 64 << 20
driver.create_volume(VolumeSpec(id="web", size=size), call)
web = driver.locate_volume("web", call).path
web.write_bytes(b"Z" * size)
os.sync()
used = driver.capacity(call).used
driver.create_snapshot("web", "s1", call)
driver.clone_volume("web", VolumeSpec(id="copy", size=size + 512), call)
driver.revert_volume("web", "s1", call)
os.sync()
assert driver.capacity(call).used - used < 8 << 20, driver.capacity(call).used - used
assert web.read_bytes() == b"Z" * size == driver.locate_snapshot("s1", call).path.read_bytes()
assert driver.locate_volume("copy", call).path.read_bytes() == b"Z" * size + bytes(512)
"""
    done = _python(site, "-c", script, xfs)

    assert (done.returncode, done.stderr) == (0, "")


def test_hostile_ids_never_become_a_path(site: Path, pool: Path) -> None:
    """An id that is none is refused by the driver itself, too, and nothing outside of the pool is touched."""
    script = """
import pathlib, sys
from acme_bollard.driver import AcmeDriver, AcmeOptions
from bollard.core.spi import Call, InvalidArgument
driver = AcmeDriver(AcmeOptions(path=pathlib.Path(sys.argv[1])))
for bad in ["../x", "/etc/passwd", "", ".", "a/b", "a" + chr(0) + "b", "A", "x" * 65, "-rf"]:
    for name in ("get_volume", "delete_volume", "get_snapshot", "delete_snapshot"):
        try:
            getattr(driver, name)(bad, Call())
        except InvalidArgument:
            continue
        sys.exit(f"{name}({bad!r}) was not refused")
"""
    done = _python(site, "-c", script, pool)

    assert (done.returncode, done.stderr) == (0, "")


# -- the page ------------------------------------------------------------------------------------------------


def _blocks() -> dict[str, list[str]]:
    """Return the page's files, by title, each with its versions in order."""
    found: dict[str, list[str]] = {}
    blocks = re.finditer(
        r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE.read_text(encoding="utf-8"), re.M | re.S
    )
    for title, body in (match.groups() for match in blocks):
        found.setdefault(title, []).append(body)
    return found


@pytest.mark.slow
def test_page_leads_to_a_passing_driver(tmp_path: Path) -> None:
    """The page's files are told to be what it says: a skeleton, then with one failure, then conformant."""
    blocks = _blocks()
    [almost] = blocks["umbrella/src/umbrella_bollard/driver.py"]
    [fix] = blocks["fix of create_volume"]
    pool, config = tmp_path / "umbrella-pool", tmp_path / "umbrella.toml"
    pool.mkdir()
    config.write_text(blocks["umbrella.toml"][0], encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")

    made = _bollard(tmp_path / "site", "new-driver", "umbrella", "--kind", "host", "--directory", "umbrella")
    assert made.stdout.partition("\n\n")[0] in page
    site = _install(tmp_path / "umbrella", tmp_path / "site")
    module = site / "umbrella_bollard" / "driver.py"
    told = _bollard(site, "conformance", "run", "--driver", "umbrella", "--tier", "static").stdout
    assert told.splitlines()[-1] in page

    skeleton = module.read_text(encoding="utf-8")
    module.write_text(skeleton.replace("def locate_volume", "def locate"), encoding="utf-8")
    told = _bollard(site, "drivers", "--options", "umbrella").stderr
    assert "UmbrellaDriver lacks the methods locate_volume" in told

    module.write_text(almost, encoding="utf-8")
    # Its one mistake shows in several checks; the page tells the first of them.
    sentence = _failures(_verdict(site, config))["vol.create_idempotent"]
    assert "\nfail vol.create_idempotent [vol.same-spec]\n" in page
    assert f"\n     {sentence}\n" in page

    last = "        return self.get_volume(spec.id, call)\n"
    assert almost.count(last) == 1
    module.write_text(almost.replace(last, fix), encoding="utf-8")
    assert _verdict(site, config)["conformant"] is True


def test_page_configures_the_example_as_it_is() -> None:
    """The page's acme.toml is the example's, and names its driver."""
    assert _blocks()["acme.toml"] == [(EXAMPLE / "acme.toml").read_text(encoding="utf-8")]
    assert 'acme = "acme_bollard.driver:AcmeDriver"' in (EXAMPLE / "pyproject.toml").read_text(
        encoding="utf-8"
    )
