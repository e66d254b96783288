"""Bollard's archive, in a process of its own as the others are: its start-up counts, its memory is seen."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .contestant import CONNECTIONS, Changed, Contestant, Place
from .images import Image
from .tools import Meter, run

_WORKER = Path(__file__).with_name("ours_worker.py")


class Ours(Contestant):
    """Through the S3 driver."""

    name = "bollard"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.meter = Meter()

    def _store(self) -> tuple[str, dict[str, Any]]:
        place = self.place
        options = {"endpoint_url": place.s3, "bucket": place.bucket, "prefix": self.name}
        keys = {"access_key": {"env": "AWS_ACCESS_KEY_ID"}, "secret_key": {"env": "AWS_SECRET_ACCESS_KEY"}}
        return "s3", {**options, **keys}

    def _work(self, step: str, **what: Any) -> None:
        driver, options = self._store()
        job = {"driver": driver, "options": options, "workers": CONNECTIONS, "step": step, **what}
        path = self.place.home / "job.json"
        path.write_text(json.dumps(job))
        run([sys.executable, _WORKER, path], env=self.place.env, meter=self.meter)

    def start(self) -> None:
        """Open the store, and end."""
        self._work("start")

    def full(self, image: Image, tag: str) -> None:
        """Create."""
        self._work("full", images=[str(image.path)], tag=tag)

    def increment(self, image: Image, tag: str, parent: str, changed: Changed) -> None:
        """Create with the changed blocks."""
        self._work("full", images=[str(image.path)], tag=tag, parent=parent, changed=list(changed))

    def restore(self, tag: str, target: Path) -> None:
        """Restore."""
        self._work("restore", target=str(target), tag=tag)

    def verify(self, tag: str) -> None:
        """Verify, reading everything."""
        self._work("verify", tag=tag)

    def many(self, images: Sequence[Image], tag: str) -> None:
        """Create, several at a time in one process."""
        self._work("full", images=[str(image.path) for image in images], tag=tag)


class OursInDirectory(Ours):
    """Through the NFS driver, on a directory."""

    name = "bollard-directory"
    store = "directory"

    def _store(self) -> tuple[str, dict[str, Any]]:
        (self.place.home / "store").mkdir(exist_ok=True)
        return "nfs", {"path": str(self.place.home / "store")}
