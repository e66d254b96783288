"""A host as a group of processes that writes to a LUN and does not stop: it logs in again, for ever.

    Machine ── location, on stdin ──> python: for each generation, note it, then write it to a block
                                         └── qemu-nbd ── iSCSI ──> the LUN

Also run as a program, which is that process.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bollard.core.dataplane import BlockSource, open_sink
from bollard.core.spi import IscsiLocation, StorageError
from bollard.transfer_objects.secret import Secret
from kvm_lab.polling import until

BLOCK = 4096
BLOCKS = 64  # the generations go round
_NUMBERS = struct.Struct(">QQ")  # generation that was begun, logins that were tried


class Machine:
    """The host; end it with `cut_power`."""

    def __init__(self, process: subprocess.Popen[bytes], notes: Path) -> None:
        self._process = process
        self._notes = notes

    def begun(self) -> int:
        """Return the generation that it began to write last."""
        return self._numbers()[0]

    def tries_on(self) -> None:
        """Wait until it was refused twice more; or writes as before, which the caller will see."""
        begun, logins = self._numbers()

        def tried() -> bool:
            now, times = self._numbers()
            return times > logins + 1 or now > begun + 4 * BLOCKS

        until(tried, 60, "the machine to try")

    def writes(self, more: int = 2 * BLOCKS) -> None:
        """Wait until it has written so many generations more."""
        before = self.begun()
        until(lambda: self.begun() > before + more, 60, "the machine to write")

    def _numbers(self) -> tuple[int, int]:
        begun, logins = _NUMBERS.unpack(self._notes.read_bytes())
        return begun, logins

    def signal(self, number: int) -> None:
        """Send a signal to all of it."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def cut_power(self) -> None:
        """Kill all of it; returns when it is dead. Repeatable."""
        self.signal(signal.SIGKILL)
        self._process.wait(30)
        until(lambda: not _members(self._process.pid), 30, "all of the machine to be dead")


@contextmanager
def machine(location: IscsiLocation, notes: Path) -> Iterator[Machine]:
    """Run a machine; `notes` is a file of its own."""
    notes.write_bytes(bytes(_NUMBERS.size))
    command = [sys.executable, __file__, str(notes)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)
    made = Machine(process, notes)
    try:
        assert process.stdin
        process.stdin.write(_packed(location))
        process.stdin.close()
        made.writes()
        yield made
    finally:
        made.cut_power()


def _packed(location: IscsiLocation) -> bytes:
    assert location.chap_secret
    names = ("portal", "target", "lun", "initiator", "chap_user", "size")
    plain = {name: getattr(location, name) for name in names}
    return json.dumps({**plain, "chap_secret": location.chap_secret.reveal()}).encode()


def generations(source: BlockSource) -> list[int]:
    """Return the generation in each block that a machine writes."""
    data = bytearray(BLOCK * BLOCKS)
    source.read_into(0, memoryview(data))
    return [int.from_bytes(data[at : at + 8], "big") for at in range(0, len(data), BLOCK)]


def _members(group: int) -> list[int]:
    """Return the processes of a group that run; zombies are dead."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError, NotADirectoryError):
            if entry.name.isdigit():
                state, _, member_of = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                found += [int(entry.name)] if int(member_of) == group and state not in "ZX" else []
    return found


def main() -> None:
    """Write until killed."""
    told = json.load(sys.stdin)
    portal, secret = (str(told["portal"][0]), int(told["portal"][1])), Secret(told["chap_secret"])
    location = IscsiLocation(**{**told, "portal": portal, "chap_secret": secret})
    notes, generation, logins = os.open(sys.argv[1], os.O_WRONLY), 0, 0
    while True:
        logins += 1
        with suppress(StorageError), open_sink(location, timeout=2) as sink:
            while True:
                generation += 1
                os.pwrite(notes, _NUMBERS.pack(generation, logins), 0)
                sink.write(generation % BLOCKS * BLOCK, generation.to_bytes(8, "big") * (BLOCK // 8))
        os.pwrite(notes, _NUMBERS.pack(generation, logins), 0)


if __name__ == "__main__":
    main()
