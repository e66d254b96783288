"""The guest: a Debian cloud kernel and an initramfs with busybox, the guest agent and file system tools.

Nothing is installed for it: its packages are downloaded and unpacked, the file system tools are this
machine's own. It is built once (about 7 s) and kept in the user's cache.

    ~/.cache/bollard/kvm-guest/<hash of the recipe>/{vmlinuz,initramfs.cpio}
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import platformdirs

from .polling import locked

CACHE = Path(platformdirs.user_cache_dir("bollard"))

_HERE = Path(__file__).parent
_KERNEL = "linux-image-cloud-amd64"
# Drivers that the cloud kernel has as modules; ext4 is built in.
_MODULES = {
    *("virtio", "virtio_ring", "virtio_pci", "virtio_pci_modern_dev", "virtio_pci_legacy_dev"),
    *("virtio_blk", "virtio_console", "button", "evdev", "libcrc32c", "xfs"),
}
_SCRIPTS = {
    "init": "guest_init.sh",
    "sbin/on-uevent": "guest_uevent.sh",
    "sbin/shutdown": "guest_shutdown.sh",
}
_TOOLS = ("mke2fs", "resize2fs", "mkfs.xfs", "xfs_growfs")
_DIRECTORIES = ("proc", "sys", "dev", "mnt", "tmp", "run", "var", "var/run", "var/log")
_LINKS = {"sbin/mkfs.ext4": "mke2fs", "etc/acpi/PWRF/00000080": "/sbin/shutdown"}
# Debian keeps file system tools where an ordinary user's PATH does not look.
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class GuestImage:
    """What a VM boots directly, without a boot loader or a disk."""

    kernel: Path
    initramfs: Path


def guest_image(cache: Path = CACHE) -> GuestImage:
    """Return the guest's image, built now if this recipe was never built here."""
    place = cache / "kvm-guest" / _recipe()
    image = GuestImage(place / "vmlinuz", place / "initramfs.cpio")
    with locked(place.with_suffix(".lock")):  # the workers of pytest-xdist all ask at the same moment
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
                _build(Path(scratch), built := Path(scratch, "built"))
                built.rename(place)  # a build that is killed leaves no half image under the final name
    return image


def _recipe() -> str:
    texts = [Path(__file__), *(_HERE / script for script in _SCRIPTS.values())]
    return hashlib.sha256(b"".join(path.read_bytes() for path in texts)).hexdigest()[:16]


def _build(scratch: Path, built: Path) -> None:
    built.mkdir()
    packages = _download(scratch)
    root = _Initramfs()
    for name in _DIRECTORIES:
        root.directory(name)
    for name, script in _SCRIPTS.items():
        root.file(name, (_HERE / script).read_bytes())
    _add_kernel(root, packages["linux-image"], built / "vmlinuz")
    _add_busybox(root, packages["busybox-static"], scratch)
    _add_program(
        root, "usr/sbin/qemu-ga", _unpacked(packages["qemu-guest-agent"], "usr/sbin/qemu-ga", scratch)
    )
    for tool in _TOOLS:
        _add_program(root, f"sbin/{tool}", Path(_which(tool)))
    root.file("etc/mke2fs.conf", Path("/etc/mke2fs.conf").read_bytes())
    for name, target in _LINKS.items():
        root.link(name, target)
    # Not compressed: under TCG the guest takes as long to unpack 7 MB of lz4 as to read 15 MB.
    (built / "initramfs.cpio").write_bytes(root.finished())


def _download(scratch: Path) -> dict[str, Path]:
    """Download packages without installing them; returns the files by the start of their names."""
    try:
        _fetch(scratch)
    except AssertionError:  # no package lists here, or old ones, which name what mirrors no longer have
        _output("apt-get", "update", "-q")
        _fetch(scratch)
    names = ("linux-image", "qemu-guest-agent", "busybox-static")
    return {name: next(scratch.glob(f"{name}*.deb")) for name in names}


def _fetch(scratch: Path) -> None:
    depends = _output("apt-cache", "depends", _KERNEL)
    kernel = re.search(r"Depends: (linux-image-\S+)", depends)
    assert kernel, f"{_KERNEL} names no kernel:\n{depends}"
    _output("apt-get", "download", "-q", kernel[1], "qemu-guest-agent", "busybox-static", cwd=scratch)


def _add_kernel(root: _Initramfs, package: Path, kernel: Path) -> None:
    for member, data in _members(package):
        path = PurePosixPath(member)
        if path.name.startswith("vmlinuz-"):
            kernel.write_bytes(data.read())
        elif path.suffix == ".ko" and path.stem in _MODULES:
            root.file(f"lib/modules/{path.name}", data.read())


def _add_busybox(root: _Initramfs, package: Path, scratch: Path) -> None:
    busybox = _unpacked(package, "bin/busybox", scratch)
    root.file("bin/busybox", busybox.read_bytes())
    for applet in _output(busybox, "--list").split():
        if applet not in {"busybox", *_TOOLS}:
            root.link(f"bin/{applet}", "busybox")


def _add_program(root: _Initramfs, name: str, program: Path) -> None:
    """Add a program with the shared libraries it needs, at the paths where the loader looks."""
    root.file(name, program.read_bytes())
    libraries = _output("ldd", program)
    assert "not found" not in libraries, f"{program} lacks libraries here:\n{libraries}"
    for library in re.findall(r"(/\S+) \(0x", libraries):
        root.file(library.lstrip("/"), Path(library).read_bytes())


def _unpacked(package: Path, wanted: str, scratch: Path) -> Path:
    for member, data in _members(package):
        if member.removeprefix("./").removeprefix("usr/") == wanted.removeprefix("usr/"):
            program = scratch / Path(wanted).name
            program.write_bytes(data.read())
            program.chmod(0o755)
            return program
    raise FileNotFoundError(f"{package.name} has no {wanted}")


def _members(package: Path) -> Iterator[tuple[str, io.BufferedReader]]:
    """Yield the regular files of a Debian package."""
    unpack = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", package], capture_output=True, timeout=120, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(unpack.stdout)) as archive:
        for member in archive:
            if data := archive.extractfile(member) if member.isreg() else None:
                yield member.name, data  # type: ignore[misc]  # typeshed calls it IO[bytes]


def _which(tool: str) -> str:
    found = shutil.which(tool, path=_PATH)
    assert found, f"{tool} is not installed; run scripts/setup-system.sh"
    return found


def _output(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"LC_ALL": "C"},
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


class _Initramfs:
    """A cpio archive in the form that the kernel unpacks ("newc"), made without a directory or a tool.

    header: "070701", then 13 numbers of 8 hex digits; the name with a NUL; the data. Name and data are
    each padded to 4 bytes.
    """

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._known: set[str] = set()

    def directory(self, name: str) -> None:
        self._add(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes) -> None:
        self._add(name, stat.S_IFREG | 0o755, data)

    def link(self, name: str, target: str) -> None:
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def finished(self) -> bytes:
        self._write("TRAILER!!!", 0, b"")
        return self._out.getvalue()

    def _add(self, name: str, mode: int, data: bytes) -> None:
        if name in self._known:
            return
        for parent in reversed(PurePosixPath(name).parents[:-1]):
            self.directory(str(parent))
        self._known.add(name)
        self._write(name, mode, data)

    def _write(self, name: str, mode: int, data: bytes) -> None:
        size = len(name.encode()) + 1
        inode = len(self._known)
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, size, 0)
        self._out.write(b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0")
        self._pad()
        self._out.write(data)
        self._pad()

    def _pad(self) -> None:
        self._out.write(bytes(-self._out.tell() % 4))
