"""A discrete simulation: processes in virtual time, things that they share, and how busy those were.

    heap of (time, number, process)      a process is a generator; what it yields it waits for:
      12.0  7  volume a                    a number      until then
      12.5  3  task 4                      a `Slots`     a place in it, first come first served

Equal times go by number, so a simulation is the same each time.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Generator

Process = Generator["float | Slots", None, None]


class Line:
    """Something that serves one at a time, or a few: a link, a disk, the cores of a machine.

    A link that is shared serves its users one after the other; over many tasks that comes to the same.

    Args:
        name: for the report.
        rate: bytes per second of each server; infinite: costs nothing.
        servers: how many.
    """

    def __init__(self, name: str, rate: float, servers: int = 1) -> None:
        self.name = name
        self.busy = 0.0
        self.servers = servers
        self._rate = rate
        self._free = [0.0] * servers

    def book(self, now: float, size: float) -> float:
        """Return when so many bytes are through, if they come now."""
        seconds = size / self._rate
        start = max(now, self._free[0])
        heapq.heapreplace(self._free, start + seconds)
        self.busy += seconds
        return start + seconds


class Slots:
    """Places that a process takes and gives back."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._waiting: deque[Process] = deque()

    def take(self, process: Process) -> bool:
        """Take a place for a process, or queue it; tell whether it may go on."""
        if self._left > 0:
            self._left -= 1
            return True
        self._waiting.append(process)
        return False

    def give(self) -> Process | None:
        """Give a place back; return who has it now, if anybody waited."""
        if self._waiting:
            return self._waiting.popleft()
        self._left += 1
        return None


class Loop:
    """Runs processes until none is left."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Process]] = []
        self._number = 0

    def start(self, process: Process) -> None:
        """Let a process begin now."""
        self._at(self.now, process)

    def release(self, slots: Slots) -> None:
        """Give a place back, and let whoever waited for it go on."""
        if (process := slots.give()) is not None:
            self._at(self.now, process)

    def _at(self, time: float, process: Process) -> None:
        self._number += 1
        heapq.heappush(self._heap, (time, self._number, process))

    def run(self) -> float:
        """Run to the end; return when that is."""
        while self._heap:
            self.now, _, process = heapq.heappop(self._heap)
            for wanted in process:
                if isinstance(wanted, Slots):
                    if wanted.take(process):
                        continue
                elif wanted <= self.now:
                    continue
                else:
                    self._at(wanted, process)
                break
        return self.now
