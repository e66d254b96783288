"""QEMU's own tools, and what carries their files to the store."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .contestant import CONNECTIONS, Changed, Contestant, Place
from .images import KIB, MIB, Image
from .tools import flush, run

_PART = "16M"
_CLUSTER = 64 * KIB  # of qcow2, and the granularity of a bitmap that `qemu-img bitmap --add` or libvirt makes


class _ConvertAndCarry(Contestant):
    """`qemu-img convert` to qcow2 on the local disk, then an upload; restored the other way round.

    It has no increments: the image is converted and sent as a whole again.
    """

    def full(self, image: Image, tag: str) -> None:
        """Convert and carry."""
        copy = self.place.home / f"{tag}.qcow2"
        command = ["qemu-img", "convert", "-m", str(CONNECTIONS), "-f", "raw", "-O", "qcow2"]
        run([*command, image.path, copy])
        self._up(copy, f"{self.name}/{tag}.qcow2")
        copy.unlink()

    def increment(self, image: Image, tag: str, parent: str, changed: Changed) -> None:
        """Once more everything."""
        del parent, changed
        self.full(image, tag)

    def restore(self, tag: str, target: Path) -> None:
        """Carry and convert."""
        copy = self.place.home / f"{tag}.qcow2"
        self._down(f"{self.name}/{tag}.qcow2", copy)
        run(["qemu-img", "convert", "-m", str(CONNECTIONS), "-f", "qcow2", "-O", "raw", copy, target])
        copy.unlink()
        flush(target)

    def _up(self, path: Path, key: str) -> None:
        raise NotImplementedError

    def _down(self, key: str, path: Path) -> None:
        raise NotImplementedError


class Rclone:
    """rclone with a remote that is told in the environment."""

    def __init__(self, place: Place) -> None:
        self._bucket = place.bucket
        remote = {"type": "s3", "provider": "Other", "env_auth": "true", "endpoint": place.s3}
        remote |= {"force_path_style": "true", "no_check_bucket": "true"}
        named = {f"RCLONE_CONFIG_BENCH_{name.upper()}": value for name, value in remote.items()}
        self._env = {**place.env, **named, "RCLONE_CONFIG": "/dev/null"}

    def copy(self, verb: str, source: str | Path, target: str | Path) -> None:
        """Run `rclone VERB`; places in the store begin with "s3:"."""
        options = ["--s3-chunk-size", _PART, "--s3-upload-concurrency", str(CONNECTIONS)]
        options += ["--transfers", str(CONNECTIONS), "--multi-thread-streams", str(CONNECTIONS)]
        options += ["--multi-thread-cutoff", "16M", "--s3-upload-cutoff", "16M", "--retries", "1"]
        run(["rclone", verb, *options, self._at(source), self._at(target)], env=self._env)

    def _at(self, place: str | Path) -> str:
        text = str(place)
        return f"bench:{self._bucket}/{text.removeprefix('s3:')}" if text.startswith("s3:") else text


class ConvertAndRclone(_ConvertAndCarry):
    """With rclone."""

    name = "qemu-img + rclone"
    tools = ("qemu-img", "rclone")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._rclone = Rclone(place)

    def _up(self, path: Path, key: str) -> None:
        self._rclone.copy("copyto", path, f"s3:{key}")

    def _down(self, key: str, path: Path) -> None:
        self._rclone.copy("copyto", f"s3:{key}", path)

    def many(self, images: Sequence[Image], tag: str) -> None:
        """A conversion each, and one upload of all."""
        folder = self.place.home / tag
        folder.mkdir()
        for image in images:
            copy = folder / f"{image.path.stem}.qcow2"
            run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", image.path, copy])
        self._rclone.copy("copy", folder, f"s3:{self.name}/{tag}")


class ConvertAndAws(_ConvertAndCarry):
    """With `aws s3 cp`, from an environment of its own: its pins and boto3's are not the same."""

    name = "qemu-img + aws s3 cp"
    tools = ("qemu-img", os.environ.get("BENCH_AWS", "aws"))

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        config = place.home / "config"
        lines = [f"max_concurrent_requests = {CONNECTIONS}", "multipart_chunksize = 16MB"]
        lines += ["multipart_threshold = 16MB", "addressing_style = path"]
        config.write_text("[default]\ns3 =\n" + "".join(f"  {line}\n" for line in lines))
        self._env = {**place.env, "AWS_CONFIG_FILE": str(config)}

    def _copy(self, *arguments: str) -> None:
        command = os.environ.get("BENCH_AWS", "aws")
        run([command, *arguments], env=self._env)

    def _up(self, path: Path, key: str) -> None:
        self._copy("s3", "cp", "--only-show-errors", str(path), f"s3://{self.place.bucket}/{key}")

    def _down(self, key: str, path: Path) -> None:
        self._copy("s3", "cp", "--only-show-errors", f"s3://{self.place.bucket}/{key}", str(path))


