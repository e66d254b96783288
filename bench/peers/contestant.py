"""What each contestant does: the same steps on the same image, to the same kind of store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .images import Image

CONNECTIONS = 4
"""Requests at a time, for everybody."""

Changed = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a contestant may work.

    Attributes:
        home: an empty directory of its own, for its store if that is a directory, caches and copies.
        s3: URL of the server.
        access, secret: of the server's user.
        bucket: exists and is everybody's; names begin with the contestant's.
    """

    home: Path
    s3: str
    access: str
    secret: str
    bucket: str

    @property
    def env(self) -> dict[str, str]:
        """What AWS' tools, and those that look where they look, want; nothing secret stands in a command."""
        return {
            "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.s3,
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


class Contestant:
    """One tool, or chain of tools. A step that is not possible raises `Missing`."""

    name: ClassVar[str]
    store: ClassVar[str] = "s3"
    """ "s3" or "directory": ours is compared on the same."""

    tools: ClassVar[tuple[str, ...]] = ()
    """Commands that must be there."""

    def __init__(self, place: Place) -> None:
        self.place = place
        place.home.mkdir(parents=True)

    def prepare(self) -> None:
        """Make a repository, if there is such a thing; not timed."""

    def full(self, image: Image, tag: str) -> None:
        """Store all of an image under a name."""
        raise NotImplementedError

    def increment(self, image: Image, tag: str, parent: str, changed: Changed) -> None:
        """Store what changed since `parent`; `changed` is what a dirty bitmap would say."""
        raise NotImplementedError

    def restore(self, tag: str, target: Path) -> None:
        """Make the image again, sparse, as a new file."""
        raise NotImplementedError

    def verify(self, tag: str) -> None:
        """Read back and check."""
        raise NotImplementedError

    def many(self, images: Sequence[Image], tag: str) -> None:
        """Store many images, which lie in one directory."""
        raise NotImplementedError

    def can(self, step: str) -> bool:
        """Tell whether there is such a step."""
        return getattr(type(self), step) is not getattr(Contestant, step)
