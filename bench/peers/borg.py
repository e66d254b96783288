"""borg 1: fixed chunks as for block devices, to a repository in a directory (it has no S3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .contestant import Changed, Contestant, Place
from .images import Image
from .tools import flush, run


class Borg(Contestant):
    """Unencrypted, without compression."""

    name = "borg"
    tools = ("borg",)
    store = "directory"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._repository = str(place.home / "repository")
        self._env = {
            "BORG_BASE_DIR": str(place.home),
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }

    def prepare(self) -> None:
        """Make the repository."""
        run(["borg", "init", "--encryption", "none", self._repository], env=self._env)

    def full(self, image: Image, tag: str) -> None:
        """An archive of the file; borg makes its repository durable at the end."""
        options = ["--sparse", "--files-cache", "disabled", "--chunker-params", "fixed,4194304"]
        command = ["borg", "create", *options, "--compression", "none", f"{self._repository}::{tag}"]
        run([*command, image.path], env=self._env)

    def increment(self, image: Image, tag: str, parent: str, changed: Changed) -> None:
        """The next archive: everything is read, what is known is not written."""
        del parent, changed
        self.full(image, tag)

    def restore(self, tag: str, target: Path) -> None:
        """Extract, sparse."""
        command = ["borg", "extract", "--sparse", f"{self._repository}::{tag}"]
        folder = target.with_suffix(".borg")
        folder.mkdir()
        run(["env", "-C", folder, *command], env=self._env)
        next(path for path in folder.rglob("*") if path.is_file()).rename(target)
        flush(target)

    def verify(self, tag: str) -> None:
        """Read all data."""
        del tag
        run(["borg", "check", "--verify-data", self._repository], env=self._env)

    def many(self, images: Sequence[Image], tag: str) -> None:
        """One archive of the directory."""
        command = ["borg", "create", "--sparse", "--compression", "none", f"{self._repository}::{tag}"]
        run([*command, images[0].path.parent], env=self._env)
