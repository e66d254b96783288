"""What the pages promise to a newcomer exists, and the house rules that no linter knows are kept."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE_DIRECTORIES = (
    "transfer_objects",
    "core",
    "drivers",
    "simulators",
    "conformance",
    "api",
    "cli",
    "tests",
    "bench",
)
SOURCES = [path for directory in CODE_DIRECTORIES for path in sorted((ROOT / directory).rglob("*.py"))]

MAKE = re.compile(r"(?:^|`|\$ )make ([a-z][a-z -]*[a-z])", re.MULTILINE)
SILENCED = re.compile(r"# (?:noqa: [A-Z0-9, ]*[A-Z0-9]|type: ignore\[[^]]*\]|pragma: no cover)(?P<rest>.*)")


def _stated_targets(page: Path) -> set[str]:
    return {target for words in MAKE.findall(page.read_text()) for target in words.split()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_stated_make_targets_exist(page: Path) -> None:
    """Every ``make …`` that a page states is a target of the Makefile."""
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert _stated_targets(page) - set(" ".join(phony).split()) == set()


def test_readme_states_its_two_commands() -> None:
    """The README tells a newcomer ``make demo`` and ``make test``."""
    assert {"demo", "test"} <= _stated_targets(ROOT / "README.md")


def test_ci_runs_what_people_run() -> None:
    """CI runs ``make check test`` with CI=true and nothing else."""
    lines = (ROOT / ".ci" / "run").read_text().splitlines()

    assert lines[-2:] == ["export CI=true", "exec make check test"]


def test_silenced_checks_have_a_reason() -> None:
    """Every ``noqa``, ``type: ignore`` and ``no cover`` says on its own line why it is there."""
    unexplained = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for silenced in [SILENCED.search(line)]
        if silenced and not re.search(r"[a-zA-Z]{3}", silenced["rest"])
    ]

    assert unexplained == []


def test_files_stay_under_600_lines() -> None:
    """A file is one idea: none has more than 600 lines."""
    assert [path.name for path in SOURCES if len(path.read_text().splitlines()) > 600] == []


def test_missing_tools_are_named_with_their_package(tmp_path: Path) -> None:
    """The set-up script names each missing tool with the Debian package that brings it."""
    (tmp_path / "unzip").symlink_to("/bin/true")
    script = ROOT / "scripts" / "setup-system.sh"
    bash = "/bin/bash"
    # No PATH but one tool: the script's own additions (sbin) hold no QEMU tools.
    done = subprocess.run(
        [bash, script, "--missing"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    missing = done.stdout.splitlines()

    assert "qemu-img qemu-utils" in missing
    assert not any(line.startswith("unzip ") for line in missing)
