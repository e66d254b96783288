"""restic: content-defined chunks, packs, encryption; reads everything, holes too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .contestant import CONNECTIONS, Changed, Contestant, Place
from .images import Image
from .tools import flush, run


class Restic(Contestant):
    """To S3."""

    name = "restic"
    tools = ("restic",)

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._env = {
            **place.env,
            "RESTIC_REPOSITORY": f"s3:{place.s3}/{place.bucket}/restic",
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(place.home / "cache"),
        }

    def prepare(self) -> None:
        """Make the repository."""
        self._run("init")

    def _run(self, *arguments: str | Path, stdout: Path | None = None) -> None:
        command: list[str | Path] = ["restic", "--quiet", "-o", f"s3.connections={CONNECTIONS}"]
        run([*command, *arguments], env=self._env, stdout=stdout)

    def full(self, image: Image, tag: str) -> None:
        """A snapshot of the file, without looking at an earlier one."""
        self._run("backup", "--force", "--tag", tag, image.path)

    def increment(self, image: Image, tag: str, parent: str, changed: Changed) -> None:
        """The next snapshot: everything is read, what is known is not sent."""
        del parent, changed
        self._run("backup", "--tag", tag, image.path)

    def restore(self, tag: str, target: Path) -> None:
        """Restore, then to its place."""
        out = self.place.home / f"{tag}.out"
        self._run("restore", "latest", "--tag", tag, "--target", out)
        next(path for path in out.rglob("*") if path.is_file()).rename(target)
        flush(target)

    def verify(self, tag: str) -> None:
        """Read all packs."""
        del tag
        self._run("check", "--read-data")

    def many(self, images: Sequence[Image], tag: str) -> None:
        """One snapshot of the directory."""
        self._run("backup", "--tag", tag, images[0].path.parent)
