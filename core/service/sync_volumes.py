"""Volumes and templates: acts that nobody living has in hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ..spi import Call, Unsupported
from .sync import Ended, Task
from .works import Work, Works

_STRANGE = "another version of Bollard began it, and ends it"

Settle = Callable[[Work, Call], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActSync:
    """Ends acts; `settlers` by kind of object."""

    works: Works
    settlers: Mapping[str, Settle]

    def unfinished(self, *, vm: str, host: str) -> Iterator[Task]:
        """See `Kind.unfinished`."""
        after: Work | None = None
        while page := self.works.left(after, vm=vm, host=host):
            for work in page:
                group = f"vm {work.vm}" if work.vm else f"pool {work.details.get('pool', '')}"
                end = partial(self._end, work)
                yield Task(kind=work.kind, id=work.object, group=group, what=work.act, end=end)
            after = page[-1]

    def _end(self, work: Work, call: Call) -> Sequence[Ended]:
        with self.works.at_work():
            return self._settle(work, call)

    def _settle(self, work: Work, call: Call) -> Sequence[Ended]:
        claimed = self.works.claim(work.kind, work.object)
        if claimed is None:  # its owner, or another sync, was first
            return []
        settle = self.settlers.get(work.kind)
        if settle is None:
            self.works.leave(claimed, _STRANGE)
            raise Unsupported(f"{work.kind} {work.object}: {_STRANGE}")
        settle(claimed, call)
        return [Ended(kind=work.kind, id=work.object, before=work.act, after="at rest")]