class Bitmaps(Contestant):
    """As virtnbdbackup does it: the extents that NBD reports, or a dirty bitmap, as one stream, then rclone.

    The stream is written straight from the image, without NBD between: faster than the tool itself.

        offset, length (8 bytes each) ── data ── offset, length ── data ── …
    """

    name = "virtnbdbackup-like + rclone"
    tools = ("rclone",)

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._rclone = Rclone(place)
        self._parents: dict[str, str] = {}

    def full(self, image: Image, tag: str) -> None:
        """All data."""
        self._send(image, tag, image.extents)

    def increment(self, image: Image, tag: str, parent: str, changed: Changed) -> None:
        """What the bitmap says: whole clusters, since QEMU makes a bitmap as coarse as those of the image."""
        self._parents[tag] = parent
        self._send(image, tag, _clusters(changed, image.size))

    def _send(self, image: Image, tag: str, extents: Changed) -> None:
        stream = self.place.home / f"{tag}.data"
        with image.path.open("rb") as source, stream.open("wb") as file:
            file.write(struct.pack(">Q", image.size))
            for offset, length in extents:
                source.seek(offset)
                file.write(struct.pack(">QQ", offset, length))
                file.write(source.read(length))
        self._rclone.copy("copyto", stream, f"s3:{self.name}/{tag}.data")
        stream.unlink()

    def restore(self, tag: str, target: Path) -> None:
        """The full, then each increment over it."""
        chain = [tag]
        while chain[0] in self._parents:
            chain.insert(0, self._parents[chain[0]])
        for name in chain:
            self._apply(name, target)
        flush(target)

    def _apply(self, tag: str, target: Path) -> None:
        stream = self.place.home / f"{tag}.back"
        self._rclone.copy("copyto", f"s3:{self.name}/{tag}.data", stream)
        with suppress(FileExistsError):
            target.touch(exist_ok=False)
        with stream.open("rb") as file, target.open("r+b") as out:
            out.truncate(struct.unpack(">Q", file.read(8))[0])
            while head := file.read(16):
                offset, length = struct.unpack(">QQ", head)
                out.seek(offset)
                out.write(file.read(length))
        stream.unlink()


def _clusters(changed: Changed, size: int) -> list[tuple[int, int]]:
    """Return what a dirty bitmap of a qcow2 image shows of these changes, neighbours as one extent."""
    dirty = {
        n for offset, length in changed for n in range(offset // _CLUSTER, -(-(offset + length) // _CLUSTER))
    }
    found: list[tuple[int, int]] = []
    for number in sorted(dirty):
        start, stop = number * _CLUSTER, min((number + 1) * _CLUSTER, size)
        if found and sum(found[-1]) == start:
            start = found.pop()[0]
        found.append((start, stop - start))
    return found


class Nbdcopy(Contestant):
    """`nbdcopy` of a served image to a file: only a copy, without digests, increments or compression."""

    name = "nbdcopy"
    tools = ("nbdcopy", "qemu-nbd")
    store = "directory"

    def full(self, image: Image, tag: str) -> None:
        """Serve and copy, flushed."""
        target = self.place.home / f"{tag}.raw"
        self._copy(image.path, target, image.size)

    def restore(self, tag: str, target: Path) -> None:
        """The same back."""
        source = self.place.home / f"{tag}.raw"
        self._copy(source, target, source.stat().st_size)

    def _copy(self, source: Path, target: Path, size: int) -> None:
        with target.open("xb") as file:
            file.truncate(size)
        serve = ["[", "qemu-nbd", "-r", "-f", "raw", str(source), "]"]
        connections = [f"--connections={CONNECTIONS}", f"--request-size={4 * MIB}"]
        run(["nbdcopy", *connections, "--destination-is-zero", "--", *serve, target])
        flush(target)
